package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// plannedStore has hosts of sites that open one after the other: of the first in the list last.
func plannedStore(t testing.TB, sites []string, each int) (string, *Store) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unbrick.db")
	s := openTest(t, path)
	_, err := s.Begin(context.Background(), Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		n := 0
		for _, site := range sites {
			for i := range each {
				p := yardHost(n, fmt.Sprintf("%s%03d@%s", site, i, site))
				p.Host.Country, p.Host.TimeZone, p.Host.Tier = "GB", "Europe/London", inventory.Normal
				if !yield(p) {
					return
				}
				n++
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, s
}

// planOf makes a plan of an engine.
func planOf(e Engine) *schedule.Options {
	return &schedule.Options{Calendar: calendar.New(), Ladder: e.Ladder, Attempts: 1, Limits: schedule.Limits{Slots: max(e.Limits.Hosts, 1)}}
}

// nextHosts returns the hosts to do in the order that stands in the state.
func nextHosts(t testing.TB, s *Store, most int) (hosts []string) {
	t.Helper()
	rows, err := s.db().Query(`SELECT host FROM hosts WHERE state = 'todo' ORDER BY ord, host LIMIT $1`, most)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var h string
		if err := rows.Scan(&h); err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, h)
	}
	return hosts
}

// A site that is pinned while the run goes on comes next, whatever the order was, and a Planner
// that is asked for the order stands afterwards as it did before.
func TestPinReorders(t *testing.T) {
	ctx := context.Background()
	y := newYard()
	y.hold, y.entered = make(chan struct{}), make(chan string, 100)
	path, s := plannedStore(t, []string{"AAA", "BBB", "CCC"}, 10)
	e := y.engine(s, "redfish")
	e.Limits.Hosts, e.Replan = 1, 10*time.Millisecond
	e.Plan = planOf(e)
	r := start(t, path, e)
	<-y.entered
	if err := r.other.Pin(ctx, "", "CCC", Pin{Until: time.Now().Add(time.Hour), By: "kim"}); err != nil {
		t.Fatal(err)
	}
	ccc := func(hosts []string) bool {
		return len(hosts) == 10 && !slices.ContainsFunc(hosts, func(h string) bool { return h[:3] != "CCC" })
	}
	eventually(t, "CCC first", func() bool { return ccc(nextHosts(t, r.other, 10)) })
	st, err := r.other.Status(ctx, "")
	if err != nil || st.Sites[2].Pin == nil || st.Sites[2].Pin.By != "kim" || st.Sites[0].Pin != nil {
		t.Errorf("%+v, %v", st.Sites, err)
	}
	if err := r.other.Pin(ctx, "", "CCC", Pin{}); err != nil {
		t.Fatal(err)
	}
	if err := r.other.Pin(ctx, "", "BBB", Pin{Until: time.Now().Add(time.Hour), By: "kim"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "BBB first", func() bool { return nextHosts(t, r.other, 1)[0][:3] == "BBB" })
	close(y.hold)
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
	if err := r.other.Pin(ctx, "", "DDD", Pin{Until: time.Now().Add(time.Hour)}); err == nil {
		t.Error("a site that is not there was pinned")
	}
}

// A Planning of a state knows how its hosts stand: what ended, waits or goes another way.
func TestPlanning(t *testing.T) {
	ctx := context.Background()
	y := newYard("repair redfish AAA001: waits", "repair redfish AAA002: fails")
	_, s := plannedStore(t, []string{"AAA", "BBB"}, 4)
	e := y.engine(s, "redfish", "netboot")
	e.Limits.Hosts, e.Drivers["netboot"] = 8, gate{y, "netboot"}
	y.does["observe netboot"] = "waits"
	if sum := runs(t, e); sum.Verdicts[remediate.Fixed] != 6 || sum.Verdicts[remediate.Waiting] != 2 {
		t.Fatalf("%+v", sum)
	}
	o := *planOf(e)
	o.Start = time.Now()
	if _, err := s.Retry(ctx, "", []remediate.Verdict{remediate.Fixed}, "BBB000"); err != nil {
		t.Fatal(err)
	}
	p, err := s.Planning(ctx, "", o)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := p.next(time.Now(), 10); !slices.Contains(got, "BBB000") || slices.Contains(got, "AAA001") || slices.Contains(got, "AAA002") {
			t.Errorf("next are %q", got)
		}
	}
	var todo, waiting int
	d := p.Counts()
	for b := range d.Buckets() {
		todo += d.Stock(schedule.Ref(b)).ToDo
		waiting += d.Stock(schedule.Ref(b)).Waiting
	}
	if todo != 6 || waiting != 2 { // Retry takes all that were fixed
		t.Errorf("%d to do, %d wait", todo, waiting)
	}
	learnt := p.Learnt()
	if len(learnt) != 1 || learnt[0].Way != "redfish" || learnt[0].Hosts != 7 || learnt[0].Failed != 1 {
		t.Errorf("learnt %+v", learnt)
	}
}

