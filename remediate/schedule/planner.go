package schedule

import (
	"container/heap"
	"fmt"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A Planner says which hosts a run takes next, while it goes on. It does no I/O and has no
// clock. After a crash a new one of the same hosts, told of each where it stands ([Planner.Set])
// and what was learnt, goes on as the old one would have.
//
// It must not be used by two goroutines at once.
type Planner struct {
	d     *Dispatcher
	at    []stand // of each host, by name
	lines []line  // of each bucket: its hosts that may start
	kept  map[int32][]int32
	used  map[int32]int32 // of each token: hosts in flight
	taken int
	wants poolQueue
	stale bool // outcomes were seen since the last tick
}

// A stand is where a host stands.
type stand struct {
	bucket int32 // that it is in, or was last
	state  hostState
}

type hostState uint8

// The states of a host.
const (
	todo    hostState = iota
	kept              // to do, but another of its group is in flight
	flying            // in treatment
	waiting           // for a person, without a place
	ended
)

// A line is hosts by name, the first of them on top. Those that are elsewhere by now are passed
// over when their turn comes.
type line []int32

func (l line) Len() int           { return len(l) }
func (l line) Less(i, j int) bool { return l[i] < l[j] }
func (l line) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *line) Push(x any)        { *l = append(*l, x.(int32)) }
func (l *line) Pop() any {
	last := (*l)[len(*l)-1]
	*l = (*l)[:len(*l)-1]
	return last
}

// NewPlanner returns a Planner of a fleet that was built with names, none of it begun.
func NewPlanner(f *Fleet) *Planner {
	p := &Planner{d: NewDispatcher(f, nil), at: make([]stand, len(f.hosts)), lines: make([]line, len(f.buckets)),
		kept: map[int32][]int32{}, used: map[int32]int32{}}
	p.d.rates = f.Rates.Clone()
	for i := range f.hosts {
		b := f.hosts[i].bucket
		p.at[i].bucket = b
		p.lines[b] = append(p.lines[b], int32(i))
	}
	return p
}

// Limit caps how many hosts of a way and model are treated at once: a ring, or 0 for a halt.
// Negative is no cap.
func (p *Planner) Limit(way, model string, n int) { p.d.Limit(way, model, n) }

// Shut halts a way at one site, or lets it go on.
func (p *Planner) Shut(way, site string, shut bool) error {
	i, ok := p.d.SiteIndex(site)
	if !ok {
		return fmt.Errorf("no site %q in the plan", site)
	}
	p.d.Shut(way, i, shut)
	return nil
}

// Patience returns how long a treatment may be silent before it counts as failed.
func (p *Planner) Patience(way, model string) time.Duration { return p.d.rates.Patience(way, model) }

// Learn takes in outcomes of a run that went before, as [Rates.Learn] does.
func (p *Planner) Learn(way, model string, n, failed int, took time.Duration) {
	p.d.rates.Learn(way, model, n, failed, took)
	p.stale = true
}

// Set says where a host stands, whatever was known of it: after a crash, for what another
// process did, and for a choice that was not begun after all. way is the one that it is to go
// or goes, and round how often it went all of them before; both count only if it has not ended.
func (p *Planner) Set(host string, s State, way string, round int) error {
	h, err := p.find(host)
	if err != nil {
		return err
	}
	p.move(h, p.bucketOf(h, way, round), map[State]hostState{ToDo: todo, Running: flying, Held: waiting, Over: ended}[s])
	return nil
}

// A State is where a host stands.
type State uint8

// The states.
const (
	ToDo    State = iota
	Running       // in treatment
	Held          // waiting for a person, without a place
	Over          // it has its verdict
)

// An Outcome is how the treatment of a host by one way ended.
type Outcome struct {
	Host    string
	Way     string
	Verdict remediate.Verdict // Failed if it goes on by another way
	Took    time.Duration     // without the time it waited for a person; 0: not known
	Touched bool              // something was done to it
	Next    string            // the way by which it goes on; empty: the verdict is its last
	Round   int               // of Next, as [remediate.Climb] counts
}

