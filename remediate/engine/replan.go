package engine

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/halt"
)

// The order of hosts in the state is that of the plan which the run began with. While it goes
// on, one process asks a Planner, which knows what has become of each host, which ones come
// next, and writes their order down. What may be taken at all does not depend on it.
const (
	windowHosts = 2000      // whose order is written down
	windowSpan  = 4096      // of hosts.ord, for each window
	mostPlanned = 1_000_000 // of a larger run the order stays that of its plan
	planPage    = 1000      // hosts that are read at once
	planNews    = 100       // outcomes, after which the order is made anew early
)

// A Planning is the hosts of a run and a Planner that knows how they stand.
type Planning struct {
	*schedule.Planner
	Fleet *schedule.Fleet

	store  *Store
	run    string
	hosts  []standing // in the order of the table, as the Planner was told
	seq    int64      // outcomes that it has learnt from
	pins   map[string]Pin
	halted map[cohort]bool
	shut   map[[2]string]bool // way, site
	window map[string]int     // places of the hosts whose order was written down last
}

// A standing is what the Planner was told of a host.
type standing struct {
	name  string
	state schedule.State
	way   string
	round int
	out   bool // not in the plan: it cannot be treated
}

// Planning reads a run, and plans it as the options say, from its start on. The empty run is
// the latest.
func (s *Store) Planning(ctx context.Context, run string, o schedule.Options) (*Planning, error) {
	r, err := s.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	o.Names = true
	p := &Planning{store: s, run: r.ID, pins: map[string]Pin{}, halted: map[cohort]bool{}, shut: map[[2]string]bool{}}
	b := schedule.NewBuilder(o)
	err = p.pages(ctx, ", data", func(now standing, data string) error {
		var h inventory.Host
		if err := unmarshal(data, &h); err != nil {
			return err
		}
		now.out = !b.Add(&h, len(p.hosts))
		p.hosts = append(p.hosts, standing{name: now.name, out: now.out})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot plan run %s: %w", r.ID, err)
	}
	p.Fleet = b.Build()
	p.Planner = schedule.NewPlanner(p.Fleet)
	_, err = p.update(ctx)
	return p, err
}

// pages reads how all hosts stand.
func (p *Planning) pages(ctx context.Context, more string, each func(standing, string) error) error {
	for after, n := "", planPage; n == planPage; {
		rows, err := p.store.db().QueryContext(ctx, `SELECT host, state, way, climb`+more+` FROM hosts WHERE run = $1 AND host > $2`+
			fmt.Sprintf(` ORDER BY host LIMIT %d`, planPage), p.run, after)
		if err != nil {
			return err
		}
		for n = 0; rows.Next(); n++ {
			var s standing
			var state, climb, data string
			dest := []any{&s.name, &state, &s.way, &climb}
			if more != "" {
				dest = append(dest, &data)
			}
			var c remediate.Climb
			err := rows.Scan(dest...)
			if err == nil && s.way != "" && state != "done" {
				err = unmarshal(climb, &c)
			}
			s.round, s.state = c.Round, map[string]schedule.State{"running": schedule.Running, "waiting": schedule.Held, "done": schedule.Over}[state]
			if err == nil {
				err = each(s, data)
			}
			if err != nil {
				rows.Close()
				return err
			}
			after = s.name
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// update tells the Planner what has changed. It returns the hosts that go before all others:
// those to be put back, or gone on with.
func (p *Planning) update(ctx context.Context) (urgent []string, err error) {
	i := 0
	err = p.pages(ctx, "", func(now standing, _ string) error {
		if i == len(p.hosts) || p.hosts[i].name != now.name {
			return fmt.Errorf("host %s is not in the plan", now.name)
		}
		was := &p.hosts[i]
		i++
		if now.state == schedule.ToDo && now.way == "" {
			urgent = append(urgent, now.name)
		}
		if now.out = was.out; now.out || now == *was {
			return nil
		}
		*was = now
		return p.Set(now.name, now.state, now.way, now.round)
	})
	for _, do := range []func(context.Context) error{p.learn, p.readPins, p.readHalts} {
		if err == nil {
			err = do(ctx)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot bring the plan of run %s up to date: %w", p.run, err)
	}
	return urgent, nil
}

// learn takes in the outcomes that the Planner does not know.
func (p *Planning) learn(ctx context.Context) error {
	rows, err := p.store.db().QueryContext(ctx, `SELECT way, model, COUNT(*), SUM(CASE WHEN result = 'good' THEN 0 ELSE 1 END),
		SUM(took), MAX(seq) FROM outcomes WHERE run = $1 AND seq > $2 AND took > 0 AND result IN ('good', 'bad') GROUP BY way, model`, p.run, p.seq)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var way, model string
		var n, failed int
		var took, seq int64
		if err := rows.Scan(&way, &model, &n, &failed, &took, &seq); err != nil {
			return err
		}
		p.Learn(way, model, n, failed, time.Duration(took)*time.Millisecond)
		p.seq = max(p.seq, seq)
	}
	return rows.Err()
}

func (p *Planning) readPins(ctx context.Context) error {
	rows, err := p.store.db().QueryContext(ctx, `SELECT site, pinned, pinned_by, anyway FROM sites WHERE run = $1 AND pinned > 0`, p.run)
	if err != nil {
		return err
	}
	defer rows.Close()
	now := map[string]Pin{}
	for rows.Next() {
		var site string
		var until int64
		var pin Pin
		if err := rows.Scan(&site, &until, &pin.By, &pin.Anyway); err != nil {
			return err
		}
		pin.Until = moment(until)
		now[site] = pin
	}
	for site := range p.pins {
		if _, ok := now[site]; !ok {
			_ = p.Planner.Pin(site, time.Time{}, false)
		}
	}
	for site, pin := range now {
		if p.pins[site] != pin {
			_ = p.Planner.Pin(site, pin.Until, pin.Anyway) // a site that is not in the plan has nothing to treat
		}
	}
	p.pins = now
	return rows.Err()
}

// readHalts keeps hosts from the order that no way is open for.
func (p *Planning) readHalts(ctx context.Context) error {
	halts, err := p.store.Halts(ctx, p.run)
	if err != nil {
		return err
	}
	ways, models := p.Fleet.Cohorts()
	halted, shut := map[cohort]bool{}, map[[2]string]bool{}
	for _, h := range halts {
		switch s := h.Scope; s.Kind {
		case halt.OfModel:
			halted[cohort{s.Way, s.Model}] = true
		case halt.OfWay:
			for i, way := range ways {
				if way == s.Way {
					halted[cohort{way, models[i]}] = true
				}
			}
		case halt.OfSite:
			shut[[2]string{s.Way, s.Site}] = true
		case halt.OfConnector:
			way, site, _ := strings.Cut(s.Connector, connects)
			shut[[2]string{way, site}] = true
		}
	}
	for c := range differing(p.halted, halted) {
		p.Limit(c.way, c.model, map[bool]int{true: 0, false: -1}[halted[c]])
	}
	for s := range differing(p.shut, shut) {
		_ = p.Shut(s[0], s[1], shut[s])
	}
	p.halted, p.shut = halted, shut
	return nil
}

// differing returns what is in one of two sets and not in the other.
func differing[K comparable](a, b map[K]bool) map[K]bool {
	all := maps.Clone(a)
	for k := range b {
		if all[k] {
			delete(all, k)
		} else {
			all[k] = true
		}
	}
	return all
}

// next returns the hosts that come next, as if each ended as soon as it was begun, and those in
// flight now. The Planner stands afterwards as it did before.
func (p *Planning) next(now time.Time, most int) (order []string) {
	var taken []int
	for i, h := range p.hosts {
		if h.state == schedule.Running && !h.out {
			taken = append(taken, i)
			_ = p.Set(h.name, schedule.Over, "", 0)
		}
	}
	for len(order) < most {
		choices := p.Take(now, most-len(order))
		if len(choices) == 0 {
			break
		}
		for _, c := range choices {
			order, taken = append(order, c.Host), append(taken, c.Index)
			_ = p.Set(c.Host, schedule.Over, "", 0) // it is in the plan
		}
	}
	for _, i := range taken {
		h := &p.hosts[i]
		_ = p.Set(h.name, h.state, h.way, h.round)
	}
	return order
}

// planAhead keeps the order of the next hosts up to date until ctx ends, and says when it is for
// the first time.
func (w *worker) planAhead(ctx context.Context, planned func()) {
	defer planned()
	if w.Plan == nil {
		return
	}
	var p *Planning
	var next time.Time
	var outcomes, pins int64
	tick := time.NewTicker(min(w.Replan, time.Second))
	defer tick.Stop()
	for {
		leads, seq, pinned, err := w.leadPlan(ctx)
		early := seq-outcomes >= planNews || pinned != pins
		switch {
		case err != nil || !leads:
			p = nil
		case p == nil || early || !time.Now().Before(next):
			began := time.Now()
			if p, err = w.plan(ctx, p); err != nil {
				break
			}
			outcomes, pins = seq, pinned
			next = began.Add(max(w.Replan, 20*time.Since(began))) // planning must not be what the process does
		}
		if err != nil && ctx.Err() == nil {
			p = nil
			w.Log.Warn("cannot plan ahead; the order stays as it is", "run", w.run.ID, "error", err)
		}
		planned()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// leadPlan says whether this process is the one that plans, and what has come in.
func (w *worker) leadPlan(ctx context.Context) (leads bool, outcomes, pins int64, err error) {
	err = w.Store.tx(ctx, func(tx *sql.Tx) error {
		var planner string
		hosts := 0
		err := tx.QueryRowContext(ctx, `SELECT planner, outcomes, pins FROM runs WHERE id = $1`, w.run.ID).Scan(&planner, &outcomes, &pins)
		if leads = planner == w.executor(); err != nil || leads {
			return err
		}
		sums := `todo + running + waiting`
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(`+sums+`), 0) FROM sites WHERE run = $1`, w.run.ID).Scan(&hosts); err != nil || hosts > mostPlanned {
			return err
		}
		now, err := w.Store.now(ctx, tx)
		if err != nil {
			return err
		}
		n, err := changed(ctx, tx, `UPDATE runs SET planner = $1 WHERE id = $2 AND planner = $3
			AND NOT EXISTS (SELECT 1 FROM workers WHERE executor = $3 AND lease > $4)`, w.executor(), w.run.ID, planner, now)
		leads = n == 1
		return err
	})
	return leads, outcomes, pins, err
}

// plan makes the order of the next hosts anew, and writes it down if it is another one.
func (w *worker) plan(ctx context.Context, p *Planning) (*Planning, error) {
	var err error
	if p == nil {
		o := *w.Plan
		o.Start = w.run.Started
		if p, err = w.Store.Planning(ctx, w.run.ID, o); err != nil {
			return nil, err
		}
	}
	urgent, err := p.update(ctx)
	if err != nil {
		return nil, err
	}
	order := append(urgent[:min(len(urgent), windowSpan-windowHosts)], p.next(time.Now(), windowHosts)...)
	if p.holds(order) {
		return p, nil
	}
	return p, w.writeOrder(ctx, p, order)
}

// holds says whether the order that was written down last is good for some time.
func (p *Planning) holds(order []string) bool {
	last := -1
	for _, host := range order[:min(len(order), windowHosts/2)] {
		place, ok := p.window[host]
		if !ok || place < last {
			return false
		}
		last = place
	}
	return true
}

// writeOrder puts hosts before all that are to do, in their order.
func (w *worker) writeOrder(ctx context.Context, p *Planning, order []string) error {
	var n int64
	if err := w.Store.db().QueryRowContext(ctx, `UPDATE runs SET windows = windows + 1 WHERE id = $1 RETURNING windows`, w.run.ID).Scan(&n); err != nil {
		return fmt.Errorf("cannot write the order of hosts: %w", err)
	}
	window := make(map[string]int, len(order))
	for part := range slices.Chunk(order, 250) {
		first := len(window)
		err := w.Store.tx(ctx, func(tx *sql.Tx) error {
			if err := w.Store.exclusive(ctx, tx); err != nil {
				return err
			}
			for i, host := range part {
				_, err := tx.ExecContext(ctx, `UPDATE hosts SET ord = $1 WHERE run = $2 AND host = $3 AND state = 'todo'`,
					-n*windowSpan+int64(first+i), w.run.ID, host)
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot write the order of hosts: %w", err)
		}
		for _, host := range part {
			window[host] = len(window)
		}
	}
	p.window = window
	return nil
}
