package halt_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/schedule/halt"
)

var t0 = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)

// feed adds outcomes of one way, model and site: . good, x bad, H harm, i infrastructure. It
// returns the first halts and after how many outcomes they came.
func feed(m *halt.Monitor, way, model, site, results string) ([]halt.Halt, int) {
	of := map[rune]halt.Result{'.': halt.Good, 'x': halt.Bad, 'H': halt.Harm, 'i': halt.Infra}
	for i, c := range results {
		o := halt.Outcome{Host: fmt.Sprintf("h%d", i), Way: way, Model: model, Site: site, Result: of[c], At: t0.Add(time.Duration(i) * time.Minute)}
		if c != '.' {
			o.Error = "media refused"
		}
		if halts := m.Add(o); len(halts) > 0 {
			return halts, i + 1
		}
	}
	return nil, len(results)
}

// TestConnectors: of controllers a tenth may be out of reach.
func TestConnectors(t *testing.T) {
	m := halt.Monitor{Baselines: map[string]float64{halt.Connectors: 0.1}}
	if halts, n := feed(&m, "redfish", "R740", "SYD", "iiiiiiiiiiii"); n != 10 || len(halts) != 1 || m.Cap("redfish", "R740") != 0 {
		t.Errorf("after %d: %v", n, halts)
	}
	if got := len(m.Records); got != 1 {
		t.Errorf("%d records: what is asked for is not begun", got)
	}
}

func scopes(halts []halt.Halt) (names []string) {
	for _, h := range halts {
		names = append(names, h.Scope.String())
	}
	return names
}

func TestHalts(t *testing.T) {
	for _, tc := range []struct {
		name, results string
		baseline      float64
		after         int    // outcomes
		want, why     string // scopes
	}{
		{"all canaries failed", "xxx", 0, 3, "redfish on R740", "all of the first 3 failed"},
		{"one canary is well", "xx.", 0, 3, "", ""},
		{"five in a row at 5 %", "...xxxxx", 0, 8, "redfish on R740, redfish at SYD, redfish", "5 of 8 failed, and 5 % would be tolerable: score 8.0 of 8"},
		{"eight in a row at 10 %", "...xxxxxxxx", 0.05, 11, "redfish on R740, redfish at SYD, redfish", "8 of 11"},
		{"ten in a row at 20 %", "...xxxxxxxxxx", 0.10, 13, "redfish on R740, redfish at SYD, redfish", "10 of 13"},
		{"successes between", "..." + strings.Repeat("x.........", 40), 0, 403, "", ""},
		{"harm", "....H", 0, 5, "redfish on R740, redfish at SYD", "harm done to h4"},
		{"a tenth of the controllers is out of reach", "...i..i.i", 0, 9, "", ""},
		{"no key says nothing of the way", "...iiiii", 0, 8, "connector redfish", "5 of 8 failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := halt.Monitor{Baselines: map[string]float64{"redfish": tc.baseline}}
			halts, after := feed(&m, "redfish", "R740", "SYD", tc.results)
			if got := strings.Join(scopes(halts), ", "); got != tc.want || after != tc.after {
				t.Errorf("after %d: %q, want after %d: %q", after, got, tc.after, tc.want)
			}
			if tc.why != "" && (!strings.Contains(halts[0].Why, tc.why) || !strings.Contains(halts[0].Why, "media refused")) {
				t.Errorf("why %q", halts[0].Why)
			}
		})
	}
}

// TestLevels: many models that each fail a little halt the way, and a site its own share of it.
func TestLevels(t *testing.T) {
	var m halt.Monitor
	var got []halt.Halt
	for i := 0; len(got) == 0 && i < 100; i++ {
		got, _ = feed(&m, "redfish", fmt.Sprint("model ", i), fmt.Sprint("site ", i), "x")
	}
	if s := scopes(got); !slices.Equal(s, []string{"redfish"}) {
		t.Errorf("models: %q", s)
	}
	if m.Cap("redfish", "new") != 0 || m.Cap("amt", "new") != 3 {
		t.Error("a way that is halted takes no host; another one does")
	}
	m = halt.Monitor{}
	for i := range 4 { // the others are well
		feed(&m, "redfish", "R740", fmt.Sprint("site ", i), strings.Repeat(".", 40))
	}
	got = nil
	for i := 0; len(got) == 0 && i < 100; i++ {
		got, _ = feed(&m, "redfish", fmt.Sprint("model ", i%9), "SYD", "x")
		feed(&m, "redfish", fmt.Sprint("model ", i%9), "AKL", "......")
	}
	if s := scopes(got); !slices.Equal(s, []string{"redfish at SYD"}) || !slices.Equal(scopes(m.Halts()), s) || m.Cap("redfish", "new") == 0 {
		t.Errorf("site: %q", s)
	}
}

// TestSecondHarm: the second harm halts the whole way.
func TestSecondHarm(t *testing.T) {
	var m halt.Monitor
	feed(&m, "amt", "a", "SYD", "H")
	halts, _ := feed(&m, "amt", "b", "AKL", "H")
	if got := strings.Join(scopes(halts), ", "); got != "amt on b, amt at AKL, amt" {
		t.Errorf("halted %q", got)
	}
}

func TestRings(t *testing.T) {
	var m halt.Monitor
	for _, tc := range []struct {
		results string
		want    int
	}{{"", 3}, {".", 2}, {".", 1}, {".", 16}, {".......", 9}, {".........", 80}, {strings.Repeat(".", 79), 1}, {".", -1}} {
		feed(&m, "redfish", "R740", "SYD", tc.results)
		if got := m.Cap("redfish", "R740"); got != tc.want {
			t.Errorf("after %q the cap is %d, want %d", tc.results, got, tc.want)
		}
	}
	if got := m.Cap("redfish", "other"); got != 3 {
		t.Errorf("another model begins with %d", got)
	}
}

