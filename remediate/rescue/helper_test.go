package rescue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// A rack is a helper in memory.
type rack struct {
	mu    sync.Mutex
	disks map[string]*machine
}

func (r *rack) Disks(context.Context) (marks []string, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for mark := range r.disks {
		marks = append(marks, mark)
	}
	return marks, nil
}

func (r *rack) Machine(mark string) agent.Machine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.disks[mark]
}

func (r *rack) hang(mark string, v *volume) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.disks == nil {
		r.disks = map[string]*machine{}
	}
	r.disks[mark] = &machine{volumes: []*volume{v}}
}

func (r *rack) take(mark string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.disks, mark)
}

func (l *lab) newHelper(name string) wire.Config {
	l.t.Helper()
	cfg, err := l.s.Helpers().Issue(l.t.Context(), rescue.HelperOrder{URL: l.s.AgentURL(), Name: name, IssuedBy: "ann", Until: time.Now().Add(time.Hour)})
	if err != nil {
		l.t.Fatal(err)
	}
	return cfg
}

// serve runs a helper until the test ends, and returns how it ended.
func (l *lab) serve(r agent.Rack, cfg wire.Config) <-chan error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		o := quick
		o.Log = l.cfg.Log
		done <- agent.Serve(ctx, r, cfg, o)
	}()
	l.t.Cleanup(cancel)
	return done
}

func (l *lab) other(n int) remediate.Target {
	t := l.target
	t.Route.Driver = "libvirt"
	t.Host = inventory.Host{Name: fmt.Sprintf("vm%d", n), Serial: fmt.Sprintf("S%d", n)}
	return t
}

// Many disks hang on one helper at once, some of them locked. Each is repaired as its own
// host's, with its own key, and a disk that nobody lent is not even looked at.
func TestHelperServesMany(t *testing.T) {
	const n = 5
	l := newLab(t, nil)
	r := &rack{}
	l.serve(r, l.newHelper("helper-1"))
	alien := &volume{name: "alien", v: windows()}
	alien.v.Intercept(func(volumetest.Op, string) error { t.Error("an alien disk was looked at"); return nil })
	r.hang("WD-4711", alien)
	var all sync.WaitGroup
	for i := range n {
		target, v := l.other(i), &volume{name: fmt.Sprint("C of ", i), v: windows()}
		if i%2 == 0 {
			f := filing(target.Host.Name)
			v.protectors, v.key = []string{f.ID.String()}, f.Key
			l.escrow.mu.Lock()
			l.escrow.filed = append(l.escrow.filed, f)
			l.escrow.mu.Unlock()
		}
		all.Go(func() {
			mark := fmt.Sprintf("unbrick-%d", i)
			if err := l.s.Lend(t.Context(), target, "helper-1", mark); err != nil {
				t.Error(err)
			}
			r.hang(mark, v)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			rep, err := l.s.Repair(ctx, target, l.pb)
			if err != nil || v.v.Has(bad) || !v.v.Has(good) || len(rep.Volumes) != 1 || rep.Volumes[0].Volume != v.name || len(rep.Released) != 1-i%2 {
				t.Errorf("host %d: %+v, %v", i, rep, err)
			}
			if err := l.s.Withdraw(ctx, target); err != nil {
				t.Error(err)
			}
			r.take(mark)
		})
	}
	all.Wait()
	for _, rel := range l.ledger.releases {
		if !strings.HasPrefix(rel.Host, "vm") {
			t.Errorf("the ledger has %+v", rel)
		}
	}
	if len(l.ledger.releases) != (n+1)/2 {
		t.Errorf("%d keys were released", len(l.ledger.releases))
	}
}

// A mark that is a place names a disk on one helper alone: two helpers have the same place.
func TestHelperPlaces(t *testing.T) {
	l := newLab(t, nil)
	volumes := []*volume{{name: "C of 0", v: windows()}, {name: "C of 1", v: windows()}}
	racks := []*rack{{}, {}}
	for i, v := range volumes { // all is lent before any helper asks
		if err := l.s.Lend(t.Context(), l.other(i), fmt.Sprint("helper-", i), "lun:7"); err != nil {
			t.Fatal(err)
		}
		racks[i].hang("lun:7", v)
	}
	var all sync.WaitGroup
	for i, v := range volumes {
		l.serve(racks[i], l.newHelper(fmt.Sprint("helper-", i)))
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			rep, err := l.s.Repair(ctx, l.other(i), l.pb)
			if err != nil || v.v.Has(bad) || len(rep.Volumes) != 1 || rep.Volumes[0].Volume != v.name {
				t.Errorf("host %d: %+v, %v", i, rep, err)
			}
		})
	}
	all.Wait()
}

// What is lent to one helper is no other's, not before its time and not after its end.
func TestHelperGetsNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *lab, h wire.Config)
		want   string // in the reason why the repair ended
	}{
		"lent to another helper": {func(l *lab, h wire.Config) { l.lend("helper-2") }, "helper-2 did not begin within"},
		"not lent":               {func(l *lab, h wire.Config) {}, "did not call home"},
		"withdrawn": {func(l *lab, h wire.Config) {
			l.lend("helper-1")
			if err := l.s.Withdraw(l.t.Context(), l.target); err != nil {
				l.t.Fatal(err)
			}
		}, "helper-1 did not begin"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			h, r := l.newHelper("helper-1"), &rack{}
			v := l.machine.volumes[0]
			v.v.Intercept(func(volumetest.Op, string) error { t.Error("the disk was looked at"); return nil })
			r.hang("unbrick-1", v)
			c.change(l, h)
			l.serve(r, h)
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			_, err := l.s.Repair(ctx, l.target, l.pb)
			wantErr(t, err, c.want)
		})
	}
}

