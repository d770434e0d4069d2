package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/halt"
)

// modelStore has hosts "name@site model", and one with "!" behind it comes first at its site.
func modelStore(t testing.TB, hosts ...string) (path string, s *Store) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "unbrick.db")
	s = openTest(t, path)
	_, err := s.Begin(context.Background(), Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		for i, text := range hosts {
			text, model, _ := strings.Cut(text, " ")
			name, first := strings.CutSuffix(text, "!")
			p := yardHost(i, name)
			p.Model, p.Host.Tier = model, inventory.Normal
			if first {
				p.Host.Tier = inventory.Dependency
			}
			if !yield(p) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, s
}

func fleetOf(n int, site, model string) (hosts []string) {
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("%s%03d@%s %s", strings.ToLower(model), i, site, model))
	}
	return hosts
}

// inFlight fails the test if not so many hosts are. All that may be taken at once are.
func inFlight(t testing.TB, s *Store, want int) {
	t.Helper()
	if st, err := s.Status(context.Background(), ""); err != nil || st.Running != want {
		t.Errorf("%d hosts in flight, want %d (%v)", st.Running, want, err)
	}
}

// No more hosts of a way and model are in flight than their ring has, and each model has rings
// of its own.
func TestRings(t *testing.T) {
	y := newYard()
	y.hold, y.entered = make(chan struct{}), make(chan string, 300)
	path, s := modelStore(t, append(fleetOf(60, "SYD", "A"), fleetOf(60, "SYD", "B")...)...)
	e := y.engine(s, "redfish")
	e.Baselines, e.Limits.Hosts = map[string]float64{}, 100
	r := start(t, path, e)
	got := map[byte]int{}
	for range 6 {
		got[(<-y.entered)[0]]++
	}
	if got['a'] != 3 || got['b'] != 3 {
		t.Errorf("the first to be entered: %v", got)
	}
	inFlight(t, r.other, 6)
	close(y.hold)
	if sum, err := r.end(); err != nil || !sum.Done() || len(sum.Halts) != 0 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// What fails together is halted and shown, the others go on, the run ends when nothing else is
// left, in whatever process, and a person lets it go on, with the second ring.
func TestHaltedCohort(t *testing.T) {
	ctx := context.Background()
	var does []string
	for i := range 40 {
		does = append(does, fmt.Sprintf("repair redfish a%03d: fails", i))
	}
	y := newYard(does...)
	hosts := append(fleetOf(40, "SYD", "A"), fleetOf(40, "MEL", "B")...)
	_, s := modelStore(t, hosts...)
	e := y.engine(s, "redfish")
	e.Baselines = map[string]float64{}
	for range 2 { // the second run finds all halted, and does nothing
		sum := runs(t, e)
		if sum.Verdicts[remediate.Failed] != 3 || sum.Verdicts[remediate.Fixed] != 40 || !sum.Ended.IsZero() ||
			!strings.Contains(sum.Halted, "37 hosts are left to do") || !strings.Contains(sum.Halted, "redfish on A: all of the first 3 failed") ||
			!strings.Contains(sum.Halted, "most often: repair: the BMC says no (3 times)") {
			t.Errorf("%+v", sum)
		}
	}
	st, err := s.Status(ctx, "")
	if err != nil || len(st.Halts) != 1 || st.Halts[0].Scope.Kind != halt.OfModel || len(st.Halts[0].Last) != 3 {
		t.Errorf("%+v, %v", st.Halts, err)
	}
	if _, err := s.ResumeHalted(ctx, "", ""); !errors.Is(err, halt.ErrNobody) {
		t.Errorf("resumed by nobody: %v", err)
	}
	if _, err := s.ResumeHalted(ctx, "", "kim", "redfish on C"); !errors.Is(err, errNotHalted) {
		t.Errorf("resumed what is not halted: %v", err)
	}
	y.mu.Lock()
	clear(y.does)
	y.mu.Unlock()
	ended, err := s.ResumeHalted(ctx, "", "kim", "redfish on A")
	if err != nil || len(ended) != 1 {
		t.Fatal(ended, err)
	}
	y.hold, y.entered = make(chan struct{}), make(chan string, 300)
	r := start(t, s.path, e)
	for range 16 {
		<-y.entered
	}
	inFlight(t, r.other, 16)
	close(y.hold)
	if sum, err := r.end(); err != nil || sum.Halted != "" || sum.Verdicts[remediate.Fixed] != 77 || sum.Ended.IsZero() {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A way that its rung stops is begun on no host any more, whether it is watched or not, in
// whatever process; the others go on, and a person lets it go on.
func TestRungStops(t *testing.T) {
	ctx := context.Background()
	y := newYard("observe restart: fails")
	hosts := fleetOf(30, "SYD", "A")
	_, s := modelStore(t, hosts...)
	if _, err := s.db().Exec(`UPDATE hosts SET data = replace(data, '"redfish"', '"none"') WHERE host < 'a010'`); err != nil {
		t.Fatal(err)
	}
	e := y.engine(s, "restart", "redfish")
	e.Ladder[0].Stop, e.Limits.Hosts = remediate.Stop{Failures: 5}, 1 // so that nothing else was begun meanwhile
	for range 2 {
		sum := runs(t, e)
		if sum.Todo() != 25 || len(sum.Halts) != 1 || sum.Halts[0].Scope.String() != "rung restart" || !sum.Ended.IsZero() ||
			!strings.Contains(sum.Halted, "rung restart: 5 of 5 failed, and it stops at 5") {
			t.Fatalf("%+v", sum)
		}
	}
	if ended, err := s.ResumeHalted(ctx, "", "kim", "rung restart"); err != nil || len(ended) != 1 {
		t.Fatal(ended, err)
	}
	if sum := runs(t, e); sum.Todo() != 20 || len(sum.Halts) != 1 || len(sum.Halts[0].Resumed) != 1 {
		t.Errorf("%+v", sum)
	}
	e.Ladder = e.Ladder[1:] // without the way, its hosts go by the next
	if sum := runs(t, e); sum.Todo() != 0 || sum.Verdicts[remediate.Fixed] != 20 {
		t.Errorf("%+v", sum)
	}
}

// What does not end counts as bad when it takes three times as long as nearly all of its kind,
// once, whoever counts.
func TestOverdue(t *testing.T) {
	y := newYard()
	y.hold, y.entered = make(chan struct{}), make(chan string, 300)
	path, s := modelStore(t, fleetOf(10, "SYD", "A")...)
	e := y.engine(s, "redfish")
	e.Baselines, e.Plan = map[string]float64{}, planOf(e)
	e.Plan.Rates = schedule.NewRates()
	e.Plan.Rates.Assume("redfish", schedule.Assumption{Minutes: 0.001})
	r := start(t, path, e)
	for range 3 {
		<-y.entered
	}
	eventually(t, "a halt", func() bool {
		halts, err := r.other.Halts(context.Background(), "")
		return err == nil && len(halts) > 0 && strings.Contains(halts[0].Halt.Why, "redfish on A: all of the first 3 failed") &&
			strings.Contains(halts[0].Halt.Why, "no answer for")
	})
	inFlight(t, r.other, 3)
	close(y.hold)
	if sum, err := r.end(); err != nil || sum.Todo() != 7 || sum.Verdicts[remediate.Fixed] != 3 {
		t.Errorf("%+v, %v", sum, err)
	}
	var bad, good int
	if err := s.db().QueryRow(`SELECT SUM(CASE WHEN result = 'bad' THEN 1 ELSE 0 END), SUM(CASE WHEN result = 'good' THEN 1 ELSE 0 END) FROM outcomes`).
		Scan(&bad, &good); err != nil || bad != 3 || good != 3 {
		t.Errorf("%d bad, %d good, %v", bad, good, err)
	}
}

// Harm halts at the first, and hosts that could not be reached speak of their site alone.
func TestHarmAndInfrastructure(t *testing.T) {
	var does []string
	for i := range 12 {
		does = append(does, fmt.Sprintf("observe redfish a%03d: fails", i))
	}
	y := newYard(append(does, "leave redfish b000: fails")...)
	hosts := append(fleetOf(12, "SYD", "A"), fleetOf(12, "MEL", "B")...)
	_, s := modelStore(t, append(hosts, fleetOf(12, "MEL", "C")...)...)
	e := y.engine(s, "redfish")
	e.Baselines, e.Limits.Hosts = map[string]float64{}, 1
	sum := runs(t, e)
	var names []string
	for _, h := range sum.Halts {
		names = append(names, h.Scope.String())
	}
	want := []string{"connector redfish at SYD", "redfish on B", "redfish at MEL"}
	if slices.Sort(want); !slices.Equal(slices.Sorted(slices.Values(names)), want) {
		t.Errorf("halted %q", names)
	}
	if v := sum.Verdicts; v[remediate.Failed] != 5 || v[remediate.Stranded] != 1 || v[remediate.Fixed] != 0 {
		t.Errorf("%v", v) // Hosts: 1, so that nothing else was begun meanwhile
	}
}

// A relapse is harm.
func TestRelapseHalts(t *testing.T) {
	y := newYard()
	_, s := modelStore(t, fleetOf(2, "SYD", "A")...)
	e := y.engine(s, "redfish")
	e.Baselines, e.Watch, e.Limits.Hosts = map[string]float64{}, time.Hour, 1
	y.entered = make(chan string, 10)
	r := start(t, s.path, e)
	host := <-y.entered
	<-y.entered
	eventually(t, "a fixed host", func() bool { return result(t, r.other, host).Verdict == remediate.Fixed })
	y.set(host, false)
	eventually(t, "halts of model and site", func() bool {
		halts, err := r.other.Halts(context.Background(), "")
		return err == nil && len(halts) == 2
	})
	r.Stop()
	r.end()
}

// Ordinary hosts wait until the dependency tier of their site has ended, whatever the order
// says, those of other sites do not, and those of a site whose dependency tier is to be treated
// again wait again.
func TestDependencyTierFirst(t *testing.T) {
	t.Run("as it was stored", func(t *testing.T) { dependencyTierFirst(t, false) })
	t.Run("as it is planned", func(t *testing.T) { dependencyTierFirst(t, true) })
}

func dependencyTierFirst(t *testing.T, planned bool) {
	y := newYard()
	y.hold, y.entered = make(chan struct{}), make(chan string, 100)
	path, s := modelStore(t, "early@SYD", "dc@SYD!", "late@SYD", "other@MEL", "dc2@MEL!", "free@AKL")
	e := y.engine(s, "redfish")
	if planned {
		e.Plan, e.Replan = planOf(e), 5*time.Millisecond
	}
	r := start(t, path, e)
	var got []string
	for range 3 {
		got = append(got, <-y.entered)
	}
	inFlight(t, r.other, 3)
	if slices.Sort(got); !slices.Equal(got, []string{"dc", "dc2", "free"}) {
		t.Errorf("entered %q", got)
	}
	st, err := r.other.Status(context.Background(), "")
	if err != nil || !st.Sites[1].Gated || st.Sites[0].Gated { // AKL, MEL, SYD
		t.Errorf("%+v, %v", st.Sites, err)
	}
	close(y.hold)
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
	if _, err := r.other.Retry(context.Background(), "", nil, "dc", "late"); err != nil {
		t.Fatal(err)
	}
	y.calls = nil
	y.set("dc", false)
	y.set("late", false)
	y.does["repair redfish dc"] = "waits"
	if sum := runs(t, y.engine(r.other, "redfish")); sum.Done() || sum.Todo() != 1 {
		t.Errorf("late did not wait: %+v", sum)
	}
	if err := r.other.Pin(context.Background(), "", "SYD", Pin{Until: time.Now().Add(time.Hour), By: "kim", Anyway: true}); err != nil {
		t.Fatal(err)
	}
	if sum := runs(t, y.engine(r.other, "redfish")); sum.Verdicts[remediate.Waiting] != 1 || sum.Todo() != 0 {
		t.Errorf("a pin, and late still waits: %+v", sum)
	}
}

// Todo is how many hosts have no verdict and do not wait.
func (s Summary) Todo() int {
	n := s.Hosts
	for _, k := range s.Verdicts {
		n -= k
	}
	return n
}
