// Package forecast looks ahead: how many hosts of each site are back by its opening, what keeps
// the others, and the smallest change that would save them.
//
// It works the plan off again and again, as the dispatcher of the run would, each time with
// times and failures that may be the true ones. It is pure: the same counts and the same seed
// give the same forecast.
package forecast

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"unbrick/remediate/schedule"
)

// Options are what a forecast is made from beside the counts.
type Options struct {
	Now  time.Time
	Runs int             // 0: as many as take seconds, 20 at most
	Seed uint64          // 0 is one like any other
	Back map[string]Back // by site
	// NoChanges leaves out what changes would save, which takes as long as the forecast itself.
	NoChanges bool
}

// Back is the hosts of a site that have a due time and have ended, and of these those that were
// back in time.
type Back struct{ Hosts, OnTime int }

// A Band is what nine runs of ten have at least, half of them, and one of ten.
type Band struct {
	P10 int `json:"p10"`
	P50 int `json:"p50"`
	P90 int `json:"p90"`
}

// A Line is what becomes of a site, a zone, a region, or of all.
type Line struct {
	Name   string    `json:"name"`
	Due    time.Time `json:"due,omitzero"` // of its first host, in the zone of the site
	UTC    time.Time `json:"due_utc,omitzero"`
	Hosts  int       `json:"hosts"`   // with a due time, those that are back included
	NoDue  int       `json:"no_due"`  // of whom nobody knows when they are due
	ToDo   [4]int    `json:"to_do"`   // not back yet, by tier
	OnTime Band      `json:"on_time"` // back when they are due
	Ready  time.Time `json:"ready,omitzero"`
	Lost   int       `json:"lost,omitempty"` // for whom every way fails, half of the time

	Held    map[string]int `json:"held,omitempty"`    // hosts that are not in the plan, by why
	Halted  int            `json:"halted,omitempty"`  // that no way is open for
	Stopped []Stopped      `json:"stopped,omitempty"` // these, by what is halted
	Latest  time.Time      `json:"latest,omitzero"`   // work has to begin by then; in the zone of the site
	Slots   int            `json:"slots,omitempty"`   // that the site can have
	Limit   string         `json:"limit,omitempty"`   // what keeps hosts from being in time
	Need    *Need          `json:"need,omitempty"`    // what would save them
}

// Stopped is hosts that are not begun because their way is halted, for their model or at their site.
type Stopped struct {
	Way   string `json:"way"`
	Model string `json:"model,omitempty"`
	Hosts int    `json:"hosts"`
}

// A Need is the smallest change that would do.
type Need struct {
	Change schedule.Change `json:"-"`
	Text   string          `json:"change"` // as --what-if takes it, with margin
	Have   int             `json:"have"`
	Least  int             `json:"least"`
	Margin int             `json:"with_margin"`
	By     time.Time       `json:"by,omitzero"` // the opening that asks for it
	Saves  *int            `json:"saves,omitempty"`
}

// A Forecast is what becomes of a plan.
type Forecast struct {
	At      time.Time      `json:"at"`
	Runs    int            `json:"runs"`
	All     Line           `json:"all"`
	Regions []Line         `json:"regions"`
	Zones   []Line         `json:"zones"`
	Sites   []Line         `json:"sites"` // by due time
	End     [3]time.Time   `json:"end"`   // when the last host is done: P10, P50, P90
	Needs   []Need         `json:"needs"` // of the pools, whether they have it or not
	Saves   []Need         `json:"saves"` // changes that bring more hosts back in time, the most first
	Held    map[string]int `json:"held,omitempty"`
}

// A result is what one run came to.
type result struct {
	onTime []int32   // of each site
	lost   []int32   // of each site
	ready  []float32 // of each site: its last host is back
	gate   []float32 // of each site: what it depends on is done
	end    float64
}

// roughHosts is from how many hosts on a forecast looks at the keys less often.
const roughHosts = 500_000

