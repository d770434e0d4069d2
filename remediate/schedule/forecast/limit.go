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
	l.rates(f)
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
	halted := haltedText(line.Stopped)
	if inTime := line.OnTime.P50 - l.o.Back[line.Name].OnTime; halted == "" || inTime+line.Halted < l.sites[i].known {
		l.binds(i, line, queues, gate)
	}
	if halted != "" && line.Limit != "" {
		halted += "; " + line.Limit
	}
	line.Limit = cmp.Or(halted, line.Limit)
}

// haltedText names the cohorts that are halted.
func haltedText(all []Stopped) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Way+" on "+cmp.Or(s.Model, "hosts of no named model"))
	}
	if names == nil {
		return ""
	}
	return "halted cohort: " + strings.Join(names, ", ")
}

// binds says what else keeps hosts of a site than what is halted.
func (l *look) binds(i int, line *Line, queues []schedule.Queue, gate float64) {
	c, found := l.causes[i]
	text, need := l.scarcest(i, queues)
	switch {
	case found:
		l.explain(i, queues, line, gate, c)
	case text != "":
		line.Limit, line.Need = text, need
	case gate > l.now && l.afterGate(queues, gate):
		line.Limit = l.gateText(i, gate)
	case line.Hosts-line.OnTime.P50 <= line.Lost:
		line.Limit = "every way fails"
	default:
		line.Limit = "failures and order: others go first"
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

// scarcest says which limit allows the least of what it would have to, if one is too low: of the
// site itself, or of those that sites share.
func (l *look) scarcest(i int, queues []schedule.Queue) (text string, need *Need) {
	worst := 1.0
	for _, c := range l.scarce(i, queues) {
		words, n := l.words(i, queues, c, 0)
		if n == nil {
			continue
		}
		if share := float64(n.Least) / float64(max(n.Have, 1)); share > worst {
			text, need, worst = words, n, share
		}
	}
	return text, need
}

// scarce returns the limits that are too low for what is to do by the times at which it is due.
func (l *look) scarce(i int, queues []schedule.Queue) (all []schedule.Curb) {
	for _, q := range queues {
		name := l.poolName(i, q.Pool)
		least, _ := l.least(q)
		if q.Pool != schedule.Cloud && (name == "" || q.Places >= q.Own) && least > q.Places { // the pool would give it more
			all = append(all, map[schedule.Pool]schedule.Curb{schedule.Slots: schedule.SiteSlots, schedule.Hands: schedule.People}[q.Pool])
		}
		if l.needs[name] != nil {
			all = append(all, map[schedule.Pool]schedule.Curb{schedule.Slots: schedule.RunSlots, schedule.Hands: schedule.People,
				schedule.Cloud: schedule.CloudPlaces}[q.Pool])
		}
	}
	return append(all, schedule.PerHour, schedule.WayPlaces) // those have a need if they are
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

func sortedNames[V any](m map[string]V) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
