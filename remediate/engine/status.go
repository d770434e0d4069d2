package engine

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/schedule/halt"
)

// ErrNoRun says that the state does not hold the run asked for.
var ErrNoRun = errors.New("no such run")

// Run returns a run. The empty id is the latest.
func (s *Store) Run(ctx context.Context, id string) (Run, error) {
	where, args := `ORDER BY started DESC, id DESC LIMIT 1`, []any{}
	if id != "" {
		where, args = `WHERE id = $1`, []any{id}
	}
	var r Run
	var options string
	var started, ended int64
	err := s.db().QueryRowContext(ctx, `SELECT id, playbook, source, playbook_digest, fleet_digest, options,
		state, paused, halted, started, ended, ladder FROM runs `+where, args...).
		Scan(&r.ID, &r.Playbook, &r.Source, &r.playbookDigest, &r.FleetDigest, &options,
			&r.State, &r.Paused, &r.Halted, &started, &ended, &r.ladder)
	if errors.Is(err, sql.ErrNoRows) {
		return Run{}, fmt.Errorf("cannot find run %q in %s: %w", id, s.name(), ErrNoRun)
	}
	if err != nil {
		return Run{}, fmt.Errorf("cannot read run %q from %s: %w", id, s.name(), err)
	}
	r.Options, r.Started, r.Ended = json.RawMessage(options), moment(started), moment(ended)
	return r, nil
}

// A Count says how many hosts stand where.
type Count struct {
	Hosts    int                       `json:"hosts"`
	Todo     int                       `json:"todo"`
	Running  int                       `json:"running"`
	Verdicts map[remediate.Verdict]int `json:"verdicts"` // every verdict is in it
	OnTime   int                       `json:"on_time"`  // fixed or healthy when they were needed
	Late     int                       `json:"late"`     // fixed or healthy after that
}

// A SiteStatus is how one site stands.
type SiteStatus struct {
	Site   string `json:"site"`
	Paused string `json:"paused,omitempty"` // by whom
	Gated  bool   `json:"gated,omitempty"`  // its hosts are held until its dependency tier has ended
	Pin    *Pin   `json:"pin,omitempty"`
	Shift  *Shift `json:"shift,omitempty"` // that hosts wait for
	Count
}

// A Wait is something that hosts wait for.
type Wait struct {
	For   string    `json:"for"`
	Hosts int       `json:"hosts"`
	Since time.Time `json:"since"` // the first of them
}

// A Status is how a run stands.
type Status struct {
	Run     Run           `json:"run"`
	Sites   []SiteStatus  `json:"sites"`           // by name
	Waits   []Wait        `json:"waits,omitempty"` // what most wait for first, at most 20
	Halts   []halt.Record `json:"halts,omitempty"` // in the order in which they were halted
	Workers int           `json:"workers"`         // processes that are at work on the state
	Left    *Left         `json:"left,omitempty"`  // what nobody is at work on
	Fixes   []Fix         `json:"fixes,omitempty"` // hosts of the state that unbrick fix has
	// Service is what the ordinary hosts of all sites are held for, if for anything.
	Service *Service `json:"held_for,omitempty"`
	Count
}

// buckets are the columns of sites that count hosts: a host is in exactly one.
func buckets() []string {
	all := []string{"todo", "running"}
	for _, v := range remediate.Verdicts() {
		all = append(all, string(v))
	}
	return all
}

// Status says how a run stands, from counters: cheap with millions of hosts. The empty run is
// the latest.
func (s *Store) Status(ctx context.Context, run string) (Status, error) {
	r, err := s.Run(ctx, run)
	if err != nil {
		return Status{}, err
	}
	st := Status{Run: r, Count: Count{Verdicts: map[remediate.Verdict]int{}}}
	rows, err := s.db().QueryContext(ctx, `SELECT site, paused, gated, pinned, pinned_by, anyway, on_time, late, `+strings.Join(buckets(), ", ")+
		` FROM sites WHERE run = $1 ORDER BY site`, r.ID)
	if err != nil {
		return Status{}, fmt.Errorf("cannot read the status of run %s: %w", r.ID, err)
	}
	defer rows.Close()
	for rows.Next() {
		site, err := scanSite(rows)
		if err != nil {
			return Status{}, fmt.Errorf("cannot read the status of run %s: %w", r.ID, err)
		}
		st.Sites = append(st.Sites, site)
		st.add(site.Count)
	}
	if err := rows.Err(); err != nil {
		return st, fmt.Errorf("cannot read the status of run %s: %w", r.ID, err)
	}
	rows.Close()
	if st.Verdicts[remediate.Waiting] > 0 {
		if st.Waits, err = s.waits(ctx, r.ID); err != nil {
			return st, err
		}
	}
	if err := s.addShifts(ctx, &st); err != nil {
		return st, err
	}
	if st.Service, err = s.heldFor(ctx, r.ID); err != nil {
		return st, err
	}
	if err := s.addWork(ctx, &st); err != nil {
		return st, err
	}
	st.Halts, err = s.Halts(ctx, r.ID)
	return st, err
}

func (s *Store) waits(ctx context.Context, run string) (all []Wait, err error) {
	rows, err := s.db().QueryContext(ctx, `SELECT reason, COUNT(*) AS n, MIN(since) FROM hosts
		WHERE run = $1 AND state = 'waiting' GROUP BY reason ORDER BY n DESC, reason LIMIT 20`, run)
	if err != nil {
		return nil, fmt.Errorf("cannot read what hosts of run %s wait for: %w", run, err)
	}
	defer rows.Close()
	for rows.Next() {
		var w Wait
		var since int64
		if err := rows.Scan(&w.For, &w.Hosts, &since); err != nil {
			return nil, err
		}
		w.Since = moment(since)
		all = append(all, w)
	}
	return all, rows.Err()
}

