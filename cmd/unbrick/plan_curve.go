package main

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

const (
	// curvePoints is how many moments a curve has.
	curvePoints = 120
	// manyHosts is from where on the keys are looked at less often, as in the forecast itself.
	manyHosts = 500_000
)

// A curve is how many hosts of a site, or of all, are not back yet, at equal steps from the start
// on: what nine runs of ten have at most, half of them, and one of ten.
type curve struct {
	Name           string
	Hosts          int
	Due            time.Time // zero if there is none, or several
	Until          time.Time
	Low, Mid, High []float64
}

// curves works the plan off as the forecast does, and watches all hosts and the given sites.
func (n *census) curves(f planForecast, sites []planSite, seed uint64) []curve {
	fleet := n.fleets[0]
	all := curve{Name: "all hosts", Hosts: fleet.Hosts(), Until: f.Ends[2]}
	list := []curve{all}
	at := map[int]int{} // by number of the site: in list
	for _, s := range sites {
		i, _ := fleet.SiteIndex(s.Site)
		at[i] = len(list)
		until := s.Due.Add(s.Due.Sub(fleet.Start) / 8)
		if s.Ready.After(until) {
			until = s.Ready
		}
		list = append(list, curve{Name: named(s.Site), Hosts: s.Hosts + s.NoDue, Due: s.Due, Until: until})
	}
	for i := range list { // a plan without hosts has no end
		if !list[i].Until.After(fleet.Start) {
			list[i].Until = fleet.Start.Add(time.Hour)
		}
	}
	back := make([][][curvePoints + 1]int32, f.Runs) // by run and curve
	todo := make(chan int, f.Runs)
	for i := range f.Runs {
		back[i] = make([][curvePoints + 1]int32, len(list))
		todo <- i
	}
	close(todo)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range todo {
				watch(fleet, rand.New(rand.NewPCG(seed, uint64(i))), list, at, back[i])
			}
		})
	}
	wg.Wait()
	for i := range list {
		list[i].fill(back, i)
	}
	return list
}

// watch counts, in one run that draws as the forecast does, who is back after which step.
func watch(fleet *schedule.Fleet, rng *rand.Rand, list []curve, at map[int]int, back [][curvePoints + 1]int32) {
	ways, models := fleet.Cohorts()
	truth := forecast.Truth{Spread: schedule.Spread}
	truth.Hours, truth.Failed = fleet.Rates.Sample(rng, ways, models)
	count := func(i int, hours float64) {
		step := int(hours / list[i].Until.Sub(fleet.Start).Hours() * curvePoints)
		back[i][min(step+1, curvePoints)]++
	}
	d := schedule.NewDispatcher(fleet, nil)
	if fleet.Hosts() > manyHosts {
		d.Roughly()
	}
	forecast.Run(d, 0, truth, rng.Uint64(), func(e forecast.End) {
		if !e.Back {
			return
		}
		if e.At < list[0].Until.Sub(fleet.Start).Hours() {
			count(0, e.At)
		}
		if i := at[fleet.Bucket(e.Ref).Site]; i > 0 && e.At < list[i].Until.Sub(fleet.Start).Hours() {
			count(i, e.At)
		}
	})
}

// fill turns what came back into what is left.
func (c *curve) fill(back [][][curvePoints + 1]int32, i int) {
	left := make([]float64, len(back))
	for run := range left {
		left[run] = float64(c.Hosts)
	}
	sorted := make([]float64, len(left))
	at := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1)+0.5)] }
	for step := range curvePoints + 1 {
		for run := range left {
			left[run] -= float64(back[run][i][step])
		}
		copy(sorted, left)
		slices.Sort(sorted)
		c.Low, c.Mid, c.High = append(c.Low, at(0.1)), append(c.Mid, at(0.5)), append(c.High, at(0.9))
	}
}
