package schedule

import (
	"math"

	"unbrick/inventory"
)

// The constants of the index; scheduling.md, sections 5 and 6, has what others would do. The
// optimum is flat.
const (
	lookAhead  = 8.0  // τ, hours
	lateFactor = 0.25 // γ: what is late already counts as so much of what may still be saved
)

// An Aspect is what a [Rule] sees of a bucket. Times are in hours.
type Aspect struct {
	Site   int
	Region string
	Tier   inventory.Tier
	Due    float64 // from now; negative: late; infinite: not known
	Slack  float64 // Due less what the queue needs to be worked off
	Weight float64
	Work   float64 // that one host costs until it is back
	Hosts  int     // at the beginning
	Taken  float64 // the share of them that was begun
}

// A Rule says how much a bucket should go first; the greatest goes.
type Rule func(Aspect) float64

// logLate is the logarithm of lateFactor.
const logLate = -1.3862943611198906

// The ranks of what is compared: the index counts among equals only.
const (
	rankService  = iota // others than its own site depend on it
	rankFirst           // its site depends on it, or somebody pinned the site
	rankOrdinary        //
	rankUnknown         // nobody knows when it is due
)

// A key is what lanes are compared by. All that has slack gains on the rest by the same as time
// goes by: its keys hold the index less that gain, and need no work while the clock goes on.
type key struct {
	rank  uint8
	slack bool
	index float64
}

// value returns the index at a time.
func (k key) value(now float64) float64 {
	if k.slack {
		return k.index + now/lookAhead
	}
	return k.index
}

// less says which of two lanes of one heap goes first. No two lanes are equal.
func (d *Dispatcher) less(x, y int32) bool {
	a, b := &d.keys[x], &d.keys[y]
	switch {
	case a.rank != b.rank:
		return a.rank < b.rank
	case a.index != b.index:
		return a.index > b.index
	}
	return x < y // by site, then by cohort
}

// before says which of any two lanes goes first now.
func (d *Dispatcher) before(x, y int32) bool {
	a, b := &d.keys[x], &d.keys[y]
	if a.slack == b.slack || a.rank != b.rank {
		return d.less(x, y)
	}
	if v, w := a.value(d.now), b.value(d.now); v != w {
		return v > w
	}
	return x < y
}

// rank returns the rank of a bucket.
func (d *Dispatcher) rank(b *bucket) uint8 {
	switch {
	case d.rule != nil:
		return rankOrdinary
	case b.class < noService:
		return rankService
	case d.pinned(b.site):
		return rankFirst
	case math.IsInf(b.due, 1): // nor when those are that depend on it
		return rankUnknown
	case b.tier == inventory.Dependency && d.sites[b.site].gate:
		return rankFirst
	}
	return rankOrdinary
}

// pinned says whether an operator put a site first, for now.
func (d *Dispatcher) pinned(site int32) bool { return d.state[site].pin > d.now }
