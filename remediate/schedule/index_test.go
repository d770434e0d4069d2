package schedule_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// TestIndex has the values of scheduling.md, section 6: τ is 8 hours, γ is 0.25. Sydney opens so many
// hours from now, has one place, and hosts for so many hours.
func TestIndex(t *testing.T) {
	opens := time.Date(2024, 7, 21, 22, 0, 0, 0, time.UTC)
	rates := schedule.NewRates()
	rates.Assume("redfish", schedule.Assumption{Minutes: 15})
	for _, tc := range []struct {
		name             string
		zone             string
		due, work, later float64 // hours
		want             float64 // of w/p
	}{
		{"no slack left", "Australia/Sydney", 5, 5, 0, 1},
		{"already too late for all of the queue", "Australia/Sydney", 5, 8, 0, 1},
		{"one look-ahead of slack", "Australia/Sydney", 20, 12, 0, math.Exp(-1)},
		{"a day of slack", "Australia/Sydney", 30, 6, 0, math.Exp(-3)},
		{"a day of slack, of which half is over", "Australia/Sydney", 30, 6, 12, math.Exp(-1.5)},
		{"late", "Australia/Sydney", 1, 3, 2, 0.25},
		{"late to the minute", "Australia/Sydney", 1, 3, 1, 0.25},
		{"no due time", "", 5, 5, 0, 1},
	} {
		var hosts []inventory.Host
		for i := range int(tc.work * 4) {
			h := host(fmt.Sprintf("h%04d", i), "SYD", "", tc.zone)
			h.Tier, h.Routes = inventory.Critical, []inventory.Route{{Driver: "redfish", Address: "a"}}
			hosts = append(hosts, h)
		}
		o := schedule.Options{Start: opens.Add(-time.Duration(tc.due * float64(time.Hour))), Names: true, Rates: rates, Limits: schedule.Limits{PerSite: 1}}
		y := newYard(t, nil, hosts, o)
		got := y.planner.Take(o.Start.Add(time.Duration(tc.later*float64(time.Hour))), 1)
		if len(got) != 1 || math.Abs(got[0].Value/(40*tc.want)-1) > 1e-9 {
			t.Errorf("%s: %+v, want %v", tc.name, got, 40*tc.want)
		}
	}
}

// TestOrderOfWeekend: the sites come in the order in which they run out of time, a site that has
// more to do than its places allow before one that opens first.
func TestOrderOfWeekend(t *testing.T) {
	var hosts []inventory.Host
	add := func(site, country, zone string, tier inventory.Tier, n int) {
		for range n {
			h := host(fmt.Sprintf("h%04d", len(hosts)), site, country, zone)
			h.Tier, h.Routes = tier, []inventory.Route{{Driver: "redfish", Address: "a"}}
			hosts = append(hosts, h)
		}
	}
	add("SYD", "AU", "Australia/Sydney", inventory.Normal, 4)
	add("NYC", "US", "America/New_York", inventory.Normal, 700) // 163 hours for 2 places
	add("BER", "DE", "Europe/Berlin", inventory.Normal, 4)
	add("BER", "DE", "Europe/Berlin", inventory.Dependency, 1)
	add("", "", "", inventory.Critical, 1)
	o := schedule.Options{Start: friday.Add(12 * time.Hour), Names: true, Limits: schedule.Limits{Slots: 3, PerSite: 2}}
	y := newYard(t, nil, hosts, o)
	var sites []string
	seen := map[string]bool{}
	for s := range y.planner.Order(o.Start) {
		if seen[s.Host] {
			t.Fatalf("%s is begun twice", s.Host)
		}
		seen[s.Host] = true
		if name := s.Site + " " + s.Tier.String(); !slices.Contains(sites, name) {
			sites = append(sites, name)
		}
	}
	want := []string{"BER dependency", "NYC normal", "SYD normal", "BER normal", " critical"}
	if !slices.Equal(sites, want) || len(seen) != len(hosts) {
		t.Errorf("got %q, want %q; %d of %d hosts", sites, want, len(seen), len(hosts))
	}
}

