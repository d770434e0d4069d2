package swap_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// A cloud has one instance, and helpers. Its changes take two looks to be seen, and everything
// that it, the journal or the desk is asked can be lost.
type cloud struct {
	mu      sync.Mutex
	power   swap.Power
	volume  swap.Place
	on      string // the helper
	slot    swap.Slot
	snaps   []string
	helpers []swap.Helper
	pending func() // the change that is under way
	moving  bool   // it is one of the volume
	looks   int    // until it is seen
	records rescue.MemRecords
	lent    map[string]string // what the desk knows: host to mark
	harm    []string          // what must never be done

	image    string
	boots    []string
	requests []bool
	actions  int
	cut      int
	loss     drivertest.Loss
	dead     bool
	hanging  bool
}

func newCloud() *cloud {
	return &cloud{power: swap.On, volume: swap.Own, cut: -1, lent: map[string]string{},
		slot:    swap.Slot{Volume: "vol-1", Name: "vol-1 as /dev/sda1", Detail: []byte(`{"dot":true}`)},
		helpers: []swap.Helper{{Name: "helper-1"}}}
}

var errCut = errors.New("the line was cut")

// do does one request, or loses it.
func (c *cloud) do(ctx context.Context, changes bool, f func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hanging {
		c.mu.Unlock()
		<-ctx.Done()
		c.mu.Lock()
		return ctx.Err()
	}
	if c.dead {
		return errCut
	}
	c.requests = append(c.requests, changes)
	hit := c.cut == 0
	c.cut = max(c.cut-1, -1)
	if hit && c.loss == drivertest.LostBefore {
		return errCut
	}
	err := f()
	if hit {
		c.dead = c.loss == drivertest.Death
		return errCut
	}
	return err
}

// later sets a change going.
func (c *cloud) later(f func()) error {
	if c.pending != nil {
		return errors.New("conflict: another operation is under way")
	}
	c.actions++
	c.pending, c.looks = f, 2
	return nil
}

func (c *cloud) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) { return c, nil }
func (c *cloud) ID() string                                                           { return "cloud i-1" }
func (c *cloud) Close() error                                                         { return nil }

func (c *cloud) Describe(ctx context.Context) (s swap.Slot, err error) {
	err = c.do(ctx, false, func() error { s = c.slot; return nil })
	return s, err
}

func (c *cloud) Look(ctx context.Context, e swap.Entry) (s swap.State, err error) {
	err = c.do(ctx, false, func() error {
		if c.looks--; c.pending != nil && c.looks <= 0 {
			c.pending()
			c.pending = nil
		}
		s = swap.State{Power: c.power, Volume: c.volume, On: c.on, Snapshot: slices.Contains(c.snaps, e.Mark)}
		if c.pending != nil && c.moving {
			s.Volume = swap.Moving
		} else if c.pending != nil {
			s.Power = swap.Changing
		}
		return nil
	})
	return s, err
}

func (c *cloud) Helpers(ctx context.Context) (h []swap.Helper, err error) {
	err = c.do(ctx, false, func() error { h = c.helpers; return nil })
	return h, err
}

func (c *cloud) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	return c.do(ctx, true, func() error {
		must := func(ok bool) {
			if !ok {
				c.harm = append(c.harm, fmt.Sprintf("%s of a volume that is %s while the instance is %s", step, c.volume, c.power))
			}
		}
		c.moving = step != swap.Stop && step != swap.Start
		place := func(p swap.Place, on string) func() { return func() { c.volume, c.on = p, on } }
		switch step {
		case swap.Stop:
			must(c.power == swap.On)
			return c.later(func() { c.power = swap.Off })
		case swap.Snap:
			must(c.power == swap.Off && c.volume == swap.Own && !slices.Contains(c.snaps, e.Mark))
			c.snaps = append(c.snaps, e.Mark)
			return nil
		case swap.Release:
			must(c.power == swap.Off && c.volume == swap.Own)
			return c.later(place(swap.Free, ""))
		case swap.Lend:
			must(c.volume == swap.Free && c.lent["h1"] == e.Mark)
			return c.later(func() { c.volume, c.on = swap.Lent, helper; c.boots = append(c.boots, c.image) })
		case swap.Recover:
			must(c.volume == swap.Lent && helper == c.on && c.lent["h1"] == "")
			return c.later(place(swap.Free, ""))
		case swap.Return:
			must(c.power == swap.Off && c.volume == swap.Free && string(e.Slot.Detail) == string(c.slot.Detail))
			return c.later(place(swap.Own, ""))
		case swap.Start:
			must(c.power == swap.Off && c.volume == swap.Own)
			return c.later(func() { c.power = swap.On; c.boots = append(c.boots, drivertest.Disk) })
		}
		return errors.New("no such step")
	})
}

// The desk of the cloud. What it is told is no change of the host's.
func (c *cloud) Lend(ctx context.Context, t remediate.Target, helper, mark string) error {
	return c.do(ctx, false, func() error { c.lent[t.Host.Name] = mark; return nil })
}

