package forecast

import "unbrick/remediate/schedule"

type event struct {
	at   float64
	seq  uint32
	ref  schedule.Ref
	what uint8
}

func (e event) before(o event) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

// bin is the part of an hour that an event lies in.
func (e event) bin() int { return int(e.at * binsOfHour) }

const (
	binsOfHour = 240
	// nearEvents is how many events are kept in order, whenever they are: so many fit into the
	// cache of a processor. More of them, from hundreds of thousands of people at work, wait in
	// bins until their time is near.
	nearEvents = 4096
	// binnedHours is from when on events are not put into bins: those are few.
	binnedHours = 2000
)

// An agenda is events, of which the first is taken, and of one moment the one that came in first.
type agenda struct {
	near []event   // a heap with four children each
	bins [][]event // by number: what lies after the bin at
	at   int
	far  int // events in bins
	free [][]event
}

func (a *agenda) len() int { return len(a.near) + a.far }

func (a *agenda) push(e event) {
	if len(a.near) < nearEvents || e.at > binnedHours || e.bin() <= a.at {
		a.insert(e)
		return
	}
	b := e.bin()
	for len(a.bins) <= b {
		a.bins = append(a.bins, nil)
	}
	if n := len(a.free); a.bins[b] == nil && n > 0 {
		a.bins[b], a.free = a.free[n-1], a.free[:n-1]
	}
	a.bins[b] = append(a.bins[b], e)
	a.far++
}

// pop takes the first event. There must be one.
func (a *agenda) pop() event {
	for a.far > 0 && (len(a.near) == 0 || a.near[0].at > binnedHours || a.near[0].bin() > a.at) {
		a.at++
		if a.at >= len(a.bins) || a.bins[a.at] == nil {
			continue
		}
		for _, e := range a.bins[a.at] {
			a.insert(e)
		}
		a.far -= len(a.bins[a.at])
		a.free = append(a.free, a.bins[a.at][:0])
		a.bins[a.at] = nil
	}
	return a.first()
}

func (a *agenda) insert(e event) {
	a.near = append(a.near, e)
	i := len(a.near) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(a.near[parent]) {
			break
		}
		a.near[i] = a.near[parent]
		i = parent
	}
	a.near[i] = e
}

// first takes the first of what is near.
func (a *agenda) first() event {
	first := a.near[0]
	last := a.near[len(a.near)-1]
	a.near = a.near[:len(a.near)-1]
	n := len(a.near)
	if n == 0 {
		return first
	}
	i := 0
	for {
		child := 4*i + 1
		if child >= n {
			break
		}
		least := child
		for c := child + 1; c < min(child+4, n); c++ {
			if a.near[c].before(a.near[least]) {
				least = c
			}
		}
		if !a.near[least].before(last) {
			break
		}
		a.near[i] = a.near[least]
		i = least
	}
	a.near[i] = last
	return first
}
