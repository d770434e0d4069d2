package simulate

import (
	"maps"
	"math"
	"slices"

	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

// Bound is the name of the row of what a plan could do at best that splits work at will, knows
// everything beforehand, and goes for the weight: to judge the rules by. What goes on to a person
// costs it nothing there, so no rule does better by weight. It has no tardiness.
const Bound = "fluid bound"

// bound plans a fleet of which nothing is begun, pool by pool.
func (w World) bound(d *schedule.Dispatcher, load float64) Row {
	places := d.Places()
	plans := map[string]*plan{}
	var last *plan
	site, pool := -1, schedule.Slots
	var hosts, weight float64
	core := make([]float64, len(places))
	for i := range d.Buckets() {
		ref := schedule.Ref(i)
		b := d.Bucket(ref)
		if b.Hosts == 0 {
			continue
		}
		hosts += float64(b.Hosts)
		weight += float64(b.Hosts) * b.Weight
		if b.Site != site || b.Pool != pool || last == nil {
			site, pool = b.Site, b.Pool
			last = planOf(plans, d, places[site].Country, pool)
			last.jobs = append(last.jobs, job(d, site, pool))
		}
		last.add(b, d.Need(ref))
	}
	row := Row{Rule: Bound, Load: load}
	for _, name := range slices.Sorted(maps.Keys(plans)) {
		p := plans[name]
		for i, done := range forecast.Bound(p.jobs, p.wants, p.places, grid()) {
			n := done / p.wants[i].Work * p.hosts[i]
			row.OnTime += 100 * n / hosts
			row.Weighted += 100 * n * p.wants[i].Worth / p.hosts[i] / weight
			if p.core[i] {
				core[p.sites[i]] += n
			}
		}
	}
	row.Core = w.core(d, core)
	return row
}

// core returns the share of the sites of which 95 % of all but the low tier are in time.
func (w World) core(d *schedule.Dispatcher, inTime []float64) float64 {
	all := make([]float64, len(inTime))
	for i := range d.Buckets() {
		if b := d.Bucket(schedule.Ref(i)); inCore(b) {
			all[b.Site] += float64(b.Hosts)
		}
	}
	n := 0.0
	for i := range all {
		if inTime[i] >= 0.95*all[i] {
			n++
		}
	}
	return 100 * n / math.Max(1, float64(len(all)))
}

// A plan is what is to do in one pool.
type plan struct {
	places float64
	jobs   []forecast.Job
	wants  []forecast.Want
	hosts  []float64 // of each want
	sites  []int
	core   []bool
}

func planOf(plans map[string]*plan, d *schedule.Dispatcher, country string, pool schedule.Pool) *plan {
	name, n := "slots", d.Caps()["slots"]
	if pool == schedule.Hands {
		name, n = country, d.People(country)
	}
	if plans[name] == nil {
		plans[name] = &plan{places: float64(n)}
	}
	return plans[name]
}

// job returns the due times of a site, and the places it can have in a pool.
func job(d *schedule.Dispatcher, site int, pool schedule.Pool) forecast.Job {
	for _, q := range d.Queues(site) {
		if q.Pool == pool {
			return forecast.Job{Places: q.Places, Due: q.Due}
		}
	}
	return forecast.Job{Places: 1}
}

func (p *plan) add(b schedule.Bucket, need float64) {
	j := len(p.jobs) - 1
	for due, at := range p.jobs[j].Due {
		if at == b.Due {
			n := float64(b.Hosts)
			p.wants = append(p.wants, forecast.Want{Job: j, Due: due, Work: n * need, Worth: n * b.Weight})
			p.hosts, p.sites, p.core = append(p.hosts, n), append(p.sites, b.Site), append(p.core, inCore(b))
		}
	}
}

// grid is every half hour of the first four days.
func grid() (hours []float64) {
	for i := range 192 {
		hours = append(hours, float64(i+1)/2)
	}
	return hours
}