// Done says how a treatment ended. What was done to the host teaches how long such treatments
// take and how often they fail: the next tick of the clock plans with that.
func (p *Planner) Done(o Outcome) error {
	h, err := p.find(o.Host)
	if err != nil {
		return err
	}
	if o.Touched && o.Took > 0 && o.Verdict != remediate.Healthy && o.Verdict != remediate.Waiting {
		failed := 1
		if o.Verdict == remediate.Fixed {
			failed = 0
		}
		p.d.rates.Learn(o.Way, p.d.cohorts[p.d.kinds[p.d.buckets[p.at[h].bucket].kind].cohort].model, 1, failed, o.Took)
		p.stale = true
	}
	if o.Next == "" {
		p.move(h, p.at[h].bucket, ended)
	} else {
		p.move(h, p.bucketOf(h, o.Next, o.Round), todo)
	}
	return nil
}

// Healed says that a host came back by itself, whether it was begun or not.
func (p *Planner) Healed(host string) error { return p.stands(host, ended) }

// Waiting says that a host waits for a person, and gave its place back. One that somebody is
// sent to goes on taking that person's time.
func (p *Planner) Waiting(host string) error { return p.stands(host, waiting) }

// Again says that a host is to do once more by the way it was on.
func (p *Planner) Again(host string) error { return p.stands(host, todo) }

func (p *Planner) stands(host string, s hostState) error {
	h, err := p.find(host)
	if err == nil {
		p.move(h, p.at[h].bucket, s)
	}
	return err
}

func (p *Planner) find(host string) (int32, error) {
	i, ok := search(len(p.d.names), func(i int) string { return p.d.names[i] }, host)
	if !ok {
		return 0, fmt.Errorf("no host %q in the plan", host)
	}
	return int32(i), nil
}

// bucketOf returns where a host goes by a way; where it is if it has no such way.
func (p *Planner) bucketOf(h int32, way string, round int) int32 {
	found := p.at[h].bucket
	for b := p.d.hosts[h].bucket; b >= 0; b = p.d.buckets[b].next {
		if p.d.wayOf(p.d.buckets[b].kind) == way {
			found = b
			if round--; round < 0 {
				break
			}
		}
	}
	return found
}

// move puts a host elsewhere.
func (p *Planner) move(h, b int32, s hostState) {
	open, was := p.d.service(), p.at[h]
	p.tally(h, -1)
	p.at[h] = stand{b, s}
	p.tally(h, 1)
	if s == flying {
		p.hold(h, b, 1)
	}
	if was.state == flying {
		p.hold(h, was.bucket, -1)
	}
	if s == todo {
		heap.Push(&p.lines[b], h)
	}
	if p.d.service() != open {
		p.d.rekey()
	}
	p.d.refresh(p.d.buckets[b].site)
}

// tally counts a host in where it stands, or with −1 out.
func (p *Planner) tally(h int32, n int32) {
	b, s := p.at[h].bucket, p.at[h].state
	if s == ended {
		return
	}
	bk := &p.d.buckets[b]
	if bk.tier == inventory.Dependency {
		p.d.state[bk.site].first += n
	}
	if bk.class < noService && s != waiting { // a person may take hours: everybody else goes on
		p.d.services[bk.class] += int(n)
	}
	switch {
	case s == todo:
		p.d.todo[b] += n
		p.d.state[bk.site].todo += n
	case s == flying, s == waiting && p.d.cohorts[p.d.kinds[bk.kind].cohort].pool == Hands:
		p.d.count(b, n)
	}
}

// Pin puts a site before all others until then; by names who said so. anyway says even before
// its own dependency tier is done. The zero time ends it.
func (p *Planner) Pin(site string, until time.Time, anyway bool) error {
	i, ok := p.d.SiteIndex(site)
	if !ok {
		return fmt.Errorf("no site %q in the plan", site)
	}
	p.d.Pin(i, until, anyway)
	return nil
}

// Learnt returns what was learnt, for [Planner.Learn] after a crash.
func (p *Planner) Learnt() []Experience { return p.d.rates.Experiences() }
