package engine

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"unbrick/remediate"
)

// takeAtOnce is how many hosts are taken in one transaction.
const takeAtOnce = 200

// ids is all that DBOS knows of a host.
type ids struct {
	Run     string `json:"run"`
	Host    string `json:"host"`
	Attempt int    `json:"attempt"`
}

func (i ids) workflow() string { return fmt.Sprintf("%s/%s/%d", i.Run, i.Host, i.Attempt) }

// dispatch takes as many hosts as may be taken now. over says that this run has nothing more
// to do for this process: every host has its verdict, or the stop rule stopped it and nothing
// is in flight.
func (w *worker) dispatch(ctx context.Context) (over bool, err error) {
	for {
		var taken []ids
		var state position
		over := false
		err := w.Store.tx(ctx, func(tx *sql.Tx) (err error) {
			taken, over = nil, false
			if err = w.Store.exclusive(ctx, tx); err != nil {
				return err
			}
			if state, err = w.position(ctx, tx); err != nil {
				return err
			}
			if state.watch, err = w.count(ctx, tx); err != nil || state.free <= 0 {
				return err
			}
			if _, err = w.openGates(ctx, tx, false); err != nil {
				return err
			}
			if state.service, err = w.Store.service(ctx, tx, w.run.ID, state.now); err != nil {
				return err
			}
			if err = w.halt(ctx, tx, &state); err != nil {
				return err
			}
			if !state.paused && !state.halted {
				taken, state.stuck, err = w.take(ctx, tx, state)
			}
			if err == nil && len(taken) == 0 {
				over, err = w.nothingLeft(ctx, tx, state)
			}
			return err
		})
		if err != nil {
			return false, fmt.Errorf("cannot take hosts from %s: %w", w.Store.name(), err)
		}
		w.watch = state.watch
		w.tellHalts(w.watch)
		if len(taken) == takeAtOnce {
			continue
		}
		if !over {
			return false, nil
		}
		return true, w.conclude(ctx)
	}
}

// nothingLeft says whether this process has nothing more to do for the run. It holds at that
// moment alone: a host that waits may be taken up again at the next.
func (w *worker) nothingLeft(ctx context.Context, tx *sql.Tx, p position) (bool, error) {
	switch {
	case p.running > 0:
		return false, nil
	case p.halted:
		return true, nil
	case p.todo > p.stuck:
		if opened, err := w.openGates(ctx, tx, true); err != nil || opened {
			return false, err
		}
		barred, err := w.barred(ctx, tx, p)
		if err != nil || p.todo > p.stuck+barred {
			return false, err
		}
		if elsewhere, err := w.servedElsewhere(ctx, tx, p); err != nil || elsewhere {
			return false, err
		}
	}
	await, err := w.awaits(ctx, tx, p)
	return !await, err
}

// A position is what decides whether hosts may be taken.
type position struct {
	todo, running  int // of the sites of this process
	stuck          int // of those to do: their technicians have all they can do
	free           int // places left in this process
	paused, halted bool
	resumed        int64
	now            int64 // as the state has it
	watch          *watch
	service        int // class that all that is ordinary is held for; 0: none
}

func (w *worker) position(ctx context.Context, tx *sql.Tx) (p position, err error) {
	var paused, halted string
	err = tx.QueryRowContext(ctx, `SELECT paused, halted, resumed FROM runs WHERE id = $1`, w.run.ID).
		Scan(&paused, &halted, &p.resumed)
	if err != nil {
		return p, err
	}
	p.paused, p.halted = paused != "", halted != ""
	if p.now, err = w.Store.now(ctx, tx); err != nil {
		return p, err
	}
	in, args := w.atSites("site", w.run.ID)
	err = tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(todo), 0), COALESCE(SUM(running), 0) FROM sites WHERE run = $1`+in, args...).
		Scan(&p.todo, &p.running)
	if err != nil {
		return p, err
	}
	var mine int
	err = tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM hosts WHERE run = $1 AND executor = $2 AND state = 'running'`,
		w.run.ID, w.executor()).Scan(&mine)
	p.free = min(w.Limits.Hosts-mine, takeAtOnce)
	return p, err
}

// atSites returns the condition that a column is one of this process's sites, and the
// arguments of the query, which begin with args.
func (w *worker) atSites(column string, args ...any) (string, []any) {
	if len(w.Sites) == 0 {
		return "", args
	}
	var marks []string
	for _, site := range w.Sites {
		args = append(args, site)
		marks = append(marks, fmt.Sprintf("$%d", len(args)))
	}
	return fmt.Sprintf(" AND %s IN (%s)", column, strings.Join(marks, ", ")), args
}