func (c *cloud) Withdraw(ctx context.Context, t remediate.Target) error {
	return c.do(ctx, false, func() error { c.lent[t.Host.Name] = ""; return nil })
}

// A drawer is the records, on the same line.
type drawer struct{ *cloud }

func (d drawer) Create(ctx context.Context, key string, value []byte) error {
	return d.do(ctx, true, func() error { return d.records.Create(ctx, key, value) })
}

func (d drawer) Load(ctx context.Context, key string) (b []byte, err error) {
	err = d.do(ctx, false, func() error { b, err = d.records.Load(ctx, key); return err })
	return b, err
}

func (c *cloud) driver(change func(*swap.Options)) *swap.Driver {
	o := swap.Options{Way: "cloud", Platform: c, Desk: c, Records: drawer{c}, Every: time.Millisecond}
	if change != nil {
		change(&o)
	}
	return swap.New(o)
}

func target() remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h1"}, Route: inventory.Route{Driver: "cloud", Address: "i-1"}}
}

// TestDriver passes the suite on a cloud that takes its time, with and without snapshots, cut
// at every request of cloud, journal and desk.
func TestDriver(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprint("snapshot ", snapshot), func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Rig {
				c := newCloud()
				img := remediate.Image{URL: "http://192.0.2.1/i/x/rescue.iso"}
				c.image = img.URL
				t.Cleanup(func() {
					if len(c.harm) > 0 {
						t.Errorf("never to be done: %q", c.harm)
					}
				})
				locked := func(f func()) { c.mu.Lock(); defer c.mu.Unlock(); f() }
				return drivertest.Rig{
					Driver: c.driver(func(o *swap.Options) { o.Snapshot = snapshot }), Target: target(), Image: img,
					Boots: func() []string { return c.boots }, Actions: func() int { return c.actions },
					Left: func() string {
						if c.power != swap.On || c.volume != swap.Own || c.lent["h1"] != "" || c.pending != nil {
							return fmt.Sprintf("power %s, volume %s, lent %v", c.power, c.volume, c.lent)
						}
						return ""
					},
					Requests: func() []bool { return c.requests },
					Cut:      func(n int, l drivertest.Loss) { locked(func() { c.cut, c.loss = n, l }) },
					Revive:   func() { locked(func() { c.dead = false }) },
					Hang:     func() { locked(func() { c.hanging = true }) },
				}
			})
		})
	}
}

type prober struct {
	evidence string
	err      error
}

func (p prober) Probe(context.Context, inventory.Host) (string, error) { return p.evidence, p.err }

// A Windows that is up, or of which nobody can tell, is not stopped; an instance that somebody
// else has the volume of is not touched.
func TestHandsOff(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*cloud, *swap.Options)
		want   string
	}{
		"up":            {func(_ *cloud, o *swap.Options) { o.Prober = prober{"a ping", nil} }, "came up by itself: a ping"},
		"nobody knows":  {func(_ *cloud, o *swap.Options) { o.Prober = prober{"", errors.New("no route")} }, "cannot look whether h1 is up"},
		"elsewhere":     {func(c *cloud, _ *swap.Options) { c.volume, c.on = swap.Elsewhere, "i-2" }, "hangs on i-2"},
		"strange":       {func(c *cloud, _ *swap.Options) { c.volume = "lost" }, "nobody knows what that means"},
		"no helper":     {func(c *cloud, _ *swap.Options) { c.helpers = nil; c.volume = swap.Free }, "no helper for cloud i-1 runs"},
		"full":          {func(c *cloud, _ *swap.Options) { c.helpers[0].Lent = 10; c.volume = swap.Free }, "as many volumes as it may have"},
		"full for less": {func(c *cloud, o *swap.Options) { c.helpers[0].Lent, o.PerHelper, c.volume = 1, 1, swap.Free }, "(1, on helper-1 and others)"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCloud()
			var o swap.Options
			d := cl.driver(func(opt *swap.Options) { c.change(cl, opt); o = *opt })
			err := d.Enter(t.Context(), target(), remediate.Image{})
			if err == nil || !strings.Contains(err.Error(), c.want) || cl.actions > 0 || len(cl.harm) > 0 {
				t.Errorf("%v, and %d things were done; want %q (%+v)", err, cl.actions, c.want, o)
			}
		})
	}
}

// Somebody who undoes every step does not keep the driver busy for ever.
func TestUndone(t *testing.T) {
	c := newCloud()
	d := c.driver(func(o *swap.Options) { o.Platform = undone{c} })
	if err := d.Enter(t.Context(), target(), remediate.Image{}); err == nil || !strings.Contains(err.Error(), "look who else manages") {
		t.Error(err)
	}
}

// undone is a cloud with an operator that starts what is stopped.
type undone struct{ *cloud }

func (u undone) Reach(context.Context, remediate.Target) (swap.Instance, error) { return u, nil }

func (u undone) Do(context.Context, swap.Step, swap.Entry, string) error { return nil }