// TestResume: a person ends a halt, the score begins anew, and the second ring follows.
func TestResume(t *testing.T) {
	var m halt.Monitor
	feed(&m, "redfish", "R740", "SYD", strings.Repeat(".", 200)+"H")
	model := halt.Scope{Kind: halt.OfModel, Way: "redfish", Model: "R740"}
	if err := m.Resume(model, "", t0); !errors.Is(err, halt.ErrNobody) {
		t.Errorf("nobody ended it: %v", err)
	}
	if err := m.Resume(halt.Scope{Kind: halt.OfWay, Way: "redfish"}, "kim", t0); err == nil {
		t.Error("what is not halted was resumed")
	}
	// What is stored goes on as what was not.
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var stored halt.Monitor
	if err := json.Unmarshal(text, &stored); err != nil {
		t.Fatal(err)
	}
	for _, mon := range []*halt.Monitor{&m, &stored} {
		if got := mon.Cap("redfish", "R740"); got != 0 || len(mon.Halts()) != 2 {
			t.Fatalf("cap %d, halts %v", got, mon.Halts())
		}
		if err := mon.Resume(model, "kim", t0); err != nil {
			t.Fatal(err)
		}
		if got := mon.Cap("redfish", "R740"); got != 16 {
			t.Errorf("the cap is %d, want 16", got)
		}
	}
	a, _ := json.Marshal(m)
	b, _ := json.Marshal(stored)
	if !reflect.DeepEqual(a, b) || !strings.Contains(string(a), `"by":"kim"`) {
		t.Errorf("stored %s\nkept   %s", b, a)
	}
}

// cohort treats 1,000 hosts of one way, model and site, with 16 in flight at most, and returns
// how many were started and whether it was halted. A failure takes twice as long as a success.
func cohort(r *rand.Rand, baseline float64, rate func(started int) float64) (started int, halted bool) {
	m := halt.Monitor{Baselines: map[string]float64{"redfish": baseline}}
	type flight struct {
		end float64
		bad bool
	}
	var flying []flight
	now := 0.0
	for {
		limit := m.Cap("redfish", "R740")
		if limit < 0 || limit > 16 {
			limit = 16
		}
		for ; started < 1000 && len(flying) < limit; started++ {
			f := flight{bad: r.Float64() < rate(started)}
			took := 14 * (0.5 + r.Float64())
			if f.bad {
				took *= 2
			}
			f.end = now + took
			flying = append(flying, f)
		}
		if len(flying) == 0 {
			return started, false
		}
		i := 0
		for j := range flying {
			if flying[j].end < flying[i].end {
				i = j
			}
		}
		f := flying[i]
		flying = slices.Delete(flying, i, i+1)
		now = f.end
		result := halt.Good
		if f.bad {
			result = halt.Bad
		}
		if len(m.Add(halt.Outcome{Way: "redfish", Model: "R740", Site: "SYD", Result: result})) > 0 {
			return started, true
		}
	}
}

// TestSimulatedCohorts has the figures of scheduling.md, section 9, with some room: good cohorts
// are not halted, bad ones are within so many hosts started.
func TestSimulatedCohorts(t *testing.T) {
	const runs = 160
	for _, tc := range []struct {
		p0, p1          float64
		falseHalf, full float64 // share of cohorts halted at p0/2 and at p0
		bad50, bad95    int     // started at p1
		turn50, turn95  int     // started after host 300, from where half of them fail
	}{
		{0.05, 0.25, 0.005, 0.05, 70, 100, 42, 60},
		{0.10, 0.30, 0.005, 0.05, 90, 150, 50, 70},
		{0.20, 0.45, 0.015, 0.055, 90, 140, 66, 110},
	} {
		r := rand.New(rand.NewPCG(7, uint64(100*tc.p0)))
		halts := func(p float64) float64 {
			n := 0
			for range runs {
				if _, halted := cohort(r, tc.p0/2, func(int) float64 { return p }); halted {
					n++
				}
			}
			return float64(n) / runs
		}
		spread := func(rate func(int) float64) (p50, p95 int) {
			var all []int
			for range 100 {
				n, halted := cohort(r, tc.p0/2, rate)
				if !halted {
					n = 1000
				}
				all = append(all, n)
			}
			slices.Sort(all)
			return all[len(all)/2], all[len(all)*95/100]
		}
		if got := halts(tc.p0 / 2); got > tc.falseHalf {
			t.Errorf("p0 %.2f: %.1f %% of good cohorts halted", tc.p0, 100*got)
		}
		if got := halts(tc.p0); got > tc.full {
			t.Errorf("p0 %.2f: %.1f %% of tolerable cohorts halted", tc.p0, 100*got)
		}
		if p50, p95 := spread(func(int) float64 { return tc.p1 }); p50 > tc.bad50 || p95 > tc.bad95 {
			t.Errorf("p0 %.2f: %d, 95th %d started although %.0f %% fail", tc.p0, p50, p95, 100*tc.p1)
		}
		p50, p95 := spread(func(i int) float64 {
			if i < 300 {
				return tc.p0 / 2
			}
			return 0.5
		})
		if p50-300 > tc.turn50 || p95-300 > tc.turn95 {
			t.Errorf("p0 %.2f: %d, 95th %d started after it turned bad", tc.p0, p50-300, p95-300)
		}
		if n, halted := cohort(r, tc.p0/2, func(int) float64 { return 1 }); n > 3 || !halted {
			t.Errorf("p0 %.2f: %d started although all fail", tc.p0, n)
		}
	}
}
