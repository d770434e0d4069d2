package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/remediate"
)

// A running engine, with another handle on its state as another process would have.
type running struct {
	*testing.T
	*Engine
	other  *Store
	events chan Event
	cancel context.CancelFunc
	done   chan struct{}
	sum    Summary
	err    error
}

func start(t *testing.T, path string, e Engine) *running {
	t.Helper()
	r := &running{T: t, other: openTest(t, path), events: make(chan Event, 10000), done: make(chan struct{})}
	e.Events = func(ev Event) { r.events <- ev }
	r.Engine = New(e)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.sum, r.err = r.Engine.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// until waits for an event.
func (r *running) until(is func(Event) bool) Event {
	r.Helper()
	for {
		select {
		case e := <-r.events:
			if is(e) {
				return e
			}
		case <-time.After(30 * time.Second):
			r.Fatal("the event did not come")
		}
	}
}

func begins(s remediate.Stage) func(Event) bool {
	return func(e Event) bool { return e.Stage == s && e.Outcome == "" && e.Verdict == "" }
}

func (r *running) end() (Summary, error) {
	<-r.done
	return r.sum, r.err
}

// eventually waits for something that no event tells.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

func setup(t *testing.T, hosts ...string) (path string, s *Store, w *world, url string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "unbrick.db")
	s = openTest(t, path)
	begin(t, s, hosts...)
	w = newWorld(t, hosts...)
	return path, s, w, w.serve(t)
}

// A host that is cancelled while it is repaired is put back, and says by whom.
func TestCancelDuringRepair(t *testing.T) {
	path, s, w, url := setup(t, "held#1", "none#2", "held#3")
	r := start(t, path, testEngine(s, url))
	for range 3 {
		r.until(begins(remediate.Repair))
	}
	if n, err := r.other.Cancel(context.Background(), "", "ops", "held#1"); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	r.until(func(e Event) bool { return e.Host == "held#1" && e.Verdict != "" })
	close(w.hold)
	if _, err := r.end(); err != nil {
		t.Fatal(err)
	}
	got := verdicts(t, s)
	same(t, got, map[string]remediate.Verdict{"held#1": remediate.Failed, "none#2": remediate.Fixed, "held#3": remediate.Fixed})
	w.check(t, got)
	for res := range s.Results(context.Background(), "", "") {
		if res.Host == "held#1" && res.Reason != "cancelled by ops" {
			t.Errorf("reason %q", res.Reason)
		}
	}
}

// All that wait can be cancelled at once, without being touched.
func TestCancelAll(t *testing.T) {
	path, s, w, url := setup(t, "held#1", "held#2", "none#3", "none#4")
	e := testEngine(s, url)
	e.Limits.Hosts = 2
	r := start(t, path, e)
	r.until(begins(remediate.Repair))
	r.until(begins(remediate.Repair))
	if n, err := r.other.Cancel(context.Background(), "", "ops"); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	sum, err := r.end()
	if err != nil || sum.Verdicts[remediate.Failed] != 4 || sum.Ended.IsZero() {
		t.Errorf("%+v, %v", sum, err)
	}
	w.check(t, verdicts(t, s))
	if w.calls["observe none#3"] != 0 {
		t.Error("a cancelled host was touched")
	}
	if _, err := s.Cancel(context.Background(), "", "ops", "nobody"); err == nil {
		t.Error("a host that is not there was cancelled")
	}
}