// Volumes go to the helper with the fewest, and no helper gets more than it may have, however
// many come at once.
func TestQueue(t *testing.T) {
	const limit, hosts = 3, 40
	y := &yard{lent: map[string]int{}}
	d := swap.New(swap.Options{Way: "cloud", Platform: y, Desk: newCloud(), Records: &rescue.MemRecords{}, PerHelper: limit, Every: time.Millisecond})
	var all sync.WaitGroup
	for n := range hosts {
		all.Go(func() {
			tg := target()
			tg.Host.Name, tg.Route.Address = fmt.Sprint("h", n), fmt.Sprint("i-", n)
			for {
				err := d.Enter(t.Context(), tg, remediate.Image{})
				var retry *remediate.RetryError
				if err == nil {
					break
				}
				if !errors.As(err, &retry) {
					t.Error(err)
					return
				}
				y.wait()
			}
			if err := d.Leave(t.Context(), tg, remediate.Posture{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if y.most > limit || y.lent["a"]+y.lent["b"] != 0 || y.total != hosts {
		t.Errorf("a helper had %d volumes; %v are left; %d were lent", y.most, y.lent, y.total)
	}
}

// A yard has many instances, which stand in the state that their last step says.
type yard struct {
	mu    sync.Mutex
	at    map[string]swap.State
	lent  map[string]int
	most  int
	total int
}

func (y *yard) wait() { time.Sleep(time.Millisecond) } // as the engine does after a RetryError

func (y *yard) Reach(_ context.Context, t remediate.Target) (swap.Instance, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.at == nil {
		y.at = map[string]swap.State{}
	}
	if _, ok := y.at[t.Route.Address]; !ok {
		y.at[t.Route.Address] = swap.State{Power: swap.Off, Volume: swap.Own}
	}
	return lot{y, t.Route.Address}, nil
}

type lot struct {
	*yard
	id string
}

func (l lot) ID() string   { return "cloud " + l.id }
func (l lot) Close() error { return nil }

func (l lot) Describe(context.Context) (swap.Slot, error) {
	return swap.Slot{Volume: l.id, Detail: []byte("{}")}, nil
}

func (l lot) Look(context.Context, swap.Entry) (swap.State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at[l.id], nil
}

func (l lot) Helpers(context.Context) ([]swap.Helper, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return []swap.Helper{{Name: "a", Lent: l.lent["a"]}, {Name: "b", Lent: l.lent["b"]}}, nil
}

func (l lot) Do(_ context.Context, step swap.Step, _ swap.Entry, helper string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.at[l.id]
	switch step {
	case swap.Release:
		s.Volume = swap.Free
	case swap.Lend:
		s.Volume, s.On = swap.Lent, helper
		l.lent[helper]++
		l.total++
		l.most = max(l.most, l.lent[helper])
	case swap.Recover:
		l.lent[s.On]--
		s.Volume, s.On = swap.Free, ""
	case swap.Return:
		s.Volume = swap.Own
	case swap.Start:
		s.Power = swap.On
	}
	l.at[l.id] = s
	return nil
}

// The journal names what is not put back, and the snapshots that stay.
func TestJournal(t *testing.T) {
	c := newCloud()
	d := c.driver(func(o *swap.Options) { o.Snapshot = true })
	j := swap.NewJournal(drawer{c})
	entries := func() []swap.Entry {
		t.Helper()
		all, err := j.All(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := entries(); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	for n := 1; n <= 2; n++ {
		c.snaps = nil
		if err := d.Enter(t.Context(), target(), remediate.Image{}); err != nil {
			t.Fatal(err)
		}
		all := entries()
		if len(all) != n || all[n-1].Ended || all[n-1].Host != "h1" || all[n-1].Slot.Volume != "vol-1" || all[n-1].Mark != c.snaps[0] || len(all[n-1].Mark) > 20 {
			t.Errorf("while it is away: %+v, snapshots %q", all, c.snaps)
		}
		if err := j.Forget(t.Context(), all[n-1]); err == nil {
			t.Error("the snapshot of a swap is forgotten while it goes on")
		}
		if err := d.Leave(t.Context(), target(), remediate.Posture{}); err != nil {
			t.Fatal(err)
		}
		if all := entries(); len(all) != n || !all[n-1].Ended || !all[n-1].Snapshot {
			t.Errorf("when it is back: %+v", all)
		}
	}
	all := entries()
	if all[0].Mark == all[1].Mark {
		t.Error("two swaps have one mark")
	}
	for range 2 { // it was cut off, and came again
		if err := j.Forget(t.Context(), all[0]); err != nil {
			t.Fatal(err)
		}
		if again := entries(); !again[0].Gone || again[1].Gone || !again[0].Ended {
			t.Errorf("when one is gone: %+v", again)
		}
	}
}

// An entry that nobody could close does not put a volume back in a way that is no longer its.
func TestStaleEntry(t *testing.T) {
	c := newCloud()
	d := c.driver(nil)
	if err := d.Enter(t.Context(), target(), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	c.power, c.volume, c.on = swap.On, swap.Own, "" // a person put it back, in another way
	c.slot.Detail = []byte(`{"dot":false}`)
	if err := d.Enter(t.Context(), target(), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave(t.Context(), target(), remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	if len(c.harm) > 0 {
		t.Error(c.harm)
	}
}
