package schedule

import (
	"math"
	"strings"
)

// A Queue is the hosts of a site that are to be treated in one pool: what is due by when, and
// how many of them can be in treatment at once, with the places that the pool has. Times are in
// hours; those in Due count from the start of the run.
type Queue struct {
	Site   int
	Pool   Pool
	Places float64
	Own    float64   // of these, those that the site can have whatever the pool has
	One    float64   // that one host is expected to take, of those that take longest, until it is back
	Due    []float64 // rising
	Work   []float64 // expected, of all that is due by then; with what comes of ways that fail
}

// Queues returns the queues of a site that have work.
func (d *Dispatcher) Queues(site int) []Queue {
	s := int32(site)
	d.load(s)
	dues := d.duesOf(s)
	var all []Queue
	for p := range d.work {
		n := len(d.work[p])
		if n == 0 || d.work[p][n-1] == 0 {
			continue
		}
		q := Queue{Site: site, Pool: Pool(p), Places: d.places(s, Pool(p)), Due: dues, Own: d.capAt(s, Pool(p)), One: d.oneOf(s, Pool(p))}
		q.Work = append(q.Work, d.work[p]...)
		all = append(all, q)
	}
	return all
}

// Span returns how long a queue takes to be worked off at most if all its places are used from now
// on: places are not full any more while the last hosts are treated (Graham's bound).
func Span(work, places, one float64) float64 {
	places = max(places, 1)
	return work/places + (1-1/places)*one
}

// whole returns how long a host is expected to be treated until it is back, in all pools.
func (d *Dispatcher) whole(kind int32) float64 {
	sum := d.own[kind]
	for _, hours := range d.ahead[kind] {
		sum += hours
	}
	return sum
}

// oneOf returns how long one host of a site takes, of those in a pool that take longest.
func (d *Dispatcher) oneOf(s int32, p Pool) (one float64) {
	for l := d.sites[s].lanes; l < d.sites[s].ends; l++ {
		if d.cohorts[d.lanes[l].cohort].pool != p {
			continue
		}
		for b := d.lanes[l].first; b < d.lanes[l].end; b++ {
			if d.todo[b] > 0 {
				one = max(one, d.whole(d.buckets[b].kind))
			}
		}
	}
	return one
}

// capAt returns how many hosts of a site could be in treatment at once if its pool had places
// without end: no more than there are.
func (d *Dispatcher) capAt(s int32, p Pool) float64 {
	n := 0
	for l := d.sites[s].lanes; l < d.sites[s].ends; l++ {
		for b := d.lanes[l].first; b < d.lanes[l].end; b++ {
			n += int(d.todo[b] + d.fly[b])
		}
	}
	switch p {
	case Slots:
		n = min(n, d.sites[s].slots)
	case Hands:
		n = min(n, d.sites[s].hands)
	}
	return float64(max(n, 1))
}

// duesOf returns the different due times of a site, rising.
func (d *Dispatcher) duesOf(s int32) []float64 {
	dues := make([]float64, d.sites[s].dues)
	for l := d.sites[s].lanes; l < d.sites[s].ends; l++ {
		for b := d.lanes[l].first; b < d.lanes[l].end; b++ {
			dues[d.buckets[b].dueIndex] = d.buckets[b].due
		}
	}
	return dues
}

// A Stock is how the hosts of a bucket stand.
type Stock struct {
	ToDo, InFlight, Waiting int
	Halted                  bool
}

// Stock returns how the hosts of a bucket stand.
func (d *Dispatcher) Stock(r Ref) Stock {
	b := &d.buckets[r]
	return Stock{ToDo: int(d.todo[r]), InFlight: int(d.fly[r]), Waiting: int(d.held[r]),
		Halted: d.shut[b.lane] || d.cohortsAt[d.kinds[b.kind].cohort].cap == 0}
}

