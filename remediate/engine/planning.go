package engine

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/halt"
)

// planPage is how many hosts are read at once.
const planPage = 1000

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
func (p *Planning) learn(ctx context.Context) (err error) {
	p.seq, err = p.store.learn(ctx, p.run, p.seq, p.Learn)
	return err
}

// learn tells of the outcomes after one, as [schedule.Rates.Learn] wants them, and returns the last.
func (s *Store) learn(ctx context.Context, run string, after int64,
	tell func(way, model string, n, failed int, took time.Duration)) (last int64, err error) {
	rows, err := s.db().QueryContext(ctx, `SELECT way, model, COUNT(*), SUM(CASE WHEN result = 'good' THEN 0 ELSE 1 END),
		SUM(took), MAX(seq) FROM outcomes WHERE run = $1 AND seq > $2 AND took > 0 AND result IN ('good', 'bad') GROUP BY way, model`, run, after)
	if err != nil {
		return after, err
	}
	defer rows.Close()
	for last = after; rows.Next(); {
		var way, model string
		var n, failed int
		var took, seq int64
		if err := rows.Scan(&way, &model, &n, &failed, &took, &seq); err != nil {
			return after, err
		}
		tell(way, model, n, failed, time.Duration(took)*time.Millisecond)
		last = max(last, seq)
	}
	return last, rows.Err()
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
		case halt.OfWay, halt.OfRung:
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
