package schedule

import (
	"math"
	"slices"

	"unbrick/inventory"
)

// A Dispatcher says which bucket the next host is taken of. It holds counts alone: what it says
// is a function of those and of the clock's last tick, so that one made anew of the same counts
// goes on as the old one would have.
type Dispatcher struct {
	*Fleet
	rule  Rule // nil: the index, and the ranks
	rates *Rates
	limit Limits
	now   float64 // hours since the start, at the last tick
	step  float64 // from tick to tick
	rough bool    // keys follow the counts at ticks, and when a bucket runs empty

	todo, fly []int32 // of each bucket
	held      []int32 // of each bucket: hosts that wait for a person; looked ahead with alone
	state     []siteState
	next      []float64 // of each site: when the clock changes its keys
	keys      []key     // of each lane
	heads     []int32   // of each lane: the bucket that is next; -1: none may start
	spots     []int32   // of each lane: its place in its heap; -1: in none
	watches   []watch   // of each site; nil if people work round the clock
	shut      []bool    // of each lane: halted at its site
	pools     []pool
	cohortsAt []cohortState
	waysAt    []wayState
	services  [noService]int // hosts of each class that have not ended

	// By kind, in hours: what a host needs on its way until it is back or goes on to the next,
	// and what it is to need on those after, in each pool.
	own, back []float64
	ahead     [][pools]float64
	worth     []float64        // of each bucket: the logarithm of w/p
	work      [pools][]float64 // scratch: of a site, by when it is due
}

type siteState struct {
	fly    [pools]int32
	images int32
	todo   int32 // hosts
	first  int32 // hosts of the dependency tier that have not ended
	pin    float64
	anyway bool // the pin goes before the dependency tier too
}

type cohortState struct{ fly, cap int32 }

type wayState struct {
	fly, cap int32
	gap      float64 // hours between two starts
	next     float64 // when the next may start
}

// A pool is places, and the lanes that want them.
type pool struct {
	cap, busy int32
	site      int32 // whose people they are, who work nowhere else; -1: there are heaps
	heaps     []heapOf
}

type heapOf struct {
	cohort int32
	slack  bool // what has none is in another heap
	lanes  []int32
}

// NewDispatcher returns one for a fleet of which nothing is begun. A rule other than nil is for
// comparisons: it goes without the index, and without ranks.
func NewDispatcher(f *Fleet, rule Rule) *Dispatcher {
	d := &Dispatcher{Fleet: f, rule: rule, rates: f.Rates, limit: f.limits, step: 1.0 / 6,
		todo: make([]int32, len(f.buckets)), fly: make([]int32, len(f.buckets)), held: make([]int32, len(f.buckets)),
		state: make([]siteState, len(f.sites)), next: make([]float64, len(f.sites)), keys: make([]key, len(f.lanes)), heads: make([]int32, len(f.lanes)),
		spots: make([]int32, len(f.lanes)), shut: make([]bool, len(f.lanes)), cohortsAt: make([]cohortState, len(f.cohorts)),
		waysAt: make([]wayState, len(f.ways)), pools: make([]pool, 2+len(f.people)),
	}
	for i := range d.spots {
		d.spots[i] = -1
	}
	if f.limits.Shift != (Shift{}) {
		d.watches = make([]watch, len(f.sites))
		for i := range d.watches {
			d.watches[i].until = math.Inf(-1)
		}
	}
	for i := range d.cohortsAt {
		d.cohortsAt[i].cap = math.MaxInt32
	}
	for i := range d.pools {
		d.pools[i].site = -1
	}
	for s := range f.sites {
		if f.sites[s].alone {
			d.pools[2+f.sites[s].people].site = int32(s)
		}
	}
	d.pools[0].cap, d.pools[1].cap = int32(f.limits.Slots), int32(f.limits.Cloud)
	for i, p := range f.people {
		d.pools[2+i].cap = int32(min(p.count, math.MaxInt32))
	}
	for i, way := range f.ways {
		d.waysAt[i].cap = math.MaxInt32
		if n := f.ladder.Rung(way).Hosts; n > 0 {
			d.waysAt[i].cap = int32(n)
		}
		if n := f.limits.PerHour[way]; n > 0 {
			d.waysAt[i].gap = 1 / float64(n)
		}
	}
	for i := range f.buckets {
		d.put(int32(i), int(f.buckets[i].hosts))
	}
	d.learn()
	d.rekey()
	return d
}

