package forecast_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"unbrick/remediate/schedule/forecast"
)

// An instance is jobs in whole numbers, small enough for brute force.
type instance struct {
	jobs    []forecast.Job
	m, last int
}

func randomInstance(r *rand.Rand) instance {
	in := instance{m: 1 + r.IntN(6), last: 2 + r.IntN(7)}
	for range 1 + r.IntN(5) {
		j := forecast.Job{Places: float64(1 + r.IntN(3))}
		due, work := 0, 0
		for range 1 + r.IntN(3) {
			if due += 1 + r.IntN(4); due > in.last {
				break
			}
			work += r.IntN(6)
			j.Due, j.Work = append(j.Due, float64(due)), append(j.Work, float64(work))
		}
		if len(j.Due) > 0 {
			in.jobs = append(in.jobs, j)
		}
	}
	return in
}

// feasible asks a maximum flow from the work through the places of the sites and those of the
// pool in each hour.
func (in instance) feasible(m int) bool {
	type arc struct{ to, cap, back int }
	var g [][]arc
	node := func() int { g = append(g, nil); return len(g) - 1 }
	link := func(a, b, cap int) {
		g[a] = append(g[a], arc{b, cap, len(g[b])})
		g[b] = append(g[b], arc{a, 0, len(g[a]) - 1})
	}
	source, sink := node(), node()
	hours := make([]int, in.last)
	for t := range hours {
		hours[t] = node()
		link(hours[t], sink, m)
	}
	want := 0
	for _, j := range in.jobs {
		places := make([]int, in.last)
		for t := range places {
			places[t] = node()
			link(places[t], hours[t], int(j.Places))
		}
		for i := range j.Due {
			w := int(j.Work[i])
			if i > 0 {
				w -= int(j.Work[i-1])
			}
			n := node()
			link(source, n, w)
			want += w
			for t := range int(j.Due[i]) {
				link(n, places[t], w)
			}
		}
	}
	flow := 0
	for {
		seen := make([]bool, len(g))
		var push func(n, most int) int
		push = func(n, most int) int {
			if n == sink {
				return most
			}
			seen[n] = true
			for i := range g[n] {
				a := &g[n][i]
				if a.cap > 0 && !seen[a.to] {
					if got := push(a.to, min(most, a.cap)); got > 0 {
						a.cap -= got
						g[a.to][a.back].cap += got
						return got
					}
				}
			}
			return 0
		}
		got := push(source, math.MaxInt)
		if got == 0 {
			return flow == want
		}
		flow += got
	}
}

// TestNeededAgainstMaximumFlow: what brute force can do in time the test calls possible, and
// nothing else.
func TestNeededAgainstMaximumFlow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	possible := 0
	for range 6000 {
		in := randomInstance(r)
		c := forecast.Needed(in.jobs)
		limited := 0.0
		for _, l := range c.Limited {
			limited += l
		}
		got := limited < 1e-9 && c.Needed <= float64(in.m)+1e-9
		want := in.feasible(in.m)
		if want {
			possible++
		}
		if got != want {
			t.Fatalf("%+v: needed %+v; brute force says %v", in, c, want)
		}
		if limited > 1e-9 && in.feasible(1000) {
			t.Fatalf("%+v: limited %v, and brute force does it", in, c.Limited)
		}
	}
	if possible < 1000 || possible > 5000 {
		t.Errorf("%d of 6000 instances are possible: no test of both", possible)
	}
}

func TestNeededOfTheConsoleExample(t *testing.T) {
	c := forecast.Needed([]forecast.Job{{Places: 1000, Due: []float64{254.0 / 60}, Work: []float64{1040 * 12.5 / 60}}})
	if got := math.Ceil(c.Needed); got != 52 || math.Abs(c.By-254.0/60) > 1e-9 {
		t.Errorf("needs %v by %v, want 52 by 4.23", got, c.By)
	}
}

// best returns the greatest worth of whole hosts that can be done in time, by trying all.
func (in instance) best(wants []forecast.Want) float64 {
	most := 0.0
	for set := range 1 << len(wants) {
		worth := 0.0
		sub := instance{m: in.m, last: in.last}
		for _, j := range in.jobs {
			sub.jobs = append(sub.jobs, forecast.Job{Places: j.Places, Due: j.Due, Work: make([]float64, len(j.Due))})
		}
		for i, w := range wants {
			if set>>i&1 == 0 {
				continue
			}
			worth += w.Worth
			for k := w.Due; k < len(in.jobs[w.Job].Due); k++ {
				sub.jobs[w.Job].Work[k] += w.Work
			}
		}
		if worth > most && sub.feasible(in.m) {
			most = worth
		}
	}
	return most
}

// TestBoundAgainstBruteForce: of hosts of one hour each the bound saves exactly what the best
// choice of them does.
func TestBoundAgainstBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 250 {
		in := randomInstance(r)
		in.m = 1 + r.IntN(3)
		var wants []forecast.Want
		for range 1 + r.IntN(8) {
			if len(in.jobs) == 0 {
				break
			}
			j := r.IntN(len(in.jobs))
			wants = append(wants, forecast.Want{Job: j, Due: r.IntN(len(in.jobs[j].Due)), Work: 1, Worth: float64(1 + r.IntN(9))})
		}
		var grid []float64
		for h := range in.last {
			grid = append(grid, float64(h+1))
		}
		got := 0.0
		for i, done := range forecast.Bound(in.jobs, wants, float64(in.m), grid) {
			got += done / wants[i].Work * wants[i].Worth
		}
		if want := in.best(wants); math.Abs(got-want) > 1e-6 {
			t.Fatalf("%+v %+v: bound %v, brute force %v", in, wants, got, want)
		}
	}
}
