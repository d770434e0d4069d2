package swap_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// open returns the entries that have not ended.
func open(t *testing.T, r swap.Records) (open []swap.Entry) {
	t.Helper()
	all, err := swap.NewJournal(r).All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if !e.Ended {
			open = append(open, e)
		}
	}
	return open
}

// Two instances on two hypervisors have one id, as a machine and its replica do. What is begun on
// the one is not taken for the other's, nor ended by it.
func TestOneID(t *testing.T) {
	for name, rename := range map[string]func(*remediate.Target){
		"another address": func(y *remediate.Target) { y.Route.Address = "hv2/i-1" },
		"another host":    func(y *remediate.Target) { y.Host.Name = "replica" },
		"another run":     func(y *remediate.Target) { y.Route.Address, y.Run = "hv2/i-1", "r2" },
	} {
		t.Run(name, func(t *testing.T) {
			var records rescue.MemRecords
			x, y := newCloud(), newCloud()
			y.slot.Detail = []byte(`{"dot":false}`)
			on := func(c *cloud) *swap.Driver { return c.driver(func(o *swap.Options) { o.Records = &records }) }
			if err := on(x).Enter(t.Context(), target(), remediate.Image{}); err != nil {
				t.Fatal(err)
			}
			ty := target()
			rename(&ty)
			_, err := on(y).Observe(t.Context(), ty)
			for what, err := range map[string]error{"Observe": err, "Enter": on(y).Enter(t.Context(), ty, remediate.Image{})} {
				var retry *remediate.RetryError
				if err == nil || !strings.Contains(err.Error(), "as h1 at i-1") || errors.As(err, &retry) != (ty.Run == "r1") {
					t.Errorf("%s of the other: %v", what, err)
				}
			}
			if err := on(y).Leave(t.Context(), ty, remediate.Posture{Power: "on"}); err != nil || y.actions > 0 {
				t.Errorf("Leave of the other: %v, and %d things were done to it", err, y.actions)
			}
			if left := open(t, &records); len(left) != 1 || left[0].Host != "h1" || left[0].Address != "i-1" {
				t.Errorf("the journal has %+v", left)
			}
			if err := on(x).Leave(t.Context(), target(), remediate.Posture{}); err != nil || x.volume != swap.Own || x.power != swap.On {
				t.Errorf("%v; the volume is %s, the instance %s", err, x.volume, x.power)
			}
			if err := on(y).Enter(t.Context(), ty, remediate.Image{}); err != nil {
				t.Errorf("its turn: %v", err)
			}
			if len(x.harm) > 0 {
				t.Error(x.harm)
			}
		})
	}
}

// late is a journal in which another process begins just before this one.
type late struct {
	*rescue.MemRecords
	first func()
}

func (l *late) Create(ctx context.Context, key string, value []byte) error {
	if f := l.first; f != nil && strings.HasPrefix(key, "swap/") {
		l.first = nil
		f()
	}
	return l.MemRecords.Create(ctx, key, value)
}

// Nor when both begin at once.
func TestOneIDAtOnce(t *testing.T) {
	x, y := newCloud(), newCloud()
	records := &late{MemRecords: &rescue.MemRecords{}}
	records.first = func() {
		other := target()
		other.Route.Address = "hv2/i-1"
		if err := y.driver(func(o *swap.Options) { o.Records = records }).Enter(t.Context(), other, remediate.Image{}); err != nil {
			t.Error(err)
		}
	}
	err := x.driver(func(o *swap.Options) { o.Records = records }).Enter(t.Context(), target(), remediate.Image{})
	if err == nil || !strings.Contains(err.Error(), "as h1 at hv2/i-1") || x.actions > 0 {
		t.Errorf("%v, and %d things were done to it", err, x.actions)
	}
}

// bare is a cloud whose instance has no volume that the platform would know for its system's.
type bare struct{ *cloud }

func (b bare) Reach(context.Context, remediate.Target) (swap.Instance, error) { return b, nil }

func (b bare) Describe(context.Context) (swap.Slot, error) {
	return swap.Slot{}, errors.New("it has no disk")
}

// An instance of which the journal knows nothing is not started without its volume.
func TestNotStartedBare(t *testing.T) {
	c := newCloud()
	c.power = swap.Off
	d := c.driver(func(o *swap.Options) { o.Platform = bare{c} })
	err := d.Leave(t.Context(), target(), remediate.Posture{Power: "on"})
	if err == nil || !strings.Contains(err.Error(), "not started as it is: it has no disk") || c.actions > 0 {
		t.Errorf("%v, and %d things were done", err, c.actions)
	}
}