// TestRatesLearn: outcomes outweigh what was assumed, more the more there are, and a model that
// nobody saw is taken for one as all of its way are.
func TestRatesLearn(t *testing.T) {
	r := schedule.NewRates()
	hours, failed := r.Mean("redfish", "R740")
	if math.Abs(hours*60-14) > 1e-9 || math.Abs(failed-0.08) > 1e-9 {
		t.Errorf("assumed %v h, %v", hours, failed)
	}
	r.Learn("redfish", "R740", 4, 0, 4*28*time.Minute)
	few, _ := r.Mean("redfish", "R740")
	r.Learn("redfish", "R740", 400, 200, 400*28*time.Minute)
	many, failed := r.Mean("redfish", "R740")
	if few*60 < 18 || few*60 > 26 || many*60 < 27.5 || many*60 > 28 || failed < 0.45 || failed > 0.5 {
		t.Errorf("after 4 hosts %.1f min, after 404 %.1f min and %.2f failed", few*60, many*60, failed)
	}
	if other, _ := r.Mean("redfish", "R640"); math.Abs(other-many) > 0.02 {
		t.Errorf("a model that nobody saw: %.1f min, its way %.1f", other*60, many*60)
	}
	if amt, _ := r.Mean("amt", "R740"); math.Abs(amt*60-16) > 1e-9 {
		t.Errorf("another way learnt: %v", amt*60)
	}
	if got := r.Patience("amt", ""); got < 90*time.Minute || got > 100*time.Minute {
		t.Errorf("patience %v, want three times the 95th percentile of 16 min", got)
	}
	c := r.Clone()
	c.Learn("redfish", "", 1000, 0, 1000*time.Minute)
	if again, _ := r.Mean("redfish", "R740"); again != many {
		t.Error("a clone taught its original")
	}
	if got := fmt.Sprint(r.Experiences()); got != "[{redfish R740 404 200 188h32m0s}]" {
		t.Errorf("learnt %s", got)
	}
}

// TestSample: what is drawn lies around the mean, the closer the more is known.
func TestSample(t *testing.T) {
	spread := func(r *schedule.Rates) (mean, deviation float64) {
		rng := rand.New(rand.NewPCG(5, 5))
		const n = 4000
		sum, squares := 0.0, 0.0
		for range n {
			h, f := r.Sample(rng, []string{"redfish", "redfish"}, []string{"", "new"})
			if f[0] < 0 || f[0] > 1 || h[0] != h[1] {
				t.Fatalf("drew %v, %v", h, f)
			}
			sum += h[0] * 60
			squares += h[0] * 60 * h[0] * 60
		}
		return sum / n, math.Sqrt(squares/n - sum/n*sum/n)
	}
	r := schedule.NewRates()
	mean, deviation := spread(r)
	if math.Abs(mean-14) > 0.5 || deviation < 3 || deviation > 6 {
		t.Errorf("before: %.1f ± %.1f min", mean, deviation)
	}
	r.Learn("redfish", "", 500, 40, 500*14*time.Minute)
	if mean, deviation = spread(r); math.Abs(mean-14) > 0.3 || deviation > 0.6 {
		t.Errorf("after 500 hosts: %.1f ± %.1f min", mean, deviation)
	}
}

// TestLearningChangesThePlan: a way that turns out slow starts earlier where time is short.
func TestLearningChangesThePlan(t *testing.T) {
	var hosts []inventory.Host
	for i := range 60 {
		h := host(fmt.Sprintf("h%02d", i), "SYD", "AU", "Australia/Sydney")
		h.Routes = []inventory.Route{{Driver: "redfish", Address: "a"}}
		hosts = append(hosts, h)
	}
	y := newYard(t, nil, hosts, schedule.Options{Start: friday, Names: true, Limits: schedule.Limits{Slots: 5, PerSite: 1}})
	first := y.planner.Take(friday, 1)[0]
	if err := y.planner.Done(schedule.Outcome{Host: first.Host, Way: "redfish", Verdict: remediate.Fixed, Took: 90 * time.Minute, Touched: true}); err != nil {
		t.Fatal(err)
	}
	second := y.planner.Take(friday.Add(90*time.Minute), 1)[0]
	if !second.Latest.Before(first.Latest) {
		t.Errorf("start by %v, and after a slow one by %v", first.Latest, second.Latest)
	}
}
