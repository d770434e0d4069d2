package forecast

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"unbrick/remediate/schedule"
)

// margin is what is added to the least that would do: times and failures are estimates, and the
// last hosts of a site do not fill all its places.
const margin = 1.12

// pools finds out what each pool, and each way with a cap, needs.
func (l *look) pools(f *Forecast) {
	jobs := map[string][]Job{}
	for i := range l.places {
		for _, q := range l.d.Queues(i) {
			name := l.poolName(i, q.Pool)
			if name != "" {
				jobs[name] = append(jobs[name], l.job(q, q.Own))
			}
		}
	}
	caps := l.d.Caps()
	l.routes(jobs, caps)
	l.needs = map[string]*Need{}
	for name, all := range jobs {
		c := Needed(all)
		n := l.need(name, caps[name], c.Needed, c.By)
		f.Needs = append(f.Needs, n)
		if n.Least > n.Have {
			l.needs[name] = &n
		}
	}
	slices.SortFunc(f.Needs, func(a, b Need) int { return cmp.Compare(a.Text, b.Text) })
}

// poolName returns the name of a pool that sites share, as a what-if has it; empty if the site
// has it alone.
func (l *look) poolName(site int, p schedule.Pool) string {
	switch p {
	case schedule.Hands:
		if country := l.places[site].Country; l.d.Roams(site) {
			return "technicians." + country
		}
		return ""
	case schedule.Cloud:
		return "cloud"
	}
	return "slots"
}

// routes adds the jobs of ways that have caps: what is to do by them now.
func (l *look) routes(jobs map[string][]Job, caps map[string]int) {
	ways, _ := l.d.Cohorts()
	at := map[string]int{} // the site of the last job of each
	for i := range l.d.Buckets() {
		ref := schedule.Ref(i)
		way := ways[l.d.Cohort(ref)]
		name := "route." + way
		if _, capped := caps[name]; !capped || l.d.Stock(ref).ToDo == 0 {
			continue
		}
		b := l.d.Bucket(ref)
		if site, ok := at[name]; !ok || site != b.Site {
			at[name] = b.Site
			jobs[name] = append(jobs[name], Job{})
		}
		j := &jobs[name][len(jobs[name])-1]
		j.Places += float64(l.d.Stock(ref).ToDo) // each host can be treated once at a time
		k, found := slices.BinarySearch(j.Due, b.Due-l.now)
		if !found {
			before := 0.0
			if k > 0 {
				before = j.Work[k-1]
			}
			j.Due, j.Work = slices.Insert(j.Due, k, b.Due-l.now), slices.Insert(j.Work, k, before)
		}
		for ; k < len(j.Work); k++ {
			j.Work[k] += float64(l.d.Stock(ref).ToDo) * l.d.Need(ref)
		}
	}
}

// job returns a queue as work from now on.
func (l *look) job(q schedule.Queue, places float64) Job {
	j := Job{Places: max(places, 1), Work: q.Work, Due: make([]float64, len(q.Due))}
	for i := range q.Due {
		j.Due[i] = q.Due[i] - l.now
	}
	return j
}

func (l *look) need(what string, have int, least, by float64) Need {
	kind, name, _ := strings.Cut(what, ".")
	n := Need{Have: have, Least: int(math.Ceil(least - 1e-9)), By: l.d.At(l.now + by)}
	n.Margin = max(n.Least, int(math.Ceil(least*margin-1e-9)))
	if kind == "technicians" && n.Have == 0 {
		n.Have = l.d.People(name)
	}
	n.Change = schedule.Change{What: kind, Name: name, Value: n.Margin}
	n.Text = n.Change.String()
	return n
}

// limit says what keeps hosts of a site from being in time, and what would save them.
func (l *look) limit(i int, line *Line, gate float64) {
	queues := l.d.Queues(i)
	latest := math.Inf(1)
	for _, q := range queues {
		j := l.job(q, q.Places)
		for k := range j.Due {
			if j.Work[k] > 0 {
				latest = min(latest, l.d.Before(i, q.Pool, q.Due[k], schedule.Span(j.Work[k], j.Places, q.One))-l.now)
			}
		}
		if q.Pool == schedule.Slots && j.Places < 1e9 {
			line.Slots = int(j.Places)
		}
	}
	if !math.IsInf(latest, 1) && len(queues) > 0 {
		line.Latest = l.d.At(l.now + latest)
	}
	known := 0
	for _, n := range line.ToDo {
		known += n
	}
	if known == 0 || line.OnTime.P50 >= line.Hosts {
		if len(line.Held) > 0 {
			line.Limit = firstKey(line.Held)
		}
		return
	}
	switch own, need := l.own(i, queues); {
	case line.Halted > 0 && line.Hosts-line.OnTime.P50 <= line.Halted:
		line.Limit = "halted cohort"
	case own != "":
		line.Limit, line.Need = own, need
	case gate > l.now && l.afterGate(queues, gate):
		line.Limit = "dependency tier: done about " + l.d.At(gate).In(l.places[i].Clock).Format("Mon 15:04")
	default:
		line.Limit = l.shared(i, queues, line)
	}
}

func firstKey(m map[string]int) string {
	first := ""
	for k := range m {
		if first == "" || k < first {
			first = k
		}
	}
	return first
}

// own says whether the places of the site itself are too few.
func (l *look) own(i int, queues []schedule.Queue) (string, *Need) {
	for _, q := range queues {
		name := l.poolName(i, q.Pool)
		if q.Pool == schedule.Cloud || name != "" && q.Places < q.Own {
			continue // the pool would not give it more
		}
		least, by := 0.0, 0.0
		for k, due := range q.Due {
			if in := due - l.now; in > 0 && q.Work[k] > 0 && !math.IsInf(in, 1) && q.Work[k]/in > least {
				least, by = q.Work[k]/in, in
			}
		}
		if least <= q.Places {
			continue
		}
		what, words := "slots.", "site slots"
		if q.Pool == schedule.Hands {
			what, words = "technicians.", "technicians"
		}
		n := l.need(what+l.places[i].Site, int(q.Places), least, by)
		return words, &n
	}
	return "", nil
}

// afterGate says whether what is left of the time, once the dependency tier is done, is too
// short for the others of the site.
func (l *look) afterGate(queues []schedule.Queue, gate float64) bool {
	for _, q := range queues {
		for k, due := range q.Due {
			if q.Work[k]/max(q.Places, 1) > due-gate {
				return true
			}
		}
	}
	return false
}

// shared says which pool that sites share is too small.
func (l *look) shared(i int, queues []schedule.Queue, line *Line) string {
	for _, q := range queues {
		name := l.poolName(i, q.Pool)
		n := l.needs[name]
		if n == nil {
			continue
		}
		line.Need = n
		switch q.Pool {
		case schedule.Hands:
			return "technicians of " + l.places[i].Country
		case schedule.Cloud:
			return "API places of the clouds"
		}
		return "slots of the run"
	}
	for _, name := range sortedNames(l.needs) {
		if way, ok := strings.CutPrefix(name, "route."); ok && l.d.Goes(i, way) {
			line.Need = l.needs[name]
			return "places of " + way
		}
	}
	if line.Hosts-line.OnTime.P50 <= line.Lost {
		return "every way fails"
	}
	return "failures and order: others go first"
}

func sortedNames(m map[string]*Need) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
