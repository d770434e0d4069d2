package main

import (
	"time"

	"unbrick/inventory"
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

// order returns the first hosts as they would be begun if every treatment took as long as it
// does on average and none failed, then those that are not in the plan; at most of them in all.
func (n *census) order(most int) []planLine {
	lines := make([]planLine, 0, min(most, n.total))
	f := n.fleets[0]
	for s := range schedule.NewPlanner(f).Order(f.Start) {
		if len(lines) == most {
			break
		}
		lines = append(lines, planLine{Name: s.Host, Site: s.Site, Tier: s.Tier, Due: s.Due, Known: !s.Due.IsZero(), Begins: s.At.UTC(),
			Latest: s.Latest, Way: s.Way, Why: s.Why(), Routes: n.hosts[s.Index].Routes})
	}
	for i := range n.hosts {
		if why, out := n.out[i]; out && len(lines) < most {
			h := &n.hosts[i]
			lines = append(lines, planLine{Name: h.Name, Site: h.Site, Tier: h.Tier, Why: "not in the plan: " + why, Routes: h.Routes})
		}
	}
	return lines
}
