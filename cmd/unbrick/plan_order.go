package main

import (
	"container/heap"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// A planLine is one host in the order in which the plan begins them.
type planLine struct {
	Name   string            `json:"host"`
	Site   string            `json:"site,omitempty"`
	Tier   inventory.Tier    `json:"tier"`
	Due    time.Time         `json:"due,omitzero"` // in the zone of its site
	Known  bool              `json:"known"`        // whether there is a due time
	Begins time.Time         `json:"begins,omitzero"`
	Latest time.Time         `json:"latest,omitzero"` // for its queue to be worked off by Due
	Way    string            `json:"way,omitempty"`   // the first
	Why    string            `json:"why"`
	Routes []inventory.Route `json:"routes"`
}

// longestPlan bounds how far an order looks: hosts that are not begun by then never are.
const longestPlan = 90 * 24 * time.Hour

// order returns the first hosts as they would be begun if every treatment took as long as it
// does on average and none failed, then those that are not in the plan; at most of them in all.
func (n *census) order(most int) []planLine {
	f := n.fleets[0]
	p, now := schedule.NewPlanner(f), f.Start
	var flying flights
	var lines []planLine
	for len(lines) < min(most, f.Hosts()) && now.Sub(f.Start) < longestPlan {
		taken := p.Take(now, min(most, f.Hosts())-len(lines))
		for _, c := range taken {
			lines = append(lines, n.line(c, now))
			hours, _ := f.Rates.Mean(c.Way, c.Model)
			heap.Push(&flying, flight{now.Add(time.Duration(hours * float64(time.Hour))), c.Host, c.Way})
		}
		if len(taken) > 0 {
			continue
		}
		now = now.Add(time.Minute) // a way may have to wait for its rate
		if len(flying) > 0 && flying[0].lands.After(now) {
			now = flying[0].lands
		}
		for len(flying) > 0 && !flying[0].lands.After(now) {
			c := heap.Pop(&flying).(flight)
			p.Done(schedule.Outcome{Host: c.host, Way: c.way, Verdict: remediate.Fixed}) // of this plan: it is known
		}
	}
	for i := range n.hosts {
		if why, out := n.out[i]; out && len(lines) < most {
			h := &n.hosts[i]
			lines = append(lines, planLine{Name: h.Name, Site: h.Site, Tier: h.Tier, Why: "not in the plan: " + why, Routes: h.Routes})
		}
	}
	return lines
}

func (n *census) line(c schedule.Choice, now time.Time) planLine {
	return planLine{Name: c.Host, Site: c.Site, Tier: c.Tier, Due: c.Due, Known: !c.Due.IsZero(), Begins: now.UTC(), Latest: c.Latest,
		Way: c.Way, Why: c.Why(), Routes: n.hosts[c.Index].Routes}
}

// A flight is a treatment that is under way.
type flight struct {
	lands     time.Time
	host, way string
}

// flights is a heap, the next to land on top.
type flights []flight

func (f flights) Len() int { return len(f) }
func (f flights) Less(i, j int) bool {
	return f[i].lands.Before(f[j].lands) || f[i].lands.Equal(f[j].lands) && f[i].host < f[j].host
}
func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)   { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}