func scanSite(rows *sql.Rows) (SiteStatus, error) {
	var st SiteStatus
	n := make([]int, len(buckets()))
	var until int64
	var p Pin
	dest := []any{&st.Site, &st.Paused, &st.Gated, &until, &p.By, &p.Anyway, &st.OnTime, &st.Late}
	for i := range n {
		dest = append(dest, &n[i])
	}
	if err := rows.Scan(dest...); err != nil {
		return st, err
	}
	if p.Until = moment(until); time.Now().Before(p.Until) {
		st.Pin = &p
	}
	st.Todo, st.Running, st.Hosts = n[0], n[1], n[0]+n[1]
	st.Verdicts = map[remediate.Verdict]int{}
	for i, v := range remediate.Verdicts() {
		st.Verdicts[v] = n[2+i]
		st.Hosts += n[2+i]
	}
	return st, nil
}

func (c *Count) add(o Count) {
	c.Hosts += o.Hosts
	c.Todo += o.Todo
	c.Running += o.Running
	c.OnTime += o.OnTime
	c.Late += o.Late
	for v, n := range o.Verdicts {
		c.Verdicts[v] += n
	}
}

// left says how many hosts of a run have no verdict.
func (s *Store) left(ctx context.Context, run string) (n int, err error) {
	err = s.db().QueryRowContext(ctx, `SELECT COALESCE(SUM(todo + running + waiting), 0) FROM sites WHERE run = $1`, run).Scan(&n)
	return n, err
}

// A Result is how one host stands, or ended.
type Result struct {
	Host     string            `json:"host"`
	Site     string            `json:"site"`
	State    string            `json:"state"`           // "todo", "running", "waiting" (for a person) or "done"
	Stage    remediate.Stage   `json:"stage,omitempty"` // of a running or waiting one
	Verdict  remediate.Verdict `json:"verdict"`         // of a waiting or done one
	Route    string            `json:"route"`           // the driver of the last way tried
	Reason   string            `json:"reason"`          // of a waiting one: for what
	Attempts []Attempt         `json:"attempts"`        // in their order; what was cut off before anything ended is not in it
	Due      time.Time         `json:"due,omitzero"`
	Started  time.Time         `json:"started,omitzero"`
	Ended    time.Time         `json:"ended,omitzero"`
	OnTime   bool              `json:"on_time"` // fixed or healthy when it was needed
	Removed  []playbooks.File  `json:"removed"`
	Changed  []playbooks.Value `json:"changed,omitempty"` // registry values
	Evidence string            `json:"evidence"`          // what showed that Windows is up

	Inventory inventory.Host   `json:"-"`
	Report    remediate.Report `json:"-"`
}

// An Attempt is what one way into a host came to.
type Attempt struct {
	Route   string            `json:"route"`
	Stage   remediate.Stage   `json:"stage"`   // the last one that ended
	Verdict remediate.Verdict `json:"verdict"` // empty: it was cut off, or goes on
	Reason  string            `json:"reason"`
	Started time.Time         `json:"started"`
	Ended   time.Time         `json:"ended"`
}

const resultPage = 500

// Results yields every host of a run, by name. state, if it is not empty, is "todo",
// "running", "waiting" or "done". An error is the last thing that it yields. The loop may use the store.
func (s *Store) Results(ctx context.Context, run, state string) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		r, err := s.Run(ctx, run)
		if err != nil {
			yield(Result{}, err)
			return
		}
		for after := ""; ; {
			page, err := s.results(ctx, r.ID, state, after)
			if err != nil {
				yield(Result{}, fmt.Errorf("cannot read the hosts of run %s: %w", r.ID, err))
				return
			}
			for _, res := range page {
				if !yield(res, nil) {
					return
				}
			}
			if len(page) < resultPage {
				return
			}
			after = page[len(page)-1].Host
		}
	}
}

// results reads one page, so that no connection is held while the caller works on it.
func (s *Store) results(ctx context.Context, run, state, after string) ([]Result, error) {
	where := `run = $1 AND host > $2`
	if state != "" {
		where += ` AND state = '` + strings.ReplaceAll(state, "'", "") + `'`
	}
	rows, err := s.db().QueryContext(ctx, `SELECT host, site, state, stage, verdict, route, reason,
		due, started, ended, evidence, data, report FROM hosts WHERE `+where+
		fmt.Sprintf(` ORDER BY host LIMIT %d`, resultPage), run, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []Result
	for rows.Next() {
		var r Result
		var due, started, ended int64
		var data, report string
		if err := rows.Scan(&r.Host, &r.Site, &r.State, &r.Stage, &r.Verdict, &r.Route, &r.Reason,
			&due, &started, &ended, &r.Evidence, &data, &report); err != nil {
			return nil, err
		}
		r.Due, r.Started, r.Ended = moment(due), moment(started), moment(ended)
		r.OnTime = r.Verdict.Done() && (due == 0 || ended <= due)
		if err := json.Unmarshal([]byte(data), &r.Inventory); err != nil {
			return nil, err
		}
		if report != "" {
			if err := json.Unmarshal([]byte(report), &r.Report); err != nil {
				return nil, err
			}
		}
		r.Removed, r.Changed = r.Report.Removed(), r.Report.Changed()
		if r.Report.Word != "" && r.Evidence != "" {
			r.Evidence = "by the word of " + r.Report.Word + "; " + r.Evidence
		}
		page = append(page, r)
	}
	if err := rows.Err(); err != nil || len(page) == 0 {
		return nil, err
	}
	rows.Close()
	return page, s.addAttempts(ctx, run, page)
}