// A swap in another state does not take an older one's snapshot for its own; one that was cut off
// finds its own again.
func TestMarks(t *testing.T) {
	c := newCloud()
	for n := 1; n <= 3; n++ {
		var records rescue.MemRecords
		d := c.driver(func(o *swap.Options) { o.Snapshot, o.Records = true, &records })
		for range 2 {
			if err := d.Enter(t.Context(), target(), remediate.Image{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Leave(t.Context(), target(), remediate.Posture{}); err != nil {
			t.Fatal(err)
		}
		if len(c.snaps) != n || len(c.harm) > 0 {
			t.Errorf("after %d swaps: snapshots %q, %q", n, c.snaps, c.harm)
		}
	}
}

// dated is a cloud that tells since when an instance is off.
type dated struct {
	*cloud
	since time.Time
}

func (d dated) Reach(context.Context, remediate.Target) (swap.Instance, error) { return d, nil }

func (d dated) Look(ctx context.Context, e swap.Entry) (swap.State, error) {
	s, err := d.cloud.Look(ctx, e)
	if s.Power == swap.Off {
		s.Stopped = d.since
	}
	return s, err
}

// An instance that is off since before the incident is skipped; one that was switched off later,
// or nobody knows when, is repaired and started, and that is said.
func TestWasOff(t *testing.T) {
	from := time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	before, after := from.Add(-time.Hour), from.Add(time.Hour)
	seen := func(at time.Time, lag time.Duration) []inventory.Origin {
		return []inventory.Origin{{Source: "cmdb"}, {Source: "edr", Seen: at, Lag: lag}}
	}
	for name, c := range map[string]struct {
		was     swap.WasOff
		nowhere bool // no incident is given
		stopped time.Time
		from    []inventory.Origin
		skip    bool
		want    string
	}{
		"nobody knows":         {want: "nobody knows since when"},
		"no incident":          {nowhere: true, stopped: before, want: "nobody knows since when"},
		"stopped before":       {stopped: before, skip: true, want: "its platform stopped it at 2024-07-19T03:09:00Z"},
		"stopped since":        {stopped: after, want: "not when the incident began (its platform stopped it"},
		"seen before":          {from: seen(before, time.Minute), skip: true, want: "edr last saw it, or may have missed it until 2024-07-19T03:10:00Z"},
		"seen, but rarely":     {from: seen(before, 24*time.Hour), want: "was not when the incident began"},
		"seen since":           {from: seen(after, 0), want: "was not when the incident began"},
		"the platform knows":   {stopped: after, from: seen(before, 0), want: "was not when the incident began"},
		"start, as configured": {was: swap.StartOff, stopped: before, want: "as swap: {was_off: start} says"},
		"leave, as configured": {was: swap.LeaveOff, stopped: after, skip: true, want: "to be left so"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newCloud()
			cl.power = swap.Off
			d := cl.driver(func(o *swap.Options) {
				if o.Platform, o.WasOff = (dated{cl, c.stopped}), c.was; !c.nowhere {
					o.Incident = inventory.Incident{From: from, Until: from.Add(time.Hour)}
				}
			})
			tg := target()
			tg.Host.From = c.from
			p, err := d.Observe(t.Context(), tg)
			var skip *remediate.SkipError
			if errors.As(err, &skip) != c.skip || !c.skip && err != nil || !strings.Contains(fmt.Sprint(p.Said, err), c.want) {
				t.Fatalf("%q, %v; want %q", p.Said, err, c.want)
			}
			if c.skip {
				return
			}
			if err := d.Leave(t.Context(), tg, p); err != nil || cl.power != swap.Off {
				t.Errorf("never entered: %v, and it is %s", err, cl.power)
			}
			if err := d.Enter(t.Context(), tg, remediate.Image{}); err != nil {
				t.Fatal(err)
			}
			if err := d.Leave(t.Context(), tg, p); err != nil || cl.power != swap.On || len(cl.harm) > 0 {
				t.Errorf("%v, and it is %s; %q", err, cl.power, cl.harm)
			}
		})
	}
}

// An instance that runs has nothing said of it, however long ago it was seen.
func TestWasOn(t *testing.T) {
	d := newCloud().driver(func(o *swap.Options) { o.WasOff = swap.LeaveOff })
	if p, err := d.Observe(t.Context(), target()); err != nil || p.Said != "" {
		t.Errorf("%+v, %v", p, err)
	}
}

// poor is a cloud that can be asked for rights.
type poor struct {
	*cloud
	lacks error
	asked *[]bool // with snapshots or without
}

func (p poor) Reach(context.Context, remediate.Target) (swap.Instance, error) { return p, nil }

func (p poor) Check(_ context.Context, snapshot bool) error {
	*p.asked = append(*p.asked, snapshot)
	return p.lacks
}

// Rights are asked for before anything is done, those for snapshots with them; once in a place,
// when all are there.
func TestRights(t *testing.T) {
	for name, c := range map[string]struct {
		lacks error
		want  string
		asked int
	}{
		"all are there":     {nil, "", 2},
		"one is missing":    {&inventory.RightError{Right: "ec2:CreateSnapshot", Where: "in a policy"}, "ec2:CreateSnapshot", 3},
		"nobody may ask":    {&swap.UnaskedError{Right: "x", Err: errors.New("403")}, "", 2},
		"nobody is at home": {errors.New("no answer"), "no answer", 3},
	} {
		t.Run(name, func(t *testing.T) {
			cl, asked := newCloud(), []bool{}
			d := cl.driver(func(o *swap.Options) { o.Platform, o.Snapshot = poor{cl, c.lacks, &asked}, true })
			for _, at := range []string{"eu/i-1", "eu/i-2", "us/i-1"} {
				tg := target()
				tg.Route.Address = at
				_, err := d.Observe(t.Context(), tg)
				if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v; want %q", at, err, c.want)
				}
			}
			if len(asked) != c.asked || !asked[0] || cl.actions > 0 {
				t.Errorf("asked %v, and %d things were done", asked, cl.actions)
			}
		})
	}
}

// Many who come at once ask for rights once.
func TestRightsAtOnce(t *testing.T) {
	cl, asked := newCloud(), []bool{}
	d := cl.driver(func(o *swap.Options) { o.Platform = poor{cl, nil, &asked} })
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := d.Observe(t.Context(), target()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
}
