package engine

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/schedule/halt"
)

// outcome writes down how a treatment ended that says something of its way. It belongs into the
// transaction that ends the treatment: neither is without the other.
func (t *treatment) outcome(ctx context.Context, tx *sql.Tx, round int) error {
	result, ok := t.result(round)
	if !ok {
		return nil
	}
	return writeOutcome(ctx, tx, t.ids, t.route, result, t.reason)
}

// result says what the end of the treatment means for others by the same way. Hosts that came
// back by themselves, were left alone or cancelled mean nothing, nor does what a person did, nor
// that a way which failed at a host does so in the next round.
func (t *treatment) result(round int) (halt.Result, bool) {
	if t.route == "" || t.route == remediate.Manual || t.cancelled {
		return "", false
	}
	switch t.verdict {
	case remediate.Fixed:
		return halt.Good, true
	case remediate.Stranded:
		return halt.Harm, true
	case remediate.Unconfirmed:
		return halt.Bad, true
	case remediate.Failed:
		if t.then != "" { // it did what it could: another way goes on
			return "", false
		}
		if t.begun && !t.final {
			return halt.Bad, round == 0
		}
		return halt.Infra, round == 0 // out of reach, or no way would have done better: nobody has the key
	}
	return "", false
}

func writeOutcome(ctx context.Context, tx *sql.Tx, in ids, way string, result halt.Result, reason string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO outcomes (run, host, attempt, result, way, model, site, error, took, at)
		SELECT $1, $2, CAST($3 AS INTEGER), CAST($4 AS TEXT), CAST($5 AS TEXT), model, site, CAST($6 AS TEXT),
			COALESCE((SELECT SUM(ended - started) FROM audit WHERE audit.run = $1 AND audit.host = $2 AND audit.attempt = $3 AND audit.route = $5), 0),
			CAST($7 AS BIGINT)
		FROM hosts WHERE run = $1 AND host = $2 ON CONFLICT DO NOTHING`,
		in.Run, in.Host, in.Attempt, string(result), way, reason, time.Now().UnixMilli())
	return err
}

// watches says whether hosts of a way are watched in cohorts. What persons do is not, nor a way
// that fails more often than not: three that failed say nothing of the fourth.
func (e *Engine) watches(way string) bool {
	return e.Baselines != nil && way != "" && way != remediate.Manual && e.Baselines[way] <= 0.5
}

// A watch is the state of the cohorts of a run, as it was when so many outcomes were counted.
type watch struct {
	halt.Monitor
	seq   int64
	fresh []halt.Halt // of this transaction
	stops
}

// outcomesAtOnce is how many outcomes are counted in one transaction.
const outcomesAtOnce = 500

// count counts the outcomes that came in, whoever wrote them. The transaction must be exclusive.
// What this process knows of the cohorts holds if nobody else counted meanwhile.
func (w *worker) count(ctx context.Context, tx *sql.Tx) (*watch, error) {
	m := w.watch
	w.watch = nil // until the transaction holds
	var seq int64
	if err := tx.QueryRowContext(ctx, `SELECT outcomes FROM runs WHERE id = $1`, w.run.ID).Scan(&seq); err != nil {
		return nil, err
	}
	if m == nil || m.seq != seq {
		var err error
		if m, err = loadWatch(ctx, tx, w.run.ID); err != nil {
			return nil, err
		}
		m.Baselines, m.seq = w.Baselines, seq
		m.sum()
	}
	m.fresh = nil
	in, err := w.arrived(ctx, tx)
	if err != nil || len(in) == 0 {
		return m, err
	}
	var halts []halt.Halt
	touched := map[halt.Scope]bool{}
	for _, o := range in {
		m.seq++
		if _, err := tx.ExecContext(ctx, `UPDATE outcomes SET seq = $1 WHERE run = $2 AND host = $3 AND attempt = $4 AND result = $5`,
			m.seq, w.run.ID, o.Host, o.attempt, string(o.Result)); err != nil {
			return nil, err
		}
		if w.watches(o.Way) {
			halts = append(halts, m.Add(o.Outcome)...)
			for _, s := range scopesOf(o.Outcome) {
				touched[s] = true
			}
		}
		if stop := w.Ladder.Rung(o.Way).Stop; stop != (remediate.Stop{}) {
			halts = append(halts, m.AddRung(o.Outcome, stop.Reached)...)
			touched[halt.Scope{Kind: halt.OfRung, Way: o.Way}] = true
		}
	}
	m.fresh = halts
	m.sum()
	return m, m.save(ctx, tx, w.run.ID, func(s halt.Scope) bool { return touched[s] })
}

type arrival struct {
	halt.Outcome
	attempt int
}

func (w *worker) arrived(ctx context.Context, tx *sql.Tx) (all []arrival, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT host, attempt, result, way, model, site, error, at FROM outcomes
		WHERE run = $1 AND seq = 0 `+fmt.Sprintf(`ORDER BY at, host LIMIT %d`, outcomesAtOnce), w.run.ID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var a arrival
		var at int64
		if err := rows.Scan(&a.Host, &a.attempt, &a.Result, &a.Way, &a.Model, &a.Site, &a.Error, &at); err != nil {
			return nil, err
		}
		a.At, a.Connector = moment(at), connector(a.Way, a.Site)
		if a.Result == halt.Good {
			a.Error = ""
		}
		all = append(all, a)
	}
	return all, rows.Err()
}

