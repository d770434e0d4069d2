package simulate

import (
	"runtime"
	"slices"
	"sync"

	"unbrick/inventory"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

// A Row is what came of one rule at one load, on average over the seeds.
type Row struct {
	Rule      string  `json:"rule"`
	Load      float64 `json:"load"`
	OnTime    float64 `json:"on_time"`   // % of the hosts back when they are due
	Weighted  float64 `json:"weighted"`  // the same, each by its weight
	Core      float64 `json:"core"`      // % of the sites with 95 % of all but the low tier in time
	Tardiness float64 `json:"tardiness"` // weighted host-hours after the due time, in thousands
	Hours     float64 `json:"hours"`     // until the last host is back
}

// Options say what is simulated.
type Options struct {
	World World
	Seeds int       // worlds, from World.Seed on; 1 if 0
	Loads []float64 // 0.8, 1.0, 1.25, 1.6 and 2.5 if there are none
	Rules []Named   // all if there are none
	Bound bool      // a row for each load of what a plan could do at best, at the end
	// Slower is by how much real times are above those planned with: 1.3 is 30 %. 0: not.
	Slower float64
}

// Loads returns the loads that are compared if nobody says otherwise.
func Loads() []float64 { return []float64{0.8, 1.0, 1.25, 1.6, 2.5} }

// Table returns a row for each rule and load, rule after rule.
func Table(o Options) ([]Row, error) {
	if o.Loads == nil {
		o.Loads = Loads()
	}
	if o.Rules == nil {
		o.Rules = Rules()
	}
	o.Seeds = max(o.Seeds, 1)
	o.World.fill()
	rows := make([]Row, 0, len(o.Rules)*len(o.Loads))
	for _, rule := range o.Rules {
		for _, load := range o.Loads {
			rows = append(rows, Row{Rule: rule.Name, Load: load})
		}
	}
	for _, load := range o.Loads {
		if o.Bound {
			rows = append(rows, Row{Rule: Bound, Load: load})
		}
	}
	for seed := range o.Seeds {
		w := o.World
		w.Seed += uint64(seed)
		got, err := w.rows(o)
		if err != nil {
			return nil, err
		}
		for i, g := range got {
			rows[i].add(g, 1/float64(o.Seeds))
		}
	}
	return rows, nil
}

func (r *Row) add(g Row, share float64) {
	r.OnTime += g.OnTime * share
	r.Weighted += g.Weighted * share
	r.Core += g.Core * share
	r.Tardiness += g.Tardiness * share
	r.Hours += g.Hours * share
}

// rows simulates one world by every rule at every load.
func (w World) rows(o Options) ([]Row, error) {
	f := w.Fleet()
	plain := schedule.NewDispatcher(f, nil)
	changes := make([][]schedule.Change, len(o.Loads))
	for i, load := range o.Loads {
		var err error
		if changes[i], err = Places(plain, load); err != nil {
			return nil, err
		}
	}
	simulated := len(o.Rules) * len(o.Loads)
	rows := make([]Row, simulated)
	if o.Bound {
		rows = make([]Row, simulated+len(o.Loads))
	}
	todo := make(chan int, len(rows))
	for i := range rows {
		todo <- i
	}
	close(todo)
	errs := make([]error, len(rows))
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(rows), 4) {
		wg.Go(func() {
			for i := range todo {
				load := i % len(o.Loads)
				if i >= simulated {
					d, err := plain.With(changes[load], Start())
					if errs[i] = err; err == nil {
						rows[i] = w.bound(d, o.Loads[load])
					}
					continue
				}
				rule := o.Rules[i/len(o.Loads)]
				d, err := schedule.NewDispatcher(f, rule.Rule).With(changes[load], Start())
				if errs[i] = err; err == nil {
					if w.Hosts > roughHosts && !rule.fine {
						d.Roughly()
					}
					rows[i] = w.row(d, o.Slower)
				}
			}
		})
	}
	wg.Wait()
	i := slices.IndexFunc(errs, func(err error) bool { return err != nil })
	if i >= 0 {
		return nil, errs[i]
	}
	return rows, nil
}

// roughHosts is from how many hosts on the keys are looked at less often.
const roughHosts = 500_000

// row works a fleet off once.
func (w World) row(d *schedule.Dispatcher, slower float64) Row {
	hours, failed := d.Means()
	if slower > 0 {
		for i := range hours {
			hours[i] *= slower
		}
	}
	var hosts, onTime, weight, weighted, tardy float64
	core := make([]float64, len(d.Places())) // of each site: all but the low tier, in time
	for i := range d.Buckets() {
		b := d.Bucket(schedule.Ref(i))
		hosts += float64(b.Hosts)
		weight += float64(b.Hosts) * b.Weight
	}
	end := forecast.Run(d, 0, forecast.Truth{Hours: hours, Failed: failed, Spread: schedule.Spread}, w.Seed+1, func(e forecast.End) {
		if !e.Back {
			return
		}
		b := d.Bucket(e.Ref)
		if e.At > b.Due {
			tardy += b.Weight * (e.At - b.Due)
			return
		}
		onTime++
		weighted += b.Weight
		if inCore(b) {
			core[b.Site]++
		}
	})
	return Row{OnTime: 100 * onTime / hosts, Weighted: 100 * weighted / weight, Core: w.core(d, core), Tardiness: tardy / 1000, Hours: end}
}

func inCore(b schedule.Bucket) bool { return b.Tier != inventory.Low }
