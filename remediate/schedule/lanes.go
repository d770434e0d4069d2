package schedule

import (
	"math"

	"unbrick/inventory"
	"unbrick/remediate"
)

// refresh brings the keys of the lanes of a site up to date, and their places in the heaps.
func (d *Dispatcher) refresh(s int32) {
	site, st := &d.sites[s], &d.state[s]
	d.load(s)
	open := d.service()
	ready := !site.gate || st.first == 0 || st.anyway && d.pinned(s)
	next := math.Inf(1)
	if d.pinned(s) {
		next = st.pin
	}
	for l := site.lanes; l < site.ends; l++ {
		pool := d.cohorts[d.lanes[l].cohort].pool
		d.heads[l] = -1
		best := key{rank: math.MaxUint8}
		most, slack, none := 0.0, false, false
		for b := d.lanes[l].first; b < d.lanes[l].end; b++ {
			bk := &d.buckets[b]
			if d.todo[b] == 0 || int(bk.class) > open || !(ready || bk.tier == inventory.Dependency || bk.class < noService) {
				continue
			}
			k, until := d.key(b, pool)
			v := k.value(d.now)
			if d.heads[l] < 0 || k.rank < best.rank || k.rank == best.rank && v > most {
				best, most, d.heads[l] = k, v, b
			}
			slack, none = slack || k.slack, none || !k.slack
			next = min(next, until)
		}
		if slack && none { // one may overtake the other
			next = d.now
		}
		same := d.heads[l] >= 0 && d.keys[l] == best
		if d.heads[l] >= 0 {
			d.rekeyLane(l, best)
			if pool == Hands && d.watches != nil {
				d.atWork(s)
				next = min(next, d.watches[s].until)
			}
		}
		if !same || d.spots[l] < 0 || d.shut[l] {
			d.place(l)
		}
	}
	d.next[s] = next
}

// rekeyLane gives a lane its key, and takes it out of its heap if it belongs into another.
func (d *Dispatcher) rekeyLane(l int32, k key) {
	if d.keys[l].slack != k.slack {
		d.sink(l)
	}
	d.keys[l] = k
}

// place puts a lane into its heap if a host of it may start, and takes it out if none may. Of
// those whose site gets full later, [Dispatcher.bestOf] takes out what comes to the top.
func (d *Dispatcher) place(l int32) {
	ln := &d.lanes[l]
	if d.sites[ln.site].alone && d.cohorts[ln.cohort].pool == Hands {
		return // they are in no heap
	}
	if d.heads[l] < 0 || d.shut[l] || !d.room(ln.site, &d.cohorts[ln.cohort]) {
		d.sink(l)
		return
	}
	d.float(l)
}

// placeAll puts the lanes of a site back that were taken out because it had no room, by the keys
// that they have.
func (d *Dispatcher) placeAll(s int32) {
	for l := d.sites[s].lanes; l < d.sites[s].ends; l++ {
		if d.spots[l] < 0 && d.heads[l] >= 0 {
			d.place(l)
		}
	}
}

// load sums up the work of a site in each pool: that of the hosts that wait, and what those
// that wait or are in flight are to need when their way fails.
func (d *Dispatcher) load(s int32) {
	site := &d.sites[s]
	for p := range d.work {
		if cap(d.work[p]) < site.dues {
			d.work[p] = make([]float64, site.dues)
		}
		d.work[p] = d.work[p][:site.dues]
		clear(d.work[p])
	}
	for l := site.lanes; l < site.ends; l++ {
		p := d.cohorts[d.lanes[l].cohort].pool
		for b := d.lanes[l].first; b < d.lanes[l].end; b++ {
			n := d.todo[b] + d.fly[b]
			if n == 0 {
				continue
			}
			bk := &d.buckets[b]
			d.work[p][bk.dueIndex] += float64(d.todo[b]) * d.own[bk.kind]
			if p == Hands {
				d.work[p][bk.dueIndex] += float64(d.todo[b]) * site.trip
			}
			for q := range d.work {
				d.work[q][bk.dueIndex] += float64(n) * d.ahead[bk.kind][q]
			}
		}
	}
	for p := range d.work {
		for i := 1; i < site.dues; i++ {
			d.work[p][i] += d.work[p][i-1]
		}
	}
}

// places returns how many hosts of a site can be in a pool at once.
func (d *Dispatcher) places(s int32, p Pool) float64 {
	switch site := &d.sites[s]; p {
	case Hands:
		return float64(min(int32(min(site.hands, math.MaxInt32)), d.pools[2+site.people].cap))
	case Cloud:
		return float64(d.pools[1].cap)
	default:
		return float64(min(int32(min(site.slots, math.MaxInt32)), d.pools[0].cap))
	}
}