// connector names what lies between this process and the hosts of a way: a site whose line is
// down says nothing of the way elsewhere.
func connector(way, site string) string { return way + connects + site }

const connects = " at "

func scopesOf(o halt.Outcome) []halt.Scope {
	return []halt.Scope{
		{Kind: halt.OfConnector, Connector: o.Connector},
		{Kind: halt.OfModel, Way: o.Way, Model: o.Model},
		{Kind: halt.OfSite, Way: o.Way, Site: o.Site},
		{Kind: halt.OfWay, Way: o.Way},
	}
}

// stops are what is halted, to look up.
type stops struct {
	ways    map[string]bool
	rungs   map[string]bool // ways, whoever watches them
	cohorts map[cohort]bool
	sites   map[string][]string // of each way
}

// tellHalts says what the outcomes that were counted led to, once that is written down.
func (w *worker) tellHalts(m *watch) {
	for _, h := range m.fresh {
		w.Log.Warn("halted", "run", w.run.ID, "level", h.Scope.Kind, "reason", h.Why)
		w.tell(Event{Halt: &h})
	}
	m.fresh = nil
}

// sum brings the stops up to date.
func (m *watch) sum() {
	m.stops = stops{ways: map[string]bool{}, rungs: map[string]bool{}, cohorts: map[cohort]bool{}, sites: map[string][]string{}}
	for _, h := range m.Halts() {
		switch s := h.Scope; s.Kind {
		case halt.OfWay:
			m.ways[s.Way] = true
		case halt.OfRung:
			m.rungs[s.Way] = true
		case halt.OfModel:
			m.cohorts[cohort{s.Way, s.Model}] = true
		case halt.OfSite:
			m.sites[s.Way] = append(m.sites[s.Way], s.Site)
		case halt.OfConnector:
			way, site, _ := strings.Cut(s.Connector, connects)
			m.sites[way] = append(m.sites[way], site)
		}
	}
}

// stopped says whether a halt keeps hosts of a model at a site from being taken by a way.
func (m *watch) stopped(way, model, site string) bool {
	return m.ways[way] || m.cohorts[cohort{way, model}] || slices.Contains(m.sites[way], site)
}

// barred counts the hosts to do that are not taken before somebody resumes what is halted, or
// the dependency tier of their site, or the services that it needs, have ended, or the shift of its
// technicians begins.
func (w *worker) barred(ctx context.Context, tx *sql.Tx, p position) (n int, err error) {
	if p.paused {
		return 0, nil
	}
	in, args := w.atSites("h.site", w.run.ID)
	rows, err := tx.QueryContext(ctx, `SELECT h.way, h.model, h.site, CASE WHEN h.held = 1 OR (s.gated = 1 AND h.first = 0 AND h.serves = 0 AND h.way <> '')
		OR (`+unserved(p.service)+`) OR (`+offShift(p.now)+`) THEN 1 ELSE 0 END AS gate, COUNT(*) FROM hosts h JOIN sites s ON s.run = h.run AND s.site = h.site
		WHERE h.run = $1 AND h.state = 'todo' AND s.paused = ''`+in+` GROUP BY h.way, h.model, h.site, gate`, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var way, model, site string
		var gated, hosts int
		if err := rows.Scan(&way, &model, &site, &gated, &hosts); err != nil {
			return 0, err
		}
		if gated == 1 || p.watch.rungs[way] || w.watches(way) && p.watch.stopped(way, model, site) {
			n += hosts
		}
	}
	return n, rows.Err()
}