// put counts n hosts into a bucket that have not been counted anywhere.
func (d *Dispatcher) put(b int32, n int) {
	bk := &d.buckets[b]
	s := &d.state[bk.site]
	d.todo[b] += int32(n)
	s.todo += int32(n)
	if bk.tier == inventory.Dependency {
		s.first += int32(n)
	}
	if bk.class < noService {
		d.services[bk.class] += n
	}
}

// drop counts a host that ended, whether it was to do or in flight.
func (d *Dispatcher) drop(b int32) {
	bk := &d.buckets[b]
	if bk.tier == inventory.Dependency {
		d.state[bk.site].first--
	}
	if bk.class < noService {
		was := d.service()
		if d.services[bk.class]--; d.service() != was {
			d.rekey()
		}
	}
}

// service returns the class of service that is open now; noService if every site is.
func (d *Dispatcher) service() int {
	for c := 1; c < noService; c++ {
		if d.services[c] > 0 {
			return c
		}
	}
	return noService
}

// Clone returns a Dispatcher that goes on by itself from the same counts.
func (d *Dispatcher) Clone() *Dispatcher {
	c := *d
	c.todo, c.fly, c.held = slices.Clone(d.todo), slices.Clone(d.fly), slices.Clone(d.held)
	c.state, c.keys, c.heads, c.spots = slices.Clone(d.state), slices.Clone(d.keys), slices.Clone(d.heads), slices.Clone(d.spots)
	c.shut, c.next, c.watches = slices.Clone(d.shut), slices.Clone(d.next), slices.Clone(d.watches)
	c.cohortsAt, c.waysAt = slices.Clone(d.cohortsAt), slices.Clone(d.waysAt)
	c.pools = slices.Clone(d.pools)
	for i := range c.pools {
		c.pools[i].heaps = slices.Clone(c.pools[i].heaps)
		for j := range c.pools[i].heaps {
			c.pools[i].heaps[j].lanes = slices.Clone(c.pools[i].heaps[j].lanes)
		}
	}
	c.work = [pools][]float64{}
	return &c
}

// learn takes over what the rates say now.
func (d *Dispatcher) learn() {
	n := len(d.kinds)
	d.own, d.back, d.ahead = make([]float64, n), make([]float64, n), make([][pools]float64, n)
	var fill func(k int32)
	fill = func(k int32) {
		if d.own[k] > 0 {
			return
		}
		kd := d.kinds[k]
		c := d.cohorts[kd.cohort]
		hours, failed := d.rates.Mean(d.ways[c.way], c.model)
		again := failed * float64(kd.again)
		d.own[k] = hours / (1 - min(again, 0.99))
		d.back[k] = hours / (1 - min(failed, 0.99))
		if kd.next >= 0 {
			fill(kd.next)
			on := (failed - again) / (1 - min(again, 0.99))
			for p := range d.ahead[k] {
				d.ahead[k][p] = on * d.ahead[kd.next][p]
			}
			d.ahead[k][d.cohorts[d.kinds[kd.next].cohort].pool] += on * d.own[kd.next]
		}
	}
	for k := range d.kinds {
		fill(int32(k))
	}
	d.worth = make([]float64, len(d.buckets))
	for b := range d.buckets {
		d.worth[b] = math.Log(float64(d.buckets[b].weight) / d.back[d.buckets[b].kind])
	}
}

// Roughly makes keys follow the counts less often, and the clock by the hour: to look ahead for
// millions of hosts. Caps and gates are kept as they are.
func (d *Dispatcher) Roughly() { d.rough, d.step = true, 1 }

// Tick moves the clock, at most to the last tick before now. Keys change with the clock only
// here.
func (d *Dispatcher) Tick(now float64) {
	t := math.Floor(now/d.step) * d.step
	if t <= d.now {
		return
	}
	d.now = t
	for s, at := range d.next {
		if at <= t {
			d.refresh(int32(s))
		}
	}
}

// rekey brings the keys of all lanes up to date.
func (d *Dispatcher) rekey() {
	for s := range d.state {
		if d.state[s].todo > 0 {
			d.refresh(int32(s))
		}
	}
}
