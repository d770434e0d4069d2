package forecast

import (
	"cmp"
	"math"
	"slices"
)

// A Job is work at one site: what is due by when, and how many places there are for it. All of
// it could begin now.
type Job struct {
	Places float64
	Due    []float64 // hours from now, rising
	Work   []float64 // hours, of all that is due by then
}

// A Capacity is what a pool needs to have everything done in time.
type Capacity struct {
	Needed  float64   // places of the pool: the least that will do
	By      float64   // the due time that takes them, in hours from now
	Limited []float64 // of each job: work that its own places keep from being done in time
}

// Needed returns what the jobs need. It is exact where work can be split at will: by the time t
// a job must have done all that its places cannot do after t, and that, over all jobs, must not
// be more than the pool can do until t (the forced-work test). What no number of places in the
// pool would save is Limited and left out, or else one site that is too small would ask for any
// number of them.
func Needed(jobs []Job) Capacity {
	c := Capacity{Limited: make([]float64, len(jobs))}
	var turns []turn
	for i, j := range jobs {
		limited, spans := latest(j)
		c.Limited[i] = limited
		for _, s := range spans {
			turns = append(turns, turn{s.from, j.Places}, turn{s.to, -j.Places})
		}
	}
	slices.SortFunc(turns, func(a, b turn) int { return cmp.Compare(a.at, b.at) })
	rate, forced, at := 0.0, 0.0, 0.0
	for _, t := range turns {
		forced += rate * (t.at - at)
		rate, at = rate+t.rate, t.at
		if at > 0 && forced/at > c.Needed*(1+1e-12) {
			c.Needed, c.By = forced/at, t.at
		}
	}
	c.By = binding(jobs, c.By)
	return c
}

// A turn is where the forced work of a job begins or ceases to grow.
type turn struct{ at, rate float64 }

// binding returns the due time that a moment belongs to: the first at or after it.
func binding(jobs []Job, at float64) float64 {
	due := math.Inf(1)
	for _, j := range jobs {
		for _, d := range j.Due {
			if d >= at-1e-9 {
				due = min(due, d)
			}
		}
	}
	if math.IsInf(due, 1) {
		return at
	}
	return due
}

// A span is when the places of a site are all taken if everything is done as late as possible.
type span struct{ from, to float64 }

// latest packs the work of a job against its due times. What does not fit after now is limited.
func latest(j Job) (limited float64, spans []span) {
	end := math.Inf(1)
	for i := len(j.Due) - 1; i >= 0; i-- {
		work := j.Work[i]
		if i > 0 {
			work -= j.Work[i-1]
		}
		if math.IsInf(j.Due[i], 1) || work <= 0 {
			continue
		}
		end = min(end, j.Due[i])
		start := end - work/j.Places
		if start < 0 {
			limited += (min(end, 0) - start) * j.Places
			start = 0
		}
		if end > start {
			spans = append(spans, span{start, end})
		}
		end = max(0, min(end, start)) // at 0 there is no room for what is due before
	}
	return limited, spans
}