// halt asks the stop rule, and writes down what it says.
func (w *worker) halt(ctx context.Context, tx *sql.Tx, p *position) error {
	if w.Halt == nil || p.halted {
		return nil
	}
	out, err := w.outcomes(ctx, tx, p.resumed)
	if err != nil {
		return err
	}
	why, halt := w.Halt(out)
	if !halt {
		return nil
	}
	p.halted = true
	w.Log.Warn("run halted", "run", w.run.ID, "reason", why)
	_, err = tx.ExecContext(ctx, `UPDATE runs SET halted = $1 WHERE id = $2`, why, w.run.ID)
	return err
}

func (w *worker) outcomes(ctx context.Context, tx *sql.Tx, since int64) (Outcomes, error) {
	out := Outcomes{Count: Count{Verdicts: map[remediate.Verdict]int{}}}
	sums := strings.Join(buckets(), "), SUM(")
	rows, err := tx.QueryContext(ctx, `SELECT '', '', 0, 0, '', 0, SUM(on_time), SUM(late), SUM(`+sums+`) FROM sites WHERE run = $1`, w.run.ID)
	if err != nil {
		return out, err
	}
	for rows.Next() {
		all, err := scanSite(rows)
		if err != nil {
			rows.Close()
			return out, err
		}
		out.Count = all.Count
	}
	if err := rows.Close(); err != nil {
		return out, err
	}
	rows, err = tx.QueryContext(ctx, `SELECT verdict FROM hosts WHERE run = $1 AND ended > 0 AND ended > $2
		AND state = 'done' AND touched = 1 AND cancel = '' ORDER BY ended DESC LIMIT 100`, w.run.ID, since)
	if err != nil {
		return out, err
	}
	defer rows.Close()
	for rows.Next() {
		var v remediate.Verdict
		if err := rows.Scan(&v); err != nil {
			return out, err
		}
		out.Recent = append(out.Recent, v)
	}
	return out, rows.Err()
}

// take marks hosts as running and begins their workflows, in one transaction: neither is
// without the other. stuck is how many hosts only wait for a technician to have time.
func (w *worker) take(ctx context.Context, tx *sql.Tx, p position) (taken []ids, stuck int, err error) {
	list, stuck, err := w.candidates(ctx, tx, p)
	if err != nil {
		return nil, 0, err
	}
	moved := map[string]int{}
	for _, c := range list {
		_, err := tx.ExecContext(ctx, `UPDATE hosts SET state = 'running', attempt = $1, executor = $2, debt = entered, proof = repaired,
			route = CASE WHEN parked <> '' AND way = '' THEN route ELSE way END, stage = '', verdict = '', reason = '', ended = 0,
			started = CASE WHEN started = 0 THEN $3 ELSE started END WHERE run = $4 AND host = $5`,
			c.Attempt, w.executor(), time.Now().UnixMilli(), c.Run, c.Host)
		if err != nil {
			return nil, 0, err
		}
		_, err = dbos.Enqueue[string](w.dbos, w.queue(), hostFlow, c.ids,
			dbos.WithEnqueueWorkflowID(c.workflow()), dbos.WithEnqueueTransaction(tx))
		if err != nil {
			return nil, 0, err
		}
		moved[c.site]++
		taken = append(taken, c.ids)
	}
	for site, n := range moved {
		if err := move(ctx, tx, w.run.ID, site, "todo", "running", n); err != nil {
			return nil, 0, err
		}
	}
	return taken, stuck, nil
}

// move counts n hosts of a site over from one bucket to another.
func move(ctx context.Context, tx *sql.Tx, run, site, from, to string, n int) error {
	if !slices.Contains(buckets(), from) || !slices.Contains(buckets(), to) {
		return fmt.Errorf("no bucket %q or %q", from, to)
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`UPDATE sites SET %s = %s - $1, %s = %s + $1 WHERE run = $2 AND site = $3`,
		from, from, to, to), n, run, site)
	return err
}

// conclude ends the run if every host of every site has a verdict.
func (w *worker) conclude(ctx context.Context) error {
	err := w.Store.tx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE runs SET state = 'ended', ended = $1 WHERE id = $2 AND state = 'running'
			AND NOT EXISTS (SELECT 1 FROM sites WHERE run = $2 AND (todo > 0 OR running > 0 OR waiting > 0))`, time.Now().UnixMilli(), w.run.ID)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot end run %s: %w", w.run.ID, err)
	}
	return nil
}
