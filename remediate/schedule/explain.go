package schedule

import (
	"fmt"
	"math"
	"strings"
	"time"

	"unbrick/inventory"
)

// choice returns what is to say of the bucket at the head of a lane.
func (d *Dispatcher) choice(l int32) Choice {
	bk := &d.buckets[d.heads[l]]
	s := &d.sites[bk.site]
	c := &d.cohorts[d.lanes[l].cohort]
	k := d.keys[l]
	out := Choice{Site: s.Site, Way: d.ways[c.way], Model: c.model, Tier: bk.tier, Value: math.Exp(k.value(d.now)),
		Pinned: d.pinned(bk.site), Others: bk.tier == inventory.Dependency && s.gate, Serves: k.rank == rankService}
	if math.IsInf(bk.due, 1) {
		return out
	}
	d.load(bk.site)
	latest := d.Before(int(bk.site), c.pool, bk.due, Span(d.work[c.pool][bk.dueIndex], d.placesOf(d.heads[l], c.pool), d.whole(bk.kind)))
	out.Due, out.Latest = d.At(bk.due).In(s.Clock), d.At(latest).In(s.Clock)
	out.Slack = time.Duration((latest - d.now) * float64(time.Hour)).Round(time.Minute)
	return out
}

// Why says in one line why the host is begun now.
func (c Choice) Why() string {
	parts := []string{c.Tier.String()}
	if c.Pinned {
		parts = append(parts, "its site is pinned")
	}
	switch {
	case c.Serves:
		parts = append(parts, "every site depends on it")
	case c.Others:
		parts = append(parts, "others depend on it")
	}
	switch {
	case c.Due.IsZero() && (c.Pinned || c.Serves):
		parts = append(parts, "no opening known")
	case c.Due.IsZero():
		parts = append(parts, "no opening known: after all others")
	default:
		parts = append(parts, "due "+stamp(c.Due), spare(c.Slack), "queue to start by "+c.Latest.Format("Mon 15:04"))
	}
	return strings.Join(append(parts, fmt.Sprintf("index %.3g, place %d", c.Value, c.Place)), "; ")
}

// spare says how much time a queue has left.
func spare(d time.Duration) string {
	hm := func(d time.Duration) string { return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60) }
	if d < 0 {
		return hm(-d) + " too little"
	}
	return hm(d) + " to spare"
}
