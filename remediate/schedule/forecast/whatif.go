package forecast

import (
	"cmp"
	"slices"

	"unbrick/remediate/schedule"
)

// How much is tried out: a forecast is made in seconds, and so are all of these together.
const (
	triedChanges = 4
	triedRuns    = 4
	triedEach    = 20_000 // hosts, in all runs of a change: of few hosts it is tried oftener
	triedHosts   = 300_000
)

// saves finds out how many more hosts the changes bring back in time that would do at the places
// with the most hosts late.
func (l *look) saves(f *Forecast) {
	if l.todo > triedHosts {
		return
	}
	var list []Need
	seen := map[string]bool{}
	sites := slices.Clone(f.Sites)
	slices.SortStableFunc(sites, func(a, b Line) int {
		return cmp.Compare(b.Hosts-b.OnTime.P50, a.Hosts-a.OnTime.P50)
	})
	for _, s := range sites {
		if n := s.Need; n != nil && !seen[n.Text] && len(list) < triedChanges {
			seen[n.Text] = true
			list = append(list, *n)
		}
	}
	runs := min(max(triedRuns, triedEach/max(l.todo, 1)), len(l.results))
	before := l.onTime(l.results[:runs])
	for _, n := range list {
		d, err := l.d.With([]schedule.Change{n.Change}, l.o.Now)
		if err != nil {
			continue // what cannot be changed saves nobody
		}
		more := l.onTime(l.runs(d, runs)) - before
		if more <= 0 {
			continue
		}
		n.Saves = &more
		f.Saves = append(f.Saves, n)
	}
	slices.SortStableFunc(f.Saves, func(a, b Need) int { return cmp.Compare(*b.Saves, *a.Saves) })
}

// onTime returns how many hosts are in time, on average.
func (l *look) onTime(results []result) int {
	sum := 0
	for _, r := range results {
		for _, n := range r.onTime {
			sum += int(n)
		}
	}
	return sum / max(len(results), 1)
}

// A Cost is what a change does: hosts in time that are more, or fewer, at a site and elsewhere.
type Cost struct {
	Here      int `json:"here"`
	Elsewhere int `json:"elsewhere"`
}

// CostOf compares two forecasts of the same hosts: what a pin of a site costs the others.
func CostOf(site string, before, after Forecast) Cost {
	at := func(f Forecast) (here, all int) {
		for _, s := range f.Sites {
			if s.Name == site {
				here = s.OnTime.P50
			}
		}
		return here, f.All.OnTime.P50
	}
	h0, a0 := at(before)
	h1, a1 := at(after)
	return Cost{Here: h1 - h0, Elsewhere: (a1 - h1) - (a0 - h0)}
}
