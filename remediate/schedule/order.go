package schedule

import (
	"container/heap"
	"iter"
	"time"
)

// Start is a host, and when it would be begun.
type Start struct {
	Choice
	At time.Time
}

// Order yields the hosts in the order in which they would be begun from now on if every treatment
// took as long as planned, to the minute, and none failed. The Planner is used up, also by a
// caller that stops early. Hosts that are halted, or wait for others that are, do not come.
func (p *Planner) Order(now time.Time) iter.Seq[Start] {
	return func(yield func(Start) bool) {
		var ends turns
		last := now // when one was begun
		for i, s := range p.at {
			if s.state == flying || s.state == waiting {
				heap.Push(&ends, p.turn(int32(i), now))
			}
		}
		for {
			for _, c := range p.Take(now, len(p.at)) {
				h, _ := p.find(c.Host)
				heap.Push(&ends, p.turn(h, now))
				last = now
				if !yield(Start{c, now}) {
					return
				}
			}
			at, waits := p.wake(now)
			if len(ends) == 0 && !waits {
				at, waits = p.dawn(now)
				waits = waits && at.Sub(last) < Night*time.Hour
			}
			switch {
			case len(ends) == 0 && !waits:
				return
			case len(ends) == 0 || waits && at.Before(ends[0].at):
				now = at
				continue
			}
			for now = ends[0].at; len(ends) > 0 && !ends[0].at.After(now); {
				h := heap.Pop(&ends).(turn).host
				p.move(h, p.at[h].bucket, ended)
			}
		}
	}
}

// wake returns when a way may start a host again that may not now because of its rate.
func (p *Planner) wake(now time.Time) (time.Time, bool) {
	at, ok := p.d.Wake(p.d.hoursOf(now))
	return p.d.At(at).Add(time.Second), ok
}

// dawn returns when technicians begin to work again where hosts wait for them.
func (p *Planner) dawn(now time.Time) (time.Time, bool) {
	at, ok := p.d.Dawn(p.d.hoursOf(now), false)
	return p.d.At(at).Add(time.Second), ok
}

// turn returns when a host that is begun now is done.
func (p *Planner) turn(h int32, now time.Time) turn {
	b := p.at[h].bucket
	took := time.Duration((p.d.own[p.d.buckets[b].kind] + p.d.Trip(Ref(b))) * float64(time.Hour))
	return turn{now.Add(max(time.Minute, took.Round(time.Minute))), h}
}

// A turn is when a host is done.
type turn struct {
	at   time.Time
	host int32
}

// turns is a heap, earliest first, of one moment by name.
type turns []turn

func (t turns) Len() int { return len(t) }
func (t turns) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].host < t[j].host
}
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)   { *t = append(*t, x.(turn)) }
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}
