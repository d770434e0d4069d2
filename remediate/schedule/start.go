package schedule

import (
	"math"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A Ref is a bucket of a fleet.
type Ref int32

// A Bucket is what the plan knows of the hosts of a [Ref].
type Bucket struct {
	Site   int // in Fleet.Places
	Cohort int // way and model, in Fleet.Cohorts
	Tier   inventory.Tier
	Due    float64 // hours since the start; infinite if not known
	Weight float64
	Hosts  int     // at the beginning
	Again  float64 // the share of failures that stay here; the others go on to Next
	Next   Ref     // -1: nowhere
	Pool   Pool
}

// Bucket returns what is known of r.
func (f *Fleet) Bucket(r Ref) Bucket {
	b := &f.buckets[r]
	k := f.kinds[b.kind]
	return Bucket{Site: int(b.site), Cohort: int(k.cohort), Tier: b.tier, Due: b.due, Weight: float64(b.weight),
		Hosts: int(b.hosts), Again: float64(k.again), Next: Ref(b.next), Pool: f.cohorts[k.cohort].pool}
}

// Buckets returns how many buckets there are; their Refs count from 0, site by site.
func (f *Fleet) Buckets() int { return len(f.buckets) }

// Cohorts returns the way and the model of each cohort.
func (f *Fleet) Cohorts() (ways, models []string) {
	for _, c := range f.cohorts {
		ways, models = append(ways, f.ways[c.way]), append(models, c.model)
	}
	return ways, models
}

// StartIn begins the next host of a pool, as PoolsAt numbers them, at now, in hours since the
// start: ok is false if no place is free that one may take.
func (d *Dispatcher) StartIn(pool int, now float64) (r Ref, ok bool) {
	l := d.bestOf(pool, now)
	if l < 0 {
		return -1, false
	}
	return d.begin(l, now), true
}

// Pools returns how many pools there are.
func (d *Dispatcher) Pools() int { return len(d.pools) }

// bestOf returns the lane that goes next in a pool; -1 if none may. It takes out those on top
// whose site has got full.
func (d *Dispatcher) bestOf(pool int, now float64) int32 {
	best, p := int32(-1), &d.pools[pool]
	if p.busy >= p.cap {
		return best
	}
	if p.site >= 0 {
		return d.bestAt(p.site, now)
	}
	for i := range p.heaps {
		h := &p.heaps[i]
		if !d.open(h.cohort, now) {
			continue
		}
		for len(h.lanes) > 0 && (best < 0 || d.before(h.lanes[0], best)) {
			if l := h.lanes[0]; d.room(d.lanes[l].site, &d.cohorts[h.cohort]) {
				best = l
			} else {
				d.sink(l)
			}
		}
	}
	return best
}

// bestAt returns the lane that goes next with the people of a site; -1 if none may. There are few:
// to look at them all costs less than to keep them in heaps.
func (d *Dispatcher) bestAt(s int32, now float64) int32 {
	best := int32(-1)
	if !d.atWork(s) {
		return best
	}
	for l := d.sites[s].hand; l < d.sites[s].handTo; l++ {
		if d.heads[l] >= 0 && !d.shut[l] && (best < 0 || d.before(l, best)) && d.open(d.lanes[l].cohort, now) {
			best = l
		}
	}
	return best
}

// open says whether the caps of a cohort and its way leave room for one more.
func (d *Dispatcher) open(cohort int32, now float64) bool {
	c := &d.cohortsAt[cohort]
	w := &d.waysAt[d.cohorts[cohort].way]
	return c.fly < c.cap && w.fly < w.cap && w.next <= now
}

// begin takes a host of the bucket at the head of a lane.
func (d *Dispatcher) begin(l int32, now float64) Ref {
	b := d.heads[l]
	site := d.buckets[b].site
	d.todo[b]--
	d.state[site].todo--
	d.count(b, 1)
	if w := &d.waysAt[d.cohorts[d.lanes[l].cohort].way]; w.gap > 0 {
		w.next = max(w.next, now-w.gap) + w.gap // one may have been missed, not more
	}
	if !d.rough || d.todo[b] == 0 {
		d.refresh(site)
	}
	return Ref(b)
}

// count changes what is in flight by n hosts of a bucket.
func (d *Dispatcher) count(b int32, n int32) {
	bk := &d.buckets[b]
	c := &d.cohorts[d.kinds[bk.kind].cohort]
	st := &d.state[bk.site]
	d.fly[b] += n
	st.fly[c.pool] += n
	if remediate.Streams(d.ways[c.way]) {
		st.images += n
	}
	d.cohortsAt[d.kinds[bk.kind].cohort].fly += n
	d.waysAt[c.way].fly += n
	d.pools[d.poolAt(bk.site, c.pool)].busy += n
}

// Finish ends a treatment: the host goes on to another bucket of its site, or, if that is -1,
// has ended.
func (d *Dispatcher) Finish(r, to Ref) {
	b := int32(r)
	bk := &d.buckets[b]
	full := !d.room(bk.site, &d.cohorts[d.kinds[bk.kind].cohort])
	d.count(b, -1)
	if to < 0 {
		d.drop(b)
	} else {
		d.todo[to]++
		d.state[bk.site].todo++
	}
	switch {
	case !d.rough || to >= 0 || bk.tier == inventory.Dependency:
		d.refresh(bk.site)
	case full:
		d.placeAll(bk.site)
	}
}

// Wake returns when the next way may start a host that may not now because of its rate; false
// if no way waits for that.
func (d *Dispatcher) Wake(now float64) (at float64, ok bool) {
	at = math.Inf(1)
	for i := range d.waysAt {
		if w := &d.waysAt[i]; w.next > now {
			at = min(at, w.next)
		}
	}
	return at, !math.IsInf(at, 1)
}

// Limit caps how many hosts of a way and model are treated at once: a ring, or 0 for a halt.
// Negative is no cap.
func (d *Dispatcher) Limit(way, model string, n int) {
	for i := range d.cohorts {
		if d.ways[d.cohorts[i].way] == way && d.cohorts[i].model == model {
			d.cohortsAt[i].cap = int32(n)
			if n < 0 {
				d.cohortsAt[i].cap = math.MaxInt32
			}
		}
	}
}

// Shut makes hosts of a site wait that are to be treated by a way, or no longer.
func (d *Dispatcher) Shut(way string, site int, shut bool) {
	for l := d.sites[site].lanes; l < d.sites[site].ends; l++ {
		if d.ways[d.cohorts[d.lanes[l].cohort].way] == way {
			d.shut[l] = shut
		}
	}
	d.refresh(int32(site))
}

// Pin puts a site before all others until then: anyway says even before its own dependency
// tier is done. The zero time ends it.
func (d *Dispatcher) Pin(site int, until time.Time, anyway bool) {
	d.state[site].pin, d.state[site].anyway = 0, anyway
	if !until.IsZero() {
		d.state[site].pin = d.hoursOf(until)
	}
	d.refresh(int32(site))
}

// SiteIndex returns the number of a site in Fleet.Places.
func (f *Fleet) SiteIndex(name string) (int, bool) {
	return search(len(f.sites), func(i int) string { return f.sites[i].Site }, name)
}

// search finds a name among n sorted ones.
func search(n int, at func(int) string, name string) (int, bool) {
	low, high := 0, n
	for low < high {
		if mid := (low + high) / 2; at(mid) < name {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, low < n && at(low) == name
}

// SiteOf returns where the hosts of a bucket stand, in Fleet.Places.
func (f *Fleet) SiteOf(r Ref) int { return int(f.buckets[r].site) }

// DueOf returns when the hosts of a bucket are due, as [Bucket] has it.
func (f *Fleet) DueOf(r Ref) float64 { return f.buckets[r].due }

// Cohort returns the way and model of a bucket, in Fleet.Cohorts.
func (f *Fleet) Cohort(r Ref) int { return int(f.kinds[f.buckets[r].kind].cohort) }

// PoolsAt returns the pools that the site of a bucket draws on.
func (d *Dispatcher) PoolsAt(r Ref) [3]int {
	return [3]int{0, 1, int(2 + d.sites[d.buckets[r].site].people)}
}