func loadWatch(ctx context.Context, tx *sql.Tx, run string) (*watch, error) {
	list, err := texts(ctx, tx, `SELECT data FROM cohorts WHERE run = $1 ORDER BY scope`, run)
	if err != nil {
		return nil, err
	}
	m := &watch{}
	for _, data := range list {
		r := &halt.Record{}
		if err := json.Unmarshal([]byte(data), r); err != nil {
			return nil, fmt.Errorf("cannot read the cohorts of run %s: %w", run, err)
		}
		m.Records = append(m.Records, r)
	}
	return m, nil
}

// save writes down the cohorts that changed, and how far they have come.
func (m *watch) save(ctx context.Context, tx *sql.Tx, run string, changed func(halt.Scope) bool) error {
	for _, r := range m.Records {
		if !changed(r.Scope) {
			continue
		}
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		halted := 0
		if r.Halt != nil {
			halted = 1
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO cohorts (run, scope, data, halted) VALUES ($1, $2, $3, $4)
			ON CONFLICT (run, scope) DO UPDATE SET data = excluded.data, halted = excluded.halted`,
			run, string(r.Scope.Kind)+" "+r.Scope.String(), string(data), halted)
		if err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `UPDATE runs SET outcomes = $1 WHERE id = $2`, m.seq, run)
	return err
}

// Halts returns what of a run is halted, in the order in which it was. The empty run is the
// latest.
func (s *Store) Halts(ctx context.Context, run string) ([]halt.Record, error) {
	r, err := s.Run(ctx, run)
	if err != nil {
		return nil, err
	}
	rows, err := s.db().QueryContext(ctx, `SELECT data FROM cohorts WHERE run = $1 AND halted = 1 ORDER BY scope`, r.ID)
	if err != nil {
		return nil, fmt.Errorf("cannot read what of run %s is halted: %w", r.ID, err)
	}
	defer rows.Close()
	var all []halt.Record
	for rows.Next() {
		var data string
		var rec halt.Record
		if err := rows.Scan(&data); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(data), &rec); err != nil {
			return nil, fmt.Errorf("cannot read what of run %s is halted: %w", r.ID, err)
		}
		all = append(all, rec)
	}
	slices.SortStableFunc(all, func(a, b halt.Record) int { return a.Halt.At.Compare(b.Halt.At) })
	return all, rows.Err()
}

// errNotHalted says that what was to be resumed is not halted.
var errNotHalted = errors.New("not halted")

// ResumeHalted ends the halts of cohorts, as [halt.Scope] names them, or all if none is named,
// and returns them. A person must have a name.
func (s *Store) ResumeHalted(ctx context.Context, run, by string, names ...string) (ended []halt.Halt, err error) {
	err = s.change(ctx, run, func(tx *sql.Tx, run string) error {
		ended = nil
		m, err := loadWatch(ctx, tx, run)
		if err != nil {
			return err
		}
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		halts := m.Halts()
		for _, name := range names {
			if !slices.ContainsFunc(halts, func(h halt.Halt) bool { return h.Scope.String() == name }) {
				return fmt.Errorf("%q is %w; unbrick status shows what is", name, errNotHalted)
			}
		}
		for _, h := range halts {
			if len(names) > 0 && !slices.Contains(names, h.Scope.String()) {
				continue
			}
			if err := m.Resume(h.Scope, by, moment(now)); err != nil {
				return err
			}
			ended = append(ended, h)
		}
		if len(ended) == 0 {
			return nil
		}
		if err := tx.QueryRowContext(ctx, `SELECT outcomes + 1 FROM runs WHERE id = $1`, run).Scan(&m.seq); err != nil {
			return err
		}
		return m.save(ctx, tx, run, func(halt.Scope) bool { return true })
	})
	return ended, err
}