// Look makes a forecast from where d stands. d is not changed.
func Look(d *schedule.Dispatcher, o Options) Forecast {
	l := &look{d: d, o: o, now: o.Now.Sub(d.Start).Hours(), places: d.Places()}
	l.count()
	if l.o.Runs <= 0 {
		l.o.Runs = min(20, max(4, 4_000_000/max(l.todo, 1)))
	}
	if l.todo > roughHosts {
		d = d.Clone()
		d.Roughly()
	}
	l.results = l.runs(d, l.o.Runs)
	f := Forecast{At: o.Now.UTC(), Runs: l.o.Runs, Held: map[string]int{}}
	l.pools(&f)
	l.find(d)
	l.lines(&f)
	ends := make([]float64, 0, l.o.Runs)
	for _, r := range l.results {
		ends = append(ends, r.end)
	}
	slices.Sort(ends)
	for i, q := range []float64{0.1, 0.5, 0.9} {
		f.End[i] = d.At(quantile(ends, q))
	}
	if !o.NoChanges {
		l.saves(&f)
	}
	return f
}

// look is a forecast while it is made.
type look struct {
	d       *schedule.Dispatcher
	o       Options
	now     float64
	places  []schedule.Place
	sites   []tally
	todo    int
	results []result
	needs   map[string]*Need // by what: those that are not met
	causes  map[int]cause    // of sites that are late; of a fleet too large to try, none
}

// A tally is what the counts say of a site.
type tally struct {
	tiers         [4]int
	known, halted int
	noDue         int
	first         float64 // due
	stopped       []Stopped
}

func (l *look) count() {
	l.sites = make([]tally, len(l.places))
	ways, models := l.d.Cohorts()
	for i := range l.sites {
		l.sites[i].first = math.Inf(1)
	}
	for i := range l.d.Buckets() {
		s := l.d.Stock(schedule.Ref(i))
		n := s.ToDo + s.InFlight + s.Waiting
		if n == 0 {
			continue
		}
		b := l.d.Bucket(schedule.Ref(i))
		t := &l.sites[b.Site]
		t.tiers[min(int(b.Tier), len(t.tiers)-1)] += n
		l.todo += n
		if s.Halted {
			t.halted += n
			t.stop(ways[b.Cohort], models[b.Cohort], n)
		}
		if math.IsInf(b.Due, 1) {
			t.noDue += n
			continue
		}
		t.known += n
		t.first = min(t.first, b.Due)
	}
}

// stop counts hosts whose way is halted.
func (t *tally) stop(way, model string, n int) {
	for i := range t.stopped {
		if s := &t.stopped[i]; s.Way == way && s.Model == model {
			s.Hosts += n
			return
		}
	}
	t.stopped = append(t.stopped, Stopped{way, model, n})
}

// runs works the plan off n times.
func (l *look) runs(d *schedule.Dispatcher, n int) []result {
	ways, models := d.Cohorts()
	results := make([]result, n)
	todo := make(chan int, n)
	for i := range n {
		todo <- i
	}
	close(todo)
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0), 4) { // each has counts of its own
		wg.Go(func() {
			for i := range todo {
				rng := rand.New(rand.NewPCG(l.o.Seed, uint64(i)))
				truth := Truth{Spread: schedule.Spread}
				truth.Hours, truth.Failed = d.Learned().Sample(rng, ways, models)
				results[i] = l.one(d.Clone(), truth, rng.Uint64())
			}
		})
	}
	wg.Wait()
	return results
}

func (l *look) one(d *schedule.Dispatcher, truth Truth, seed uint64) result {
	n := len(l.places)
	r := result{onTime: make([]int32, n), lost: make([]int32, n), ready: make([]float32, n), gate: make([]float32, n)}
	shut := make([]bool, n)
	for i := range shut {
		shut[i] = d.Gated(i)
	}
	r.end = Run(d, l.now, truth, seed, func(e End) {
		site := d.SiteOf(e.Ref)
		switch {
		case e.Over:
			r.lost[site]++
		case e.Back:
			r.ready[site] = float32(e.At)
			if due := d.DueOf(e.Ref); e.At <= due && !math.IsInf(due, 1) {
				r.onTime[site]++
			}
		}
		if shut[site] && !d.Gated(site) {
			shut[site], r.gate[site] = false, float32(e.At)
		}
	})
	return r
}

// quantile returns a quantile of sorted values.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// band returns the quantiles of whole numbers.
func band(values []float64) Band {
	slices.Sort(values)
	return Band{int(quantile(values, 0.1)), int(math.Round(quantile(values, 0.5))), int(math.Ceil(quantile(values, 0.9)))}
}
