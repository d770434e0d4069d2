package forecast

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"unbrick/remediate/schedule"
)

// A cause is what keeps hosts of a site from being in time.
type cause struct {
	curbs []schedule.Curb // together; none: no change of a limit would have them back in time
}

// How much a curb has to account for to be named, of what the curbs do to a site: by itself, or
// together with others.
const (
	bindsAlone    = 0.4
	bindsTogether = 0.25
)

// causeHosts is how many hosts may be looked at in one run for each curb: it is tried out oftener
// with fewer.
const causeHosts = 150_000

// find tries out what binds at the sites that are late: what would be late if a curb was the only
// one there is, and if that is not it, what would not be late without it. It is not known of a
// fleet so large that this would take longer than a person waits.
func (l *look) find(d *schedule.Dispatcher) {
	n := min(max(triedRuns, triedEach/max(l.todo, 1)), len(l.results), causeHosts/max(l.todo, 1))
	if n == 0 {
		return
	}
	base := l.mean(l.results[:n])
	if !l.anyLate(base) {
		return
	}
	l.causes = map[int]cause{}
	curbs := d.Curbs()
	try := func(lifted ...schedule.Curb) []float64 { return l.mean(l.runs(d.Lift(lifted...), n)) }
	best := try(curbs...)
	alone := map[schedule.Curb][]float64{}
	for i, c := range curbs {
		alone[c] = try(slices.Delete(slices.Clone(curbs), i, i+1)...)
	}
	var without map[schedule.Curb][]float64
	for i := range l.places {
		if !l.late(i, base) {
			continue
		}
		gain := best[i] - base[i]
		if gain < 0.5 || gain < 0.1*(float64(l.sites[i].known)-base[i]) {
			l.causes[i] = cause{}
			continue
		}
		if c, ok := most(curbs, bindsAlone*gain, func(c schedule.Curb) float64 { return best[i] - alone[c][i] }); ok {
			l.causes[i] = cause{[]schedule.Curb{c}}
			continue
		}
		if without == nil {
			without = map[schedule.Curb][]float64{}
			for _, c := range curbs {
				without[c] = try(c)
			}
		}
		var all cause
		for _, c := range curbs {
			if without[c][i]-base[i] >= max(0.5, bindsTogether*gain) {
				all.curbs = append(all.curbs, c)
			}
		}
		if all.curbs != nil {
			l.causes[i] = all
		}
	}
}

// most returns the curb with the highest value, the first of equal ones, if that is enough.
func most(curbs []schedule.Curb, enough float64, value func(schedule.Curb) float64) (best schedule.Curb, ok bool) {
	top := math.Inf(-1)
	for _, c := range curbs {
		if v := value(c); v > top+1e-9 {
			best, top = c, v
		}
	}
	return best, top >= max(enough, 0.5)
}

// late says whether at least one host of a site is late, on average.
func (l *look) late(i int, onTime []float64) bool { return float64(l.sites[i].known)-onTime[i] >= 0.5 }

func (l *look) anyLate(onTime []float64) bool {
	for i := range l.places {
		if l.late(i, onTime) {
			return true
		}
	}
	return false
}

// mean returns how many hosts of each site are in time, on average.
func (l *look) mean(results []result) []float64 {
	sum := make([]float64, len(l.places))
	for _, r := range results {
		for i, n := range r.onTime {
			sum[i] += float64(n) / float64(len(results))
		}
	}
	return sum
}

// explain says in words what keeps the hosts of a site, and what would save them.
func (l *look) explain(i int, queues []schedule.Queue, line *Line, gate float64, c cause) {
	var words []string
	for _, curb := range c.curbs {
		if curb == schedule.Halts && line.Stopped != nil {
			return // that is said of the cohorts
		}
		text, need := l.words(i, queues, curb, gate)
		if line.Need == nil {
			line.Need = need
		}
		words = append(words, text)
	}
	n := len(words)
	switch {
	case n > 1 && c.curbs[n-1] == schedule.Tiers:
		line.Limit = words[n-1] + ", for want of " + strings.Join(words[:n-1], " and ")
	case n > 0:
		line.Limit = strings.Join(words, " and ")
	case line.Hosts-line.OnTime.P50 <= line.Lost:
		line.Limit = "every way fails"
	default:
		line.Limit = "no time: treatments take longer than is left, whatever the limits are"
	}
}