// Return says that a host that waited for a person is to do again.
func (d *Dispatcher) Return(r Ref) {
	b := &d.buckets[r]
	d.held[r]--
	d.todo[r]++
	d.state[b.site].todo++
	d.refresh(b.site)
}

// Gate says which services are open: it changes when all sites have to be looked at.
func (d *Dispatcher) Gate() int { return d.service() }

// Gated says whether the hosts of a site still wait for those that it depends on.
func (d *Dispatcher) Gated(site int) bool {
	return d.sites[site].gate && d.state[site].first > 0
}

// Capped says whether a way has a cap of its own, or a rate.
func (d *Dispatcher) Capped(r Ref) bool {
	w := &d.waysAt[d.cohorts[d.kinds[d.buckets[r].kind].cohort].way]
	return w.cap < math.MaxInt32 || w.gap > 0
}

// ByHand says whether people treat the hosts of a bucket.
func (d *Dispatcher) ByHand(r Ref) bool {
	return d.cohorts[d.kinds[d.buckets[r].kind].cohort].pool == Hands
}

// HandsRated says whether people may begin only so many hosts in an hour.
func (d *Dispatcher) HandsRated() bool {
	for i := range d.cohorts {
		if c := &d.cohorts[i]; c.pool == Hands && d.waysAt[c.way].gap > 0 {
			return true
		}
	}
	return false
}

// Caps returns how many hosts may be in treatment at once, in the pools that all sites share and
// by each way that has a cap, named as a [Change] names them: "slots", "cloud", "route.redfish".
func (d *Dispatcher) Caps() map[string]int {
	all := map[string]int{"slots": int(d.pools[0].cap)}
	if d.pools[1].cap > 0 {
		all["cloud"] = int(d.pools[1].cap)
	}
	for i, w := range d.waysAt {
		if w.cap < math.MaxInt32 {
			all["route."+d.ways[i]] = int(w.cap)
		}
	}
	return all
}

// Need returns how long a host of the bucket is expected to be treated by its way, in hours:
// until it is back, or goes on to the next.
func (d *Dispatcher) Need(r Ref) float64 { return d.own[d.buckets[r].kind] }

// Means returns how long each cohort is thought to take, in hours, and to fail.
func (d *Dispatcher) Means() (hours, failed []float64) {
	for _, c := range d.cohorts {
		h, f := d.rates.Mean(d.ways[c.way], c.model)
		hours, failed = append(hours, h), append(failed, f)
	}
	return hours, failed
}

// Learned returns what the plan goes by, to draw from.
func (d *Dispatcher) Learned() *Rates { return d.rates }

// Counts returns where the run stands, to look ahead from: it does not change with the Planner.
func (p *Planner) Counts() *Dispatcher {
	c := p.d.Clone()
	for _, at := range p.at {
		b := &c.buckets[at.bucket]
		switch {
		case at.state == kept: // in its turn before the hosts that follow
			c.todo[at.bucket]++
			c.state[b.site].todo++
		case at.state == waiting && c.cohorts[c.kinds[b.kind].cohort].pool != Hands:
			c.held[at.bucket]++
			if b.class < noService {
				c.services[b.class]++
			}
		}
	}
	c.rekey()
	return c
}

// Roams says whether the technicians of a site go to other sites too.
func (f *Fleet) Roams(site int) bool {
	return strings.HasPrefix(f.people[f.sites[site].people].name, roamingName)
}

// People returns how many technicians of a country go from site to site.
func (d *Dispatcher) People(country string) int {
	for i, p := range d.people {
		if p.name == roamingName+country {
			return int(d.pools[2+i].cap)
		}
	}
	return 0
}

// Goes says whether a site has hosts to treat by a way.
func (d *Dispatcher) Goes(site int, way string) bool {
	for l := d.sites[site].lanes; l < d.sites[site].ends; l++ {
		if d.ways[d.cohorts[d.lanes[l].cohort].way] == way {
			return true
		}
	}
	return false
}
