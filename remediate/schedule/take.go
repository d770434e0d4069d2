package schedule

import (
	"container/heap"
	"math"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A Choice is a host to begin now, and why.
type Choice struct {
	Host   string
	Index  int // as [Builder.Add] was told
	Site   string
	Way    string
	Model  string
	Tier   inventory.Tier
	Due    time.Time     // in the zone of the site; zero if not known
	Slack  time.Duration // Due less what its queue needs, the last host of it included
	Latest time.Time     // when work on the queue must begin for it to be worked off by Due
	Value  float64       // the index
	Place  int           // the how many-th host that was begun: its rank
	Pinned bool
	Others bool // others of its site depend on it
	Serves bool // every site does
}

// Take begins at most free hosts at now and returns them, first things first.
func (p *Planner) Take(now time.Time, free int) []Choice {
	t := p.d.hoursOf(now)
	learnt := p.stale && math.Floor(t/p.d.step)*p.d.step > p.d.now
	if learnt {
		p.d.learn()
		p.stale = false
	}
	if p.d.Tick(t); learnt {
		p.d.rekey()
	}
	q := p.queue(t)
	var choices []Choice
	for len(choices) < free && len(q.pools) > 0 {
		l := q.best[q.pools[0]]
		b := p.d.heads[l]
		if h, ok := p.next(b); ok {
			choices = append(choices, p.take(h, l, t))
		}
		q.update(p.d.buckets[b].site, l)
	}
	return choices
}

// next returns the first host of a bucket that may start, and puts those aside that may not
// because of their group.
func (p *Planner) next(b int32) (int32, bool) {
	for len(p.lines[b]) > 0 {
		h := p.lines[b][0]
		heap.Pop(&p.lines[b])
		if s := p.at[h]; s.bucket != b || s.state != todo {
			continue
		}
		if t := p.blocking(h); t != 0 {
			p.at[h].state = kept
			p.kept[t] = append(p.kept[t], h)
			p.withdraw(b, -1)
			return 0, false
		}
		return h, true
	}
	p.withdraw(b, -p.d.todo[b]) // cannot be: lines and counts change together
	return 0, false
}

// blocking returns the token that a host cannot have now; 0 if it can have all.
func (p *Planner) blocking(h int32) int32 {
	for i, t := range p.tokens(h, p.at[h].bucket) {
		if t != 0 && int(p.used[t]) >= [...]int{1, p.d.limit.PerSubnet}[i] {
			return t
		}
	}
	return 0
}

// tokens returns what a host has one of while it is treated from a bucket: its group, and a
// place in the network of its controller.
func (p *Planner) tokens(h, bucket int32) [2]int32 {
	m := &p.d.hosts[h]
	if !remediate.OutOfBand(p.d.wayOf(p.d.buckets[bucket].kind)) {
		return [2]int32{m.group, 0}
	}
	return [2]int32{m.group, m.subnet}
}

// withdraw changes how many hosts of a bucket may start.
func (p *Planner) withdraw(b int32, n int32) {
	p.d.todo[b] += n
	p.d.state[p.d.buckets[b].site].todo += n
	p.d.refresh(p.d.buckets[b].site)
}

// take begins a host of the bucket at the head of a lane.
func (p *Planner) take(h, l int32, now float64) Choice {
	c := p.d.choice(l)
	p.taken++
	c.Host, c.Index, c.Place = p.d.names[h], int(p.d.hosts[h].index), p.taken
	p.at[h].state = flying
	p.hold(h, p.d.heads[l], 1)
	p.d.begin(l, now)
	return c
}

// hold takes the tokens of a host, or with −1 gives them back and those that wait for them
// their turn.
func (p *Planner) hold(h, bucket int32, n int32) {
	for _, t := range p.tokens(h, bucket) {
		if t == 0 {
			continue
		}
		if p.used[t] += n; p.used[t] == 0 {
			delete(p.used, t)
		}
		if n > 0 {
			continue
		}
		free := p.kept[t]
		delete(p.kept, t)
		for _, other := range free {
			if p.at[other].state == kept {
				p.at[other].state = todo
				heap.Push(&p.lines[p.at[other].bucket], other)
				p.withdraw(p.at[other].bucket, 1)
			}
		}
	}
}

// A poolQueue has the pools that have a host to begin, the one with the first of them on top.
type poolQueue struct {
	d     *Dispatcher
	now   float64
	pools []int32
	spot  []int32 // of each pool: where it is in pools; -1: nowhere
	best  []int32 // of each pool in pools: the lane that is next
}

// queue makes the queue anew, of what is there.
func (p *Planner) queue(now float64) *poolQueue {
	q := &p.wants
	if q.d == nil {
		*q = poolQueue{d: p.d, spot: make([]int32, len(p.d.pools)), best: make([]int32, len(p.d.pools))}
	}
	q.now = now
	q.fill()
	return q
}

// fill looks at all pools anew.
func (q *poolQueue) fill() {
	q.pools = q.pools[:0]
	for pool := range q.d.pools {
		l := q.d.bestOf(pool, q.now)
		q.best[pool], q.spot[pool] = l, -1
		if l >= 0 {
			q.spot[pool] = int32(len(q.pools))
			q.pools = append(q.pools, int32(pool))
		}
	}
	heap.Init(q)
}

// update looks again at what a start in a lane of a site may have changed.
func (q *poolQueue) update(site, lane int32) {
	c := q.d.lanes[lane].cohort
	w := &q.d.waysAt[q.d.cohorts[c].way]
	if w.fly >= w.cap || w.gap > 0 || q.d.cohortsAt[c].fly >= q.d.cohortsAt[c].cap {
		q.fill() // it may be on top of any
		return
	}
	for _, pool := range []int32{0, 1, 2 + q.d.sites[site].people} {
		i := int(q.spot[pool])
		if i < 0 {
			continue
		}
		if l := q.d.bestOf(int(pool), q.now); l >= 0 {
			q.best[pool] = l
			heap.Fix(q, i)
		} else {
			heap.Remove(q, i)
		}
	}
}

func (q *poolQueue) Len() int           { return len(q.pools) }
func (q *poolQueue) Less(i, j int) bool { return q.d.before(q.best[q.pools[i]], q.best[q.pools[j]]) }
func (q *poolQueue) Swap(i, j int) {
	q.pools[i], q.pools[j] = q.pools[j], q.pools[i]
	q.spot[q.pools[i]], q.spot[q.pools[j]] = int32(i), int32(j)
}
func (q *poolQueue) Push(any) { panic("schedule: no pool comes in") }
func (q *poolQueue) Pop() any {
	last := q.pools[len(q.pools)-1]
	q.pools = q.pools[:len(q.pools)-1]
	q.spot[last] = -1
	return last
}
