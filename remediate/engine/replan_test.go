package engine

import (
	"context"
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