// A paused run takes no more hosts, and one site can be paused alone.
func TestPause(t *testing.T) {
	ctx := context.Background()
	path, s, w, url := setup(t, "held#1", "none#2", "none#3", "none#4") // sites SYD, MEL, SYD, MEL
	e := testEngine(s, url)
	e.Limits.Hosts = 1
	r := start(t, path, e)
	r.until(begins(remediate.Repair))
	if err := errors.Join(r.other.Pause(ctx, "", "ops"), r.other.Pause(ctx, "", "ops", "SYD")); err != nil {
		t.Fatal(err)
	}
	close(w.hold)
	r.until(func(e Event) bool { return e.Verdict != "" })
	still := func(todo int) {
		t.Helper()
		for range 10 { // looks of the dispatcher
			time.Sleep(r.Poll)
			if st, err := r.other.Status(ctx, ""); err != nil || st.Todo != todo || st.Running != 0 {
				t.Fatalf("%+v, %v", st.Count, err)
			}
		}
	}
	still(3)
	if _, err := r.other.db().Exec(`UPDATE runs SET paused = ''`); err != nil { // all but the site
		t.Fatal(err)
	}
	r.until(func(e Event) bool { return e.Verdict != "" })
	r.until(func(e Event) bool { return e.Verdict != "" })
	still(1)
	if err := r.other.Resume(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
	if err := s.Pause(ctx, "", "ops", "PER"); err == nil {
		t.Error("a site that is not there was paused")
	}
}

// Stop lets the stages that run end, and begins no other; the run goes on when it is run again.
func TestStop(t *testing.T) {
	path, s, w, url := setup(t, "held#1", "held#2", "none#3")
	e := testEngine(s, url)
	e.Limits.Hosts = 2
	r := start(t, path, e)
	r.until(begins(remediate.Repair))
	r.until(begins(remediate.Repair))
	r.Stop()
	eventually(t, "drain", func() bool { return r.stopping() })
	time.Sleep(5 * r.Poll) // it would take the third now
	close(w.machines["held#1"].free)
	r.until(func(e Event) bool {
		return e.Host == "held#1" && e.Outcome == remediate.OK && e.Stage == remediate.Repair
	})
	time.Sleep(5 * r.Poll) // and leave the first
	close(w.hold)
	if _, err := r.end(); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	if w.calls["leave held#1"] != 0 || w.calls["observe none#3"] != 0 {
		t.Error("something was begun after Stop")
	}
	if sum := runs(t, e); !sum.Done() {
		t.Errorf("%+v", sum)
	}
	if n := w.calls["repair held#1"]; n != 1 {
		t.Errorf("a stage that ended ran %d times", n)
	}
	w.check(t, verdicts(t, s))
}

// stopping says whether Stop was noticed.
func (r *running) stopping() bool { return len(r.Engine.stop) == 0 }

// Ending the context stops at once, and nothing is lost.
func TestStopNow(t *testing.T) {
	path, s, w, url := setup(t, "held#1", "none#2")
	r := start(t, path, testEngine(s, url))
	r.until(begins(remediate.Repair))
	r.until(begins(remediate.Repair))
	r.Stop()
	r.cancel()
	if _, err := r.end(); !errors.Is(err, ErrInterrupted) {
		t.Fatal(err)
	}
	close(w.hold)
	if sum := runs(t, testEngine(s, url)); !sum.Done() {
		t.Errorf("%+v", sum)
	}
	w.check(t, verdicts(t, s))
}

// One process works on a state file: another is told who does.
func TestBusy(t *testing.T) {
	path, s, w, url := setup(t, "held#1")
	r := start(t, path, testEngine(s, url))
	r.until(begins(remediate.Repair))
	cmd := startChild(t, path, url, "", "")
	cmd.Wait()
	if out := cmd.Stderr.(*strings.Builder).String(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out, "another unbrick is working on "+path) {
		t.Errorf("%s: %s", cmd.ProcessState, out)
	}
	var busy *BusyError
	if _, err := New(testEngine(r.other, url)).Run(context.Background()); !errors.As(err, &busy) || busy.PID == 0 || busy.Since.IsZero() {
		t.Errorf("%v", err)
	}
	close(w.hold)
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
}

// No more hosts are in flight than the limits say, of a process, a site or a group.
func TestLimits(t *testing.T) {
	for _, l := range []Limits{{Hosts: 4, PerSite: 16}, {Hosts: 16, PerSite: 3}} {
		t.Run(fmt.Sprint(l), func(t *testing.T) { limits(t, l) })
	}
}

func limits(t *testing.T, l Limits) {
	var hosts []string
	for _, n := range "abcdefghijklmnop" {
		hosts = append(hosts, "none#"+string(n))
	}
	s := openTest(t, filepath.Join(t.TempDir(), "unbrick.db"))
	_, err := s.Begin(context.Background(), Run{Playbook: "test", FleetDigest: "f"}, func(yield func(Planned) bool) {
		for p := range testHosts(hosts...) {
			p.Host.Site = []string{"MEL", "SYD", "SYD", "SYD"}[p.Order%4]
			p.Host.Group = []string{"", "", "cluster", "cluster"}[p.Order%4]
			if !yield(p) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, hosts...)
	e := testEngine(s, w.serve(t))
	e.Limits = l
	var mu sync.Mutex
	now, most := map[string]int{}, map[string]int{}
	count := func(k string, n int) {
		now[k] += n
		most[k] = max(most[k], now[k])
	}
	e.Events = func(ev Event) {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		switch {
		case begins(remediate.Check)(ev):
			n = 1
		case ev.Outcome != "" && ev.Stage == remediate.Confirm: // after the verdict others may start
			n = -1
		}
		count("all", n)
		count(ev.Site, n)
		if (ev.Host[len(ev.Host)-1]-'a')%4 > 1 {
			count("group", n)
		}
	}
	if sum := runs(t, e); !sum.Done() {
		t.Errorf("%+v", sum)
	}
	for k, limit := range map[string]int{"all": l.Hosts, "SYD": l.PerSite, "MEL": l.PerSite, "group": 1} {
		if most[k] > limit || most[k] == 0 {
			t.Errorf("%s: %d in flight, limit %d", k, most[k], limit)
		}
	}
}

// The stop rule halts the run until somebody resumes it, and then looks at what ends after.
func TestHalt(t *testing.T) {
	_, s, w, url := setup(t, "repair fails#1", "repair fails#2", "none#3", "none#4")
	e := testEngine(s, url)
	e.Limits.Hosts = 1
	e.Halt = func(o Outcomes) (string, bool) {
		n := 0
		for _, v := range o.Recent {
			if v == remediate.Failed {
				n++
			}
		}
		return "2 failed", n >= 2
	}
	for range 2 { // run again, it is still halted
		sum := runs(t, e)
		if sum.Halted != "2 failed" || sum.Verdicts[remediate.Failed] != 2 || !sum.Ended.IsZero() || w.calls["observe none#3"] != 0 {
			t.Fatalf("%+v", sum)
		}
	}
	if err := s.Resume(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	if sum := runs(t, e); sum.Halted != "" || sum.Verdicts[remediate.Fixed] != 2 || sum.Ended.IsZero() {
		t.Errorf("%+v", sum)
	}
}

// Hosts that ended can be treated again, by verdict or by name.
func TestRetry(t *testing.T) {
	_, s, w, url := setup(t, "repair fails#1", "enter waits#2", "leave fails#3", "none#4", "never up#5")
	runs(t, testEngine(s, url))
	for _, m := range w.machines {
		m.fault = "none"
	}
	ctx := context.Background()
	n, err := s.Retry(ctx, "", []remediate.Verdict{remediate.Failed, remediate.Waiting, remediate.Unconfirmed}, "leave fails#3")
	if n != 4 || err != nil {
		t.Fatal(n, err)
	}
	sum := runs(t, testEngine(s, url))
	got := verdicts(t, s)
	same(t, got, map[string]remediate.Verdict{
		"repair fails#1": remediate.Fixed, "enter waits#2": remediate.Fixed, "none#4": remediate.Fixed,
		"leave fails#3": remediate.Fixed,   // put back and seen up: the repair was done before
		"never up#5":    remediate.Healthy, // up when it was looked at again
	})
	w.check(t, got)
	if !sum.Done() || sum.OnTime != 5 || sum.Ended.IsZero() {
		t.Errorf("%+v", sum)
	}
	if n := w.calls["repair leave fails#3"]; n != 1 {
		t.Errorf("repaired %d times", n)
	}
}
