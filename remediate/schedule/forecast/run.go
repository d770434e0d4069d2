package forecast

import (
	"math"
	"math/rand/v2"

	"unbrick/remediate/schedule"
)

// A Truth is how long treatments take and how often they fail, in one run that may come to
// pass: by cohort, in hours. The times of single hosts spread around that.
type Truth struct {
	Hours, Failed []float64
	Spread        float64 // σ of the lognormal distribution
}

// An End is one treatment that ended in a run.
type End struct {
	Ref  schedule.Ref
	At   float64 // hours since the start of the plan
	Back bool    // the host is back
	Over bool    // if it is not: no way is left
}

// Run works a plan off from now, in hours since its start, until nothing is left to do, and
// tells each of every treatment that ended. d is used up. It returns when the last ended. The
// same seed gives the same run.
func Run(d *schedule.Dispatcher, now float64, truth Truth, seed uint64, each func(End)) float64 {
	r := &run{d: d, truth: truth, rng: rand.New(rand.NewPCG(seed, 0x5eed)), now: now, last: now, each: each}
	r.scale = math.Exp(-truth.Spread * truth.Spread / 2)
	for i := range d.Buckets() {
		ref := schedule.Ref(i)
		s := d.Stock(ref)
		for range s.InFlight { // somewhere on its way
			r.push(r.now+r.rng.Float64()*r.took(ref), ref, ended)
		}
		for range s.Waiting {
			r.push(r.now+patience*r.rng.ExpFloat64(), ref, returns)
		}
	}
	d.Tick(now)
	r.all()
	r.dawn()
	for r.events.len() > 0 {
		if r.step(r.events.pop()); r.events.len() == 0 {
			r.dawn()
		}
	}
	return r.now
}

// patience is how long a host is thought to wait for a person, in hours on average: nobody
// knows, and it is not short.
const patience = 2

type run struct {
	d      *schedule.Dispatcher
	truth  Truth
	rng    *rand.Rand
	scale  float64
	now    float64
	seq    uint32
	wakes  bool    // a wake is among the events
	dawns  bool    // so is a dawn
	last   float64 // when a treatment was begun last
	events agenda
	each   func(End)
}

// What an event is.
const (
	ended   uint8 = iota // a treatment
	returns              // a host that waited for a person
	wake                 // a way may start the next host
	dawn                 // technicians begin to work somewhere
)

func (r *run) took(ref schedule.Ref) float64 {
	c := r.d.Cohort(ref)
	return r.truth.Hours[c]*r.scale*math.Exp(r.truth.Spread*r.rng.NormFloat64()) + r.d.Trip(ref)
}

func (r *run) step(e event) {
	r.now = e.at
	r.d.Tick(e.at)
	switch e.what {
	case wake:
		r.wakes = false
		r.woken()
		return
	case dawn:
		r.dawns = false
		r.all()
		r.dawn()
		return
	case returns:
		r.d.Return(e.ref)
		r.fill(e.ref)
		return
	}
	gate := r.d.Gate()
	capped := r.d.Capped(e.ref)
	end := End{Ref: e.ref, At: e.at, Back: r.rng.Float64() >= r.truth.Failed[r.d.Cohort(e.ref)]}
	to := schedule.Ref(-1)
	if !end.Back {
		b := r.d.Bucket(e.ref)
		if to = b.Next; b.Again > 0 && (b.Again >= 1 || r.rng.Float64() < b.Again) {
			to = e.ref
		}
		end.Over = to < 0
	}
	r.d.Finish(e.ref, to)
	r.each(end)
	if r.d.Gate() != gate || capped && r.d.ByHand(e.ref) { // another site may take the place
		r.all()
		return
	}
	r.fill(e.ref)
}

// fill begins what may begin at the site of a bucket, and where it gave a place back.
func (r *run) fill(ref schedule.Ref) {
	for _, pool := range r.d.PoolsAt(ref) {
		r.pool(pool)
	}
	r.rest()
}

// woken begins what a way may start that could not because of its rate: few are the work of
// people, who have many pools.
func (r *run) woken() {
	if r.d.HandsRated() {
		r.all()
		return
	}
	for _, pool := range [...]schedule.Pool{schedule.Slots, schedule.Cloud} {
		r.pool(int(pool))
	}
	r.rest()
}

// all begins whatever may begin.
func (r *run) all() {
	for pool := range r.d.Pools() {
		r.pool(pool)
	}
	r.rest()
}

func (r *run) pool(pool int) {
	for {
		ref, ok := r.d.StartIn(pool, r.now)
		if !ok {
			return
		}
		r.last = r.now
		r.push(r.now+r.took(ref), ref, ended)
	}
}

// rest sees to it that a way that may start no more for now is looked at again.
func (r *run) rest() {
	if r.wakes {
		return
	}
	if at, ok := r.d.Wake(r.now); ok {
		r.wakes = true
		r.push(at, -1, wake)
	}
}

// dawn sees to it that people who do not work now are looked at when they do.
func (r *run) dawn() {
	others := r.events.len() > 0
	if at, ok := r.d.Dawn(r.now, others); ok && !r.dawns && (others || at < r.last+schedule.Night) {
		r.dawns = true
		r.push(max(at, r.now), -1, dawn)
	}
}

func (r *run) push(at float64, ref schedule.Ref, what uint8) {
	r.seq++
	r.events.push(event{at, r.seq, ref, what})
}