// key returns the key of a bucket of the site that was loaded last, and until when it holds if
// the counts stay as they are. The rule that runs follow is apparent tardiness cost (Vepsalainen
// and Morton 1987) on queues, with a factor for what is late. The index is the logarithm of
//
//	w/p · exp(−max(0, slack)/τ)   before the opening
//	γ · w/p                       after it
//	w/p                           if nobody knows it: among its like alone
func (d *Dispatcher) key(b int32, p Pool) (k key, until float64) {
	bk := &d.buckets[b]
	k.rank = d.rank(bk)
	if d.rule != nil {
		k.index = d.rule(d.aspect(b, p))
		return k, d.now
	}
	k.index = d.worth[b]
	if math.IsInf(bk.due, 1) {
		return k, bk.due
	}
	if bk.due <= d.now {
		k.index += logLate
		return k, math.Inf(1)
	}
	if latest := bk.due - d.need(b, p); latest > d.now {
		k.index, k.slack = k.index-latest/lookAhead, true
		return k, latest
	}
	return k, bk.due
}

// need returns how long the queue of a bucket takes to be worked off, as far as it is due when
// the bucket is.
func (d *Dispatcher) need(b int32, p Pool) float64 {
	return d.work[p][d.buckets[b].dueIndex] / d.placesOf(b, p)
}

// placesOf returns how many hosts of the queue of a bucket can be in treatment at once.
func (d *Dispatcher) placesOf(b int32, p Pool) float64 {
	bk := &d.buckets[b]
	c := d.places(bk.site, p)
	if n := float64(d.limit.Images); n > 0 && n < c && remediate.Streams(d.wayOf(bk.kind)) {
		c = n
	}
	return max(c, 1)
}

func (d *Dispatcher) aspect(b int32, p Pool) Aspect {
	bk := &d.buckets[b]
	due := bk.due - d.now
	a := Aspect{Site: int(bk.site), Region: d.sites[bk.site].Region, Tier: bk.tier, Due: due, Slack: due - d.need(b, p),
		Weight: float64(bk.weight), Work: d.back[bk.kind]}
	if n := bk.hosts; n > 0 {
		a.Hosts = int(n)
		a.Taken = 1 - float64(d.todo[b])/float64(n)
	}
	return a
}

func (d *Dispatcher) wayOf(kind int32) string { return d.ways[d.cohorts[d.kinds[kind].cohort].way] }

// room says whether a site can take one more host of a cohort.
func (d *Dispatcher) room(s int32, c *cohort) bool {
	site, st := &d.sites[s], &d.state[s]
	switch c.pool {
	case Hands:
		return (site.alone || int(st.fly[Hands]) < site.hands) && d.atWork(s)
	case Cloud:
		return true
	}
	if d.limit.Images > 0 && int(st.images) >= d.limit.Images && remediate.Streams(d.ways[c.way]) {
		return false
	}
	return int(st.fly[Slots]) < site.slots
}

// poolAt returns the pool that the lanes of a cohort at a site draw on.
func (d *Dispatcher) poolAt(s int32, p Pool) int32 {
	switch p {
	case Hands:
		return 2 + d.sites[s].people
	case Cloud:
		return 1
	}
	return 0
}

// heap returns the heap of a lane.
func (d *Dispatcher) heap(l int32) *heapOf {
	ln := &d.lanes[l]
	p := &d.pools[d.poolAt(ln.site, d.cohorts[ln.cohort].pool)]
	for i := range p.heaps {
		if p.heaps[i].cohort == ln.cohort && p.heaps[i].slack == d.keys[l].slack {
			return &p.heaps[i]
		}
	}
	p.heaps = append(p.heaps, heapOf{cohort: ln.cohort, slack: d.keys[l].slack})
	return &p.heaps[len(p.heaps)-1]
}

// float puts a lane where its key wants it to be.
func (d *Dispatcher) float(l int32) {
	h := d.heap(l)
	if d.spots[l] < 0 {
		d.spots[l] = int32(len(h.lanes))
		h.lanes = append(h.lanes, l)
	}
	if i := int(d.spots[l]); !d.up(h, i) {
		d.down(h, i)
	}
}

// sink takes a lane out.
func (d *Dispatcher) sink(l int32) {
	if d.spots[l] < 0 {
		return
	}
	h, i := d.heap(l), int(d.spots[l])
	d.spots[l] = -1
	last := h.lanes[len(h.lanes)-1]
	h.lanes = h.lanes[:len(h.lanes)-1]
	if last != l {
		h.lanes[i], d.spots[last] = last, int32(i)
		if !d.up(h, i) {
			d.down(h, i)
		}
	}
}

func (d *Dispatcher) up(h *heapOf, i int) (moved bool) {
	for i > 0 {
		parent := (i - 1) / 2
		if !d.less(h.lanes[i], h.lanes[parent]) {
			return moved
		}
		d.swap(h, i, parent)
		i, moved = parent, true
	}
	return moved
}

func (d *Dispatcher) down(h *heapOf, i int) {
	for {
		child := 2*i + 1
		if child+1 < len(h.lanes) && d.less(h.lanes[child+1], h.lanes[child]) {
			child++
		}
		if child >= len(h.lanes) || !d.less(h.lanes[child], h.lanes[i]) {
			return
		}
		d.swap(h, i, child)
		i = child
	}
}

func (d *Dispatcher) swap(h *heapOf, i, j int) {
	h.lanes[i], h.lanes[j] = h.lanes[j], h.lanes[i]
	d.spots[h.lanes[i]], d.spots[h.lanes[j]] = int32(i), int32(j)
}
