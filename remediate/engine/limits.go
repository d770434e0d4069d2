package engine

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"unbrick/remediate"
)

// A usage is how much of what is limited is in use, as this transaction will leave it.
type usage struct {
	limits  Limits
	ladder  remediate.Ladder
	watches func(way string) bool
	watch   *watch

	sites, ways, subnets, images, persons map[string]int
	cohorts                               map[cohort]int

	rates map[string]*rate // of ways whose starts are counted
	now   int64            // of rates
}

// A cohort is the hosts of one model that are treated by one way.
type cohort struct{ way, model string }

// usage counts the hosts in flight of all processes, and those that wait. It holds while the
// transaction does, if that is exclusive.
func (w *worker) usage(ctx context.Context, tx *sql.Tx, m *watch) (*usage, error) {
	u := &usage{limits: w.Limits, ladder: w.Ladder, watches: w.watches, watch: m, sites: map[string]int{}, ways: map[string]int{},
		subnets: map[string]int{}, images: map[string]int{}, persons: map[string]int{},
		cohorts: map[cohort]int{}}
	var err error
	if u.rates, u.now, err = w.rates(ctx, tx); err != nil {
		return nil, err
	}
	l := w.Limits
	limited := w.Baselines != nil || l.PerSubnet+l.ImagesPerSite+l.PerTechnician > 0 ||
		slices.ContainsFunc(w.Ladder, func(r remediate.Rung) bool { return r.Hosts > 0 })
	if !limited {
		return u, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT route, model, site, subnet, tech, stage, COUNT(*) FROM hosts
		WHERE run = $1 AND state = 'running' GROUP BY route, model, site, subnet, tech, stage`, w.run.ID)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var c candidate
		var stage remediate.Stage
		var n int
		if err := rows.Scan(&c.way, &c.model, &c.site, &c.subnet, &c.tech, &stage, &n); err != nil {
			rows.Close()
			return nil, err
		}
		u.count(c, stage, n)
	}
	if err := rows.Close(); err != nil {
		return nil, err
	}
	if err := w.withPersons(ctx, tx, u); err != nil {
		return nil, err
	}
	return u, w.uncounted(ctx, tx, u)
}

// withPersons adds the hosts that persons have in hand: those that wait, and those that go on
// after a word of theirs.
func (w *worker) withPersons(ctx context.Context, tx *sql.Tx, u *usage) error {
	rows, err := tx.QueryContext(ctx, `SELECT route, tech, COUNT(*) FROM hosts WHERE run = $1 AND state = 'waiting' GROUP BY route, tech
		UNION ALL SELECT route, tech, COUNT(*) FROM hosts WHERE run = $1 AND state = 'todo' AND held = 0 AND way = '' AND parked <> ''
		GROUP BY route, tech`, w.run.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var way, tech string
		var n int
		if err := rows.Scan(&way, &tech, &n); err != nil {
			return err
		}
		if u.persons[tech] += n; way == remediate.Manual {
			u.ways[way] += n
		}
	}
	return rows.Err()
}

// inHand counts the hosts that could be begun now if persons did not have as many in hand as the
// rung of manual has.
func (w *worker) inHand(ctx context.Context, tx *sql.Tx, u *usage, p position) (n int, err error) {
	if !over(w.Ladder.Rung(remediate.Manual).Hosts, u.ways[remediate.Manual]) {
		return 0, nil
	}
	in, args := w.atSites("h.site", w.run.ID, remediate.Manual)
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM hosts h JOIN sites s ON s.run = h.run AND s.site = h.site
		WHERE h.run = $1 AND h.state = 'todo' AND h.held = 0 AND h.way = $2 AND s.paused = ''
		AND (s.gated = 0 OR h.first = 1 OR h.serves > 0) AND NOT (`+unserved(p.service)+`) AND NOT (`+offShift(p.now)+`)`+in, args...).Scan(&n)
	return n, err
}

