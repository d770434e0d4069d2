package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/remediate"
)

// No more hosts than the limits say are in treatment by one way, have their controllers in one
// network, or fetch images at one site; those that fell back to a way count too.
func TestResources(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*Engine)
		does string
		want map[string]int // the most at once; what is not in it has no limit
	}{
		{"a way", func(e *Engine) { e.Ladder[0].Hosts = 3 }, "", map[string]int{"redfish": 3}},
		{"the way that they fall back to", func(e *Engine) { e.Ladder[1].Hosts = 2 }, "repair redfish: fails", map[string]int{"netboot": 2}},
		{"both", func(e *Engine) { e.Ladder[0].Hosts, e.Ladder[1].Hosts = 4, 3 }, "enter redfish: fails", map[string]int{"redfish": 4, "netboot": 3}},
		{"networks of controllers", func(e *Engine) { e.Limits.PerSubnet = 2 }, "", map[string]int{"10.0.0.0/24": 2, "10.0.1.0/24": 2}},
		{"images", func(e *Engine) { e.Limits.ImagesPerSite = 2 }, "", map[string]int{"images at SYD": 2, "images at MEL": 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(c.does)
			var hosts []string
			for i := range 24 {
				hosts = append(hosts, fmt.Sprintf("h%02d@%s", i, []string{"SYD", "MEL"}[i/2%2]))
			}
			_, s := yardStore(t, hosts...)
			e := y.engine(s, "redfish", "netboot")
			e.Limits.Hosts = 24
			c.set(&e)
			if sum := runs(t, e); !sum.Done() {
				t.Errorf("%+v", sum)
			}
			for what, limit := range c.want {
				if n := y.most[what]; n > limit || n == 0 {
					t.Errorf("%s: %d at once, limit %d", what, n, limit)
				}
			}
		})
	}
}

// A way that is full keeps nobody from another one, and one that waits for a place takes none.
func TestFullWay(t *testing.T) {
	y := newYard("enter winrm h0: fails")
	y.hold, y.entered = make(chan struct{}), make(chan string, 10)
	path, s := yardStore(t, "h0", "h1", "h2", "h3")
	if _, err := s.db().Exec(`UPDATE hosts SET data = replace(data, '"winrm"', '"none"') WHERE host IN ('h1', 'h2')`); err != nil {
		t.Fatal(err)
	}
	e := y.engine(s, "winrm", "redfish")
	e.Ladder[1].Hosts, e.Limits.Hosts = 1, 2
	r := start(t, path, e)
	got := map[string]int{}
	for range 3 { // h0 by winrm, h1 by redfish; then h3 by winrm, while h0 and h2 wait for redfish
		got[<-y.entered]++
	}
	if got["h0"] != 1 || got["h1"] != 1 || got["h3"] != 1 {
		t.Errorf("entered: %v", got)
	}
	close(y.hold)
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
}

// What is to be put back is put back, whatever is full.
func TestFullWayIsLeft(t *testing.T) {
	y := newYard()
	_, s := yardStore(t, "a", "b")
	e := y.engine(s, "redfish")
	e.Ladder[0].Hosts, e.Limits.PerSubnet, e.Limits.ImagesPerSite = 1, 1, 1
	lost := false
	e.at = func(when, host string, stage remediate.Stage) {
		if when == "recorded" && stage == remediate.Enter && !lost {
			lost = true
			panic("lost")
		}
	}
	if sum := runs(t, e); !sum.Done() || !lost {
		t.Errorf("%+v", sum)
	}
	if y.now["redfish"] != 0 || strings.Count(strings.Join(y.calls, " "), "leave") != 3 {
		t.Errorf("%d not put back: %s", y.now["redfish"], y.calls)
	}
}