// What has become of hosts changes which come next: where more is left to do by the same
// opening, it is more urgent.
func TestOutcomesReorder(t *testing.T) {
	ctx := context.Background()
	_, s := plannedStore(t, []string{"AAA", "BBB"}, 10)
	o := *planOf(Engine{Limits: Limits{Hosts: 1}, Ladder: remediate.Ladder{{Way: "redfish"}}})
	saturday := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	o.Start = saturday
	p, err := s.Planning(ctx, "", o)
	if err != nil {
		t.Fatal(err)
	}
	before := p.next(saturday, 20)
	if len(before) != 20 || before[0] != "AAA000" || !slices.Equal(before, p.next(saturday, 20)) {
		t.Fatalf("before: %q", before)
	}
	if !p.holds(nil) || p.holds(before) {
		t.Error("an order that was not written down holds")
	}
	p.window = map[string]int{}
	for i, h := range before {
		p.window[h] = i
	}
	if !p.holds(before[3:]) {
		t.Error("the first of the order have ended, and it does not hold")
	}
	if _, err := s.db().Exec(`UPDATE hosts SET state = 'done' WHERE site = 'BBB' AND host >= 'BBB002'`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.update(ctx); err != nil {
		t.Fatal(err)
	}
	after := p.next(saturday, 20)
	if len(after) != 12 || after[0] != "AAA000" || after[11] != "BBB001" || slices.Index(before, "BBB001") > 5 || p.holds(after) {
		t.Errorf("before: %q\nafter: %q", before, after)
	}
}

// One process plans, and another one when that is gone; a Planner that panics leaves the order
// as it is.
func TestWhoPlans(t *testing.T) {
	ctx := context.Background()
	_, s := plannedStore(t, []string{"AAA"}, 3)
	r, err := s.Run(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorker(New(Engine{Store: s}), r)
	leads := func() bool {
		yes, _, _, err := w.leadPlan(ctx)
		return err == nil && yes
	}
	for _, q := range []string{`UPDATE runs SET planner = 'other'`,
		fmt.Sprintf(`INSERT INTO workers (executor, token, pid, machine, since, lease) VALUES ('other', '', 0, '', 0, %d)`, time.Now().Add(time.Minute).UnixMilli())} {
		if _, err := s.db().Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	if leads() {
		t.Error("two processes plan")
	}
	if _, err := s.db().Exec(`DELETE FROM workers`); err != nil {
		t.Fatal(err)
	}
	if !leads() || !leads() {
		t.Error("nobody plans any more")
	}
	if _, err := w.planned(ctx, &Planning{store: s, run: r.ID, hosts: make([]standing, 3)}); err == nil {
		t.Error("a plan without a planner, and no error")
	}
	broken := &Planning{store: s, run: r.ID, hosts: []standing{{name: "AAA000", state: schedule.Over}, {name: "AAA001"}, {name: "AAA002"}}}
	var panicked *panicError
	if _, err := w.planned(ctx, broken); !errors.As(err, &panicked) {
		t.Errorf("a planner that panics: %v", err)
	}
}