// uncounted adds the hosts that ended since outcomes were counted to those of which nobody knows
// yet how they end: on PostgreSQL a treatment may end at any time.
func (w *worker) uncounted(ctx context.Context, tx *sql.Tx, u *usage) error {
	if w.Baselines == nil {
		return nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT way, model, COUNT(*) FROM outcomes WHERE run = $1 AND seq = 0 GROUP BY way, model`, w.run.ID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c cohort
		var n int
		if err := rows.Scan(&c.way, &c.model, &n); err != nil {
			return err
		}
		u.cohorts[c] += n
	}
	return rows.Err()
}

// count adds hosts that are at a stage of a way. One that is only looked at any more uses
// nothing of it.
func (u *usage) count(c candidate, stage remediate.Stage, n int) {
	u.cohorts[cohort{c.way, c.model}] += n // nobody knows yet how it ends
	if stage == remediate.Confirm {
		return
	}
	u.ways[c.way] += n
	if c.subnet != "" && remediate.OutOfBand(c.way) {
		u.subnets[c.subnet] += n
	}
	if remediate.Streams(c.way) && stage != remediate.Leave {
		u.images[c.site] += n
	}
	if c.way == remediate.Manual {
		u.persons[c.tech] += n
	}
}

// add counts a host that is taken.
func (u *usage) add(c candidate) {
	if _, ok := u.sites[c.site]; !ok {
		u.sites[c.site] = c.there
	}
	u.sites[c.site]++
	u.count(c, "", 1)
	u.rates[c.way].start(u.now)
}

// full says whether no host of the model may be taken by the way. What is to be put back, or
// gone on with, has no way, and is not held up.
func (u *usage) full(way, model string) bool {
	if way == "" {
		return false
	}
	if u.rates[way].waits(u.now) || u.watch.rungs[way] {
		return true
	}
	if u.watches(way) {
		if n := u.watch.Cap(way, model); n >= 0 && u.cohorts[cohort{way, model}] >= n {
			return true
		}
	}
	return over(u.ladder.Rung(way).Hosts, u.ways[way])
}

func over(limit, n int) bool { return limit > 0 && n >= limit }

// admits says whether the host may be taken. Whether its way is full has been asked.
func (u *usage) admits(c candidate) bool {
	there, ok := u.sites[c.site]
	if !ok {
		there = c.there
	}
	switch {
	case over(u.limits.PerSite, there):
		return false
	case c.way == "":
		return true
	case u.watches(c.way) && u.watch.stopped(c.way, c.model, c.site),
		remediate.OutOfBand(c.way) && c.subnet != "" && over(u.limits.PerSubnet, u.subnets[c.subnet]),
		remediate.Streams(c.way) && over(u.limits.ImagesPerSite, u.images[c.site]):
		return false
	}
	return !u.busyPerson(c)
}

// busyPerson says whether the host is for a person who has as many as go.
func (u *usage) busyPerson(c candidate) bool {
	return c.way == remediate.Manual && over(u.limits.PerTechnician, u.persons[c.tech])
}

// pace waits until the host may be switched on without its site switching on too many at once:
// the inrush, and then the storm on its servers, would take it down again. The time is not the
// stage's. Counted restarts ask by themselves, before each.
func (t *treatment) pace(ctx context.Context, s remediate.Stage, way string) error {
	if !remediate.OutOfBand(way) || way == "restart" || s != remediate.Enter && s != remediate.Leave {
		return nil
	}
	return t.Store.PowerOn(ctx, t.Run, t.row.host.Site, t.Limits.PowerPerMinute)
}

// PowerOn waits until one more host of a site may be switched on, and counts it: so many a minute
// by all processes of the run together. 0 is no limit.
func (s *Store) PowerOn(ctx context.Context, run, site string, perMinute int) error {
	if perMinute <= 0 {
		return nil
	}
	var now, at int64
	err := s.tx(ctx, func(tx *sql.Tx) (err error) {
		if now, err = s.now(ctx, tx); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, `INSERT INTO rates (run, way, next) VALUES ($1, $2, CAST($3 AS BIGINT) + CAST($4 AS BIGINT))
			ON CONFLICT (run, way) DO UPDATE SET next = CASE WHEN rates.next > CAST($3 AS BIGINT) THEN rates.next ELSE CAST($3 AS BIGINT) END + CAST($4 AS BIGINT)
			RETURNING next - CAST($4 AS BIGINT)`, run, "power at "+site, now, max(1, time.Minute.Milliseconds()/int64(perMinute))).Scan(&at)
	})
	if err != nil {
		return fmt.Errorf("cannot count what is switched on at %s: %w", site, err)
	}
	select {
	case <-time.After(time.Duration(at-now) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