// Hosts of one site are switched on one after the other, and other sites do not wait.
func TestPace(t *testing.T) {
	y := newYard()
	y.entered = make(chan string, 10)
	_, s := yardStore(t, "a@SYD", "b@SYD", "c@MEL", "d@SYD")
	e := y.engine(s, "redfish", "winrm")
	e.Limits.PowerPerMinute = 600
	began := time.Now()
	if sum := runs(t, e); !sum.Done() {
		t.Errorf("%+v", sum)
	}
	// Three hosts of SYD, each switched on twice: five times 100 ms lie between.
	if d := time.Since(began); d < 500*time.Millisecond {
		t.Errorf("six times power within %s", d)
	}
}

// All processes that share the state share what a site may switch on.
func TestPowerOn(t *testing.T) {
	ctx := context.Background()
	path, s := yardStore(t, "h")
	began := time.Now()
	var all sync.WaitGroup
	for _, s := range []*Store{s, openTest(t, path)} {
		all.Go(func() {
			for range 3 {
				if err := errors.Join(s.PowerOn(ctx, "r", "SYD", 600), s.PowerOn(ctx, "r", "PER", 0)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if d := time.Since(began); d < 500*time.Millisecond {
		t.Errorf("six times power within %s", d)
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.PowerOn(over, "r", "SYD", 1); err == nil {
		t.Error("a wait that was cut off")
	}
}

// A way has the time for its repairs that it needs, and the others theirs.
func TestRepairBy(t *testing.T) {
	y := newYard("repair redfish: takes for ever", "repair manual: takes for ever")
	_, s := yardStore(t, "h")
	e := y.engine(s, "redfish", "manual")
	e.Timeouts.Repair, e.Timeouts.RepairBy = time.Hour, map[string]time.Duration{"redfish": 20 * time.Millisecond, "manual": 30 * time.Millisecond}
	e.Soak = time.Millisecond
	if sum := runs(t, e); sum.Verdicts[remediate.Failed] != 1 {
		t.Errorf("%+v", sum)
	}
	if h := result(t, s, "h"); !strings.Contains(h.Reason, "repair took longer than 31ms") {
		t.Errorf("%+v", h)
	}
}

// No more hosts are begun by a way than its rate has, by all processes that share the state, and
// other ways go on.
func TestRate(t *testing.T) {
	ctx := context.Background()
	y := newYard()
	path, s := yardStore(t, "a", "b", "c", "d", "e")
	if _, err := s.db().Exec(`UPDATE hosts SET data = replace(data, '"winrm"', '"none"') WHERE host <> 'e'`); err != nil {
		t.Fatal(err)
	}
	e := y.engine(s, "winrm", "redfish")
	e.PerHour = map[string]int{"redfish": 1}
	fixed := func(n int) { // and no more, in some looks
		t.Helper()
		r := start(t, path, e)
		eventually(t, "the hosts that may be begun", func() bool {
			st, err := r.other.Status(ctx, "")
			return err == nil && st.Verdicts[remediate.Fixed] == n
		})
		time.Sleep(5 * r.Poll)
		inFlight(t, r.other, 0)
		r.Stop()
		r.end()
		if st, err := r.other.Status(ctx, ""); err != nil || st.Verdicts[remediate.Fixed] != n || st.Todo != 5-n {
			t.Errorf("%+v, %v", st.Count, err)
		}
	}
	fixed(2)                                                            // one by redfish, and the one by winrm
	fixed(2)                                                            // another process finds that the way has begun what it may
	if _, err := s.db().Exec(`UPDATE rates SET next = 1`); err != nil { // an hour later
		t.Fatal(err)
	}
	fixed(3)
}

// A rate makes up for what was missed since nobody looked, and for no more.
func TestRateGoesEvenly(t *testing.T) {
	r := &rate{gap: 100, burst: 1000}
	count := func(now int64) (n int) {
		for ; !r.waits(now); n++ {
			r.start(now)
		}
		return n
	}
	if n := count(50_000); n != 11 {
		t.Errorf("%d at first", n)
	}
	if n := count(50_200); n != 2 {
		t.Errorf("%d after 200 ms", n)
	}
	if n := count(90_000); n != 11 {
		t.Errorf("%d after a long time", n)
	}
}
