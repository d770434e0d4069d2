package forecast

import (
	"cmp"
	"math"
	"slices"
)

// A Want is work of one job that is worth being done by one of its due times.
type Want struct {
	Job   int
	Due   int     // in Job.Due
	Work  float64 // hours
	Worth float64
}

// Bound returns how much of each want is done by the best plan that can split work at will, and
// so what no plan can do better than: the most worth for its work comes first, as much of it as
// leaves everything that was taken before in time. m is the places of the pool; times are looked
// at on the grid, which must rise and begin above 0.
func Bound(jobs []Job, wants []Want, m float64, grid []float64) []float64 {
	f := &fluid{jobs: jobs, grid: grid, room: make([]float64, len(grid)), taken: make([][]float64, len(jobs))}
	for i, t := range grid {
		f.room[i] = m * t
	}
	for i, j := range jobs {
		f.taken[i] = make([]float64, len(j.Due))
	}
	order := make([]int, len(wants))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(wants[b].Worth/wants[b].Work, wants[a].Worth/wants[a].Work)
	})
	done := make([]float64, len(wants))
	for _, i := range order {
		done[i] = f.accept(wants[i])
	}
	return done
}

type fluid struct {
	jobs  []Job
	grid  []float64
	room  []float64   // at each time: what the pool can do until then less what is forced
	taken [][]float64 // of each job: work due by each of its due times
}

// forced is what a job must have done by t, with extra work due at from.
func (f *fluid) forced(job int, t, extra float64, from int) float64 {
	j, most := &f.jobs[job], 0.0
	for i, due := range j.Due {
		w := f.taken[job][i]
		if i >= from {
			w += extra
		}
		most = max(most, w-j.Places*max(0, due-t))
	}
	return most
}

// accept takes as much of a want as leaves the test true.
func (f *fluid) accept(w Want) float64 {
	j := &f.jobs[w.Job]
	if math.IsInf(j.Due[w.Due], 1) || j.Due[w.Due] <= 0 {
		return 0
	}
	take := w.Work
	for i := w.Due; i < len(j.Due); i++ { // its own places
		if !math.IsInf(j.Due[i], 1) {
			take = min(take, j.Places*j.Due[i]-f.taken[w.Job][i])
		}
	}
	for g, t := range f.grid {
		most := f.forced(w.Job, t, 0, 0) + f.room[g]
		for i := w.Due; i < len(j.Due); i++ {
			if !math.IsInf(j.Due[i], 1) {
				take = min(take, most+j.Places*max(0, j.Due[i]-t)-f.taken[w.Job][i])
			}
		}
	}
	if take <= 1e-12 {
		return 0
	}
	for g, t := range f.grid {
		f.room[g] -= f.forced(w.Job, t, take, w.Due) - f.forced(w.Job, t, 0, 0)
	}
	for i := w.Due; i < len(j.Due); i++ {
		f.taken[w.Job][i] += take
	}
	return take
}