// words names a curb of a site, and the change that would loosen it.
func (l *look) words(i int, queues []schedule.Queue, c schedule.Curb, gate float64) (string, *Need) {
	switch c {
	case schedule.Halts:
		return "what is halted elsewhere", nil
	case schedule.SiteSlots:
		return "site slots", l.ownNeed(i, queues, schedule.Slots)
	case schedule.Images:
		return "images over its uplink", nil
	case schedule.People:
		if country := l.places[i].Country; l.d.Roams(i) {
			return "technicians of " + country, l.needs["technicians."+country]
		}
		return "technicians", l.ownNeed(i, queues, schedule.Hands)
	case schedule.Shifts:
		return "shift of its technicians", nil
	case schedule.PerHour:
		way := l.wayOf(i, "rate.", sortedNames(l.d.RatedWays()))
		return "per_hour of " + way, l.needs["rate."+way]
	case schedule.WayPlaces:
		var ways []string
		for _, name := range sortedNames(l.d.Caps()) {
			if way, ok := strings.CutPrefix(name, "route."); ok {
				ways = append(ways, way)
			}
		}
		way := l.wayOf(i, "route.", ways)
		return "places of " + way, l.needs["route."+way]
	case schedule.CloudPlaces:
		return "API places of the clouds", l.needs["cloud"]
	case schedule.Tiers:
		if gate > l.now {
			return l.gateText(i, gate), nil
		}
		return "services that every site needs", nil
	}
	return "slots of the run", l.needs["slots"]
}

func (l *look) gateText(i int, gate float64) string {
	return "dependency tier: done about " + l.d.At(gate).In(l.places[i].Clock).Format("Mon 15:04")
}

// wayOf returns which of the ways binds at a site: the first of which more is needed, or that its
// hosts go.
func (l *look) wayOf(i int, prefix string, ways []string) string {
	first := ""
	for _, way := range ways {
		switch {
		case !l.d.Goes(i, way):
		case l.needs[prefix+way] != nil:
			return way
		case first == "":
			first = way
		}
	}
	return first
}

// ownNeed returns how many places a site itself needs in a pool.
func (l *look) ownNeed(i int, queues []schedule.Queue, p schedule.Pool) *Need {
	for _, q := range queues {
		if q.Pool != p || q.Places >= 1e9 {
			continue
		}
		least, by := l.least(q)
		if least <= q.Places { // on average that would do: not to the last host
			least = q.Places + 1
		}
		n := l.need(fmt.Sprintf("%s.%s", p, l.places[i].Site), int(q.Places), least, by)
		return &n
	}
	return nil
}

// least returns how many places a queue needs at the least, and for which due time.
func (l *look) least(q schedule.Queue) (least, by float64) {
	for k, due := range q.Due {
		if in := due - l.now; in > 0 && q.Work[k] > 0 && !math.IsInf(in, 1) && q.Work[k]/in > least {
			least, by = q.Work[k]/in, in
		}
	}
	return least, by
}

// rates finds out how many hosts must be begun in an hour by the ways whose starts are counted.
func (l *look) rates(f *Forecast) {
	ways, _ := l.d.Cohorts()
	for way, have := range l.d.RatedWays() {
		hosts := map[float64]float64{} // by when the last of them has to be begun
		for b := range l.d.Buckets() {
			r := schedule.Ref(b)
			last := l.d.DueOf(r) - l.now - l.d.Need(r)
			if n := l.d.Stock(r).ToDo; n > 0 && ways[l.d.Cohort(r)] == way && last > 0 && !math.IsInf(last, 1) {
				hosts[last] += float64(n)
			}
		}
		sum, least, by := 0.0, 0.0, 0.0
		for _, in := range slices.Sorted(maps.Keys(hosts)) {
			if sum += hosts[in]; sum/in > least {
				least, by = sum/in, in
			}
		}
		n := l.need("rate."+way, have, least, by)
		f.Needs = append(f.Needs, n)
		if n.Least > n.Have {
			l.needs["rate."+way] = &n
		}
	}
}