func (l *lab) lend(helper string) {
	l.t.Helper()
	if err := l.s.Lend(l.t.Context(), l.target, helper, "unbrick-1"); err != nil {
		l.t.Fatal(err)
	}
}

// A helper that is refused ends and says why.
func TestHelperRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *lab, h *wire.Config)
		want   string
	}{
		"revoked": {func(l *lab, h *wire.Config) {
			if err := l.s.Helpers().Revoke(l.t.Context(), h.Helper.ID, "bob"); err != nil {
				l.t.Fatal(err)
			}
		}, "taken out of use"},
		"another's token": {func(l *lab, h *wire.Config) { h.Token = l.newHelper("helper-2").Token }, "did not make this helper"},
		"a host's token":  {func(l *lab, h *wire.Config) { h.Token = l.boot().Token }, "did not make this helper"},
		"an id of nobody": {func(l *lab, h *wire.Config) { h.Helper.ID = "00000000" }, "did not make this helper"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			h := l.newHelper("helper-1")
			c.change(l, &h)
			wantErr(t, <-l.serve(&rack{}, h), c.want)
		})
	}
	l := newLab(t, func(l *lab) { l.cfg.Now = func() time.Time { return time.Now().Add(2 * time.Hour) } })
	helpers, err := rescue.OpenHelpers(l.cfg.Dir, l.records)
	if err != nil {
		t.Fatal(err)
	}
	h, err := helpers.Issue(t.Context(), rescue.HelperOrder{URL: l.s.AgentURL(), Name: "helper-1", Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, <-l.serve(&rack{}, h), "was good until")
}

// The token of a host whose disk is lent is of no use on the host itself, or on any machine
// that says what it is.
func TestLentTokenElsewhere(t *testing.T) {
	l := newLab(t, nil)
	l.lend("helper-1")
	_, err, _ := l.repair()
	wantErr(t, err, "not on the helper helper-1")
	if !l.has(bad) {
		t.Error("the file was removed")
	}
}

// held has the agent of a helper hang in the disk of the lab's host, as a failing one may, and ends
// the repair. It returns what lets the agent go on.
func (l *lab) held() (release func()) {
	r, v := &rack{}, l.machine.volumes[0]
	busy, free := make(chan struct{}), make(chan struct{})
	var once sync.Once
	v.v.Intercept(func(volumetest.Op, string) error {
		once.Do(func() { close(busy) })
		<-free
		return errors.New("the volume is slow")
	})
	l.serve(r, l.newHelper("helper-1"))
	release = sync.OnceFunc(func() { close(free) })
	l.t.Cleanup(release)
	l.lend("helper-1")
	r.hang("unbrick-1", v)
	repair, cancel := context.WithCancel(l.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = l.s.Repair(repair, l.target, l.pb) }()
	<-busy
	cancel()
	<-ended
	return release
}

// quickly has a helper that says nothing lose its disks soon.
func quickly(l *lab) { l.cfg = l.cfg.LetGo(time.Second) }

// A disk that is taken back while the agent is at work on it is let go first, however long that
// takes while the helper is heard.
func TestWithdrawWaits(t *testing.T) {
	t.Parallel()
	l := newLab(t, quickly)
	release := l.held()
	back := make(chan error, 1)
	go func() { back <- l.s.Withdraw(t.Context(), l.target) }()
	select {
	case err := <-back:
		t.Fatalf("the disk is open, and Withdraw returned %v", err)
	case <-time.After(2 * time.Second):
	}
	release()
	if err := <-back; err != nil {
		t.Error(err)
	}
}

// When there is no more time to wait, the disk is not taken either: the next call goes on.
func TestWithdrawTimesOut(t *testing.T) {
	t.Parallel()
	l := newLab(t, quickly)
	release := l.held()
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		err := l.s.Withdraw(ctx, l.target)
		cancel()
		var retry *remediate.RetryError
		if !errors.As(err, &retry) {
			t.Errorf("the disk is open, and Withdraw returned %v", err)
		}
		wantErr(t, err, "helper helper-1 is still at work on the disk of "+l.target.Host.Name)
	}
	release()
	if err := l.s.Withdraw(t.Context(), l.target); err != nil {
		t.Error(err)
	}
}

// Nor does the next attempt at the host take the disk, on which it never began.
func TestWithdrawNextAttempt(t *testing.T) {
	t.Parallel()
	l := newLab(t, quickly)
	release := l.held()
	for l.target.Attempt = 1; ; l.target.Attempt++ {
		l.lend("helper-1")
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		err := l.s.Withdraw(ctx, l.target)
		cancel()
		var retry *remediate.RetryError
		if !errors.As(err, &retry) {
			t.Fatalf("attempt %d: the disk is open, and Withdraw returned %v", l.target.Attempt, err)
		}
		if l.target.Attempt == 2 {
			break
		}
	}
	release()
	if err := l.s.Withdraw(t.Context(), l.target); err != nil {
		t.Error(err)
	}
}

// A helper that is heard by another process is heard, and one that is heard no more has no disk.
func TestWithdrawElsewhere(t *testing.T) {
	t.Parallel()
	l := newLab(t, quickly)
	l.held()
	cfg := l.cfg
	cfg.AgentListen, cfg.ImageListen = "127.0.0.1:0", "127.0.0.1:0"
	other, err := rescue.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	back := make(chan error, 1)
	go func() { back <- other.Withdraw(t.Context(), l.target) }()
	select {
	case err := <-back:
		t.Fatalf("the disk is open, and Withdraw returned %v", err)
	case <-time.After(2 * time.Second):
	}
	if err := l.s.Close(); err != nil { // as if the helper were off: its agent still hangs
		t.Error(err)
	}
	if err := <-back; err != nil {
		t.Error(err)
	}
}
