package simulate_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
	"unbrick/remediate/schedule/simulate"
)

func named(t *testing.T, names ...string) (rules []simulate.Named) {
	t.Helper()
	for _, r := range simulate.Rules() {
		if slices.Contains(names, r.Name) {
			rules = append(rules, r)
		}
	}
	if len(rules) != len(names) {
		t.Fatalf("not all of %q are rules", names)
	}
	return rules
}

// TestOursIsBetter: at the loads that matter our rule brings more hosts back in time than EDF and
// the lists of regions, with far less tardiness (scheduling.md, section 5).
func TestOursIsBetter(t *testing.T) {
	const amer, edf = "region list, AMER first", "EDF by opening"
	o := simulate.Options{World: simulate.World{Hosts: 20_000}, Seeds: 2, Loads: []float64{1.0, 1.6}, Rules: named(t, amer, edf, simulate.Ours), Bound: true}
	rows, err := simulate.Table(o)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]map[float64]simulate.Row{}
	for _, r := range rows {
		if at[r.Rule] == nil {
			at[r.Rule] = map[float64]simulate.Row{}
		}
		at[r.Rule][r.Load] = r
	}
	for _, load := range o.Loads {
		ours := at[simulate.Ours][load]
		if b := at[simulate.Bound][load]; ours.Weighted > b.Weighted+0.3 || ours.Weighted < b.Weighted-6 {
			t.Errorf("load %.1f: ours %+v\nbound %+v", load, ours, b)
		}
		for other, most := range map[string]float64{amer: 0.2, edf: 0.5} { // of its tardiness
			r := at[other][load]
			if ours.OnTime < r.OnTime+5 || ours.Weighted < r.Weighted+5 || ours.Tardiness > most*r.Tardiness {
				t.Errorf("load %.1f: ours %+v\n%s %+v", load, ours, other, r)
			}
		}
	}
	if ours := at[simulate.Ours][1.0]; ours.OnTime < 93 || ours.Weighted < 97 || ours.Core < 90 {
		t.Errorf("at load 1.0: %+v", ours)
	}
}

func TestTheSameSeedIsTheSameTable(t *testing.T) {
	o := simulate.Options{World: simulate.World{Hosts: 3000, Seed: 5}, Loads: []float64{1, 1.6}, Bound: true}
	first, err := simulate.Table(o)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := simulate.Table(o); err != nil || !slices.Equal(again, first) {
		t.Errorf("the same seed gave another table: %v", err)
	}
	o.World.Seed++
	if other, err := simulate.Table(o); err != nil || slices.Equal(other, first) {
		t.Errorf("another seed gave the same table: %v", err)
	}
}

func TestLoadMustBePositive(t *testing.T) {
	if _, err := simulate.Table(simulate.Options{World: simulate.World{Hosts: 100}, Loads: []float64{0}}); err == nil {
		t.Error("a load of 0 was simulated")
	}
}

// TestWorld: the fleet is the one of scheduling.md.
func TestWorld(t *testing.T) {
	f := simulate.World{}.Fleet()
	countries, zones, largest, hosts := map[string]bool{}, map[[2]string]bool{}, 0, 0
	for _, p := range f.Places() {
		countries[p.Country], zones[[2]string{p.Country, p.Zone}] = true, true
		largest = max(largest, p.Hosts)
		hosts += p.Hosts
	}
	if len(countries) != 62 || len(zones) != 73 || hosts < 198_000 || hosts > 202_000 || largest < 3500 || largest > 5000 {
		t.Errorf("%d countries, %d zones, %d hosts, %d at the largest site", len(countries), len(zones), hosts, largest)
	}
	for i := range f.Buckets() {
		if b := f.Bucket(schedule.Ref(i)); b.Due < 4 || b.Due > 100 {
			t.Fatalf("due %v hours after the start", b.Due)
		}
	}
}

// BenchmarkForecast counts 8.5 million hosts at 85,000 sites in, plans and looks ahead, as
// unbrick plan does, and reports what the process took of memory at most. UNBRICK_HOSTS is
// another number of hosts.
func BenchmarkForecast(b *testing.B) {
	w := simulate.World{Hosts: 8_500_000}
	if n, err := strconv.Atoi(os.Getenv("UNBRICK_HOSTS")); err == nil {
		w.Hosts = n
	}
	var f forecast.Forecast
	for b.Loop() {
		d := schedule.NewDispatcher(w.Fleet(), nil)
		places, err := simulate.Places(d, 1)
		if err == nil {
			d, err = d.With(places, simulate.Start())
		}
		if err != nil {
			b.Fatal(err)
		}
		f = forecast.Look(d, forecast.Options{Now: simulate.Start()})
	}
	b.ReportMetric(float64(f.Runs), "runs")
	b.ReportMetric(100*float64(f.All.OnTime.P50)/float64(f.All.Hosts), "%on-time")
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseFloat(strings.Fields(kib)[0], 64)
			b.ReportMetric(n/1024, "MiB-peak")
		}
	}
}

// BenchmarkWeekend works a fleet off once by our rule.
func BenchmarkWeekend(b *testing.B) {
	w := simulate.World{Hosts: 850_000}
	for b.Loop() {
		if _, err := simulate.Table(simulate.Options{World: w, Loads: []float64{1}, Rules: simulate.Rules()[7:]}); err != nil {
			b.Fatal(err)
		}
	}
}
