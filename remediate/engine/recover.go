package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

// lose gives a host back whose attempt ended without an answer, and why. What its row says of
// having been entered stays, and the next attempt looks first.
func (w *worker) lose(ctx context.Context, in ids, why error) error {
	counts := 1
	if diskFull(why) {
		counts = 0 // it would have ended well elsewhere
	}
	return w.Store.tx(ctx, func(tx *sql.Tx) error {
		var site string
		err := tx.QueryRowContext(ctx, `UPDATE hosts SET state = 'todo', lost = lost + $5, stage = '',
			way = CASE WHEN entered = '' THEN way ELSE '' END
			WHERE run = $1 AND host = $2 AND attempt = $3 AND executor = $4 AND state = 'running' RETURNING site`,
			in.Run, in.Host, in.Attempt, w.executor(), counts).Scan(&site)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return move(ctx, tx, in.Run, site, "running", "todo", 1)
	})
}

// takeOver takes the hosts of processes whose lease has run out, as many as there is place
// for. Their workflows go on here after the last stage that was recorded.
func (w *worker) takeOver(ctx context.Context) error {
	w.mu.Lock()
	draining := w.draining
	w.mu.Unlock()
	if !w.Store.postgres() || draining {
		return nil
	}
	var taken []string
	err := w.Store.tx(ctx, func(tx *sql.Tx) error {
		taken = nil
		if err := w.Store.exclusive(ctx, tx); err != nil {
			return err
		}
		now, err := w.Store.now(ctx, tx)
		if err != nil {
			return err
		}
		// One that wakes up again must find that it has lost what it had.
		if _, err := tx.ExecContext(ctx, `DELETE FROM workers WHERE lease <= $1`, now); err != nil {
			return err
		}
		p, err := w.position(ctx, tx)
		if err != nil || p.free <= 0 || p.running == 0 {
			return err
		}
		in, args := w.atSites("site", w.executor(), w.run.ID)
		rows, err := tx.QueryContext(ctx, fmt.Sprintf(`UPDATE hosts SET executor = $1 WHERE run = $2 AND host IN (
			SELECT host FROM hosts WHERE run = $2 AND state = 'running' AND executor <> $1
			AND executor NOT IN (SELECT executor FROM workers)%s LIMIT %d)
			RETURNING host, attempt`, in, p.free), args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			i := ids{Run: w.run.ID}
			if err := rows.Scan(&i.Host, &i.Attempt); err != nil {
				return err
			}
			taken = append(taken, i.workflow())
		}
		return rows.Err()
	})
	if err != nil {
		return fmt.Errorf("cannot take over hosts: %w", err)
	}
	return w.resume(taken)
}

func (w *worker) resume(workflows []string) error {
	if len(workflows) == 0 {
		return nil
	}
	w.Log.Info("taking up hosts", "run", w.run.ID, "hosts", len(workflows))
	_, err := dbos.ResumeWorkflows[string](w.dbos, workflows, dbos.WithResumeQueue(w.queue()))
	if err != nil {
		return fmt.Errorf("cannot take up hosts: %w", err)
	}
	return nil
}

// passCancels ends the stages of hosts that were cancelled.
func (w *worker) passCancels(ctx context.Context) error {
	rows, err := w.Store.db().QueryContext(ctx, `SELECT host, attempt, cancel FROM hosts
		WHERE run = $1 AND executor = $2 AND state = 'running' AND cancel <> ''`, w.run.ID, w.executor())
	if err != nil {
		return fmt.Errorf("cannot look for cancelled hosts: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		in := ids{Run: w.run.ID}
		var by string
		if err := rows.Scan(&in.Host, &in.Attempt, &by); err != nil {
			return err
		}
		w.mu.Lock()
		if cancel := w.active[in]; cancel != nil {
			cancel(&cancelledError{by})
		}
		w.mu.Unlock()
	}
	return rows.Err()
}

// reconcileEvery is how often hosts are looked for that ought to run here and do not.
const reconcileEvery = 5 * time.Second

// reconcile finds the hosts that are to run here and have not done so for a while: DBOS lost
// the database when it was about to begin them, or ended their workflow with an error.
func (w *worker) reconcile(ctx context.Context) error {
	if time.Since(w.checked) < reconcileEvery {
		return nil
	}
	w.checked = time.Now()
	idle, err := w.notActive(ctx)
	if err != nil || len(idle) == 0 {
		return err
	}
	flows, err := dbos.ListWorkflows(w.dbos, dbos.WithFilterWorkflowIDs(workflows(idle)...))
	if err != nil {
		return fmt.Errorf("cannot look for lost hosts: %w", err)
	}
	var again []string
	for _, in := range idle {
		k := slices.IndexFunc(flows, func(f dbos.WorkflowStatus) bool { return f.ID == in.workflow() })
		switch {
		case k >= 0 && flows[k].Status == dbos.WorkflowStatusEnqueued && flows[k].QueueName == w.queue():
		case k >= 0 && (flows[k].Status == dbos.WorkflowStatusPending || flows[k].Status == dbos.WorkflowStatusEnqueued):
			again = append(again, in.workflow())
		default:
			var why error
			if k >= 0 {
				why = flows[k].Error
			}
			if err := w.lose(ctx, in, why); err != nil {
				return err
			}
		}
	}
	return w.resume(again)
}

// notActive returns the hosts that are to run here and did not for two looks.
func (w *worker) notActive(ctx context.Context) ([]ids, error) {
	rows, err := w.Store.db().QueryContext(ctx, `SELECT host, attempt FROM hosts
		WHERE run = $1 AND executor = $2 AND state = 'running'`, w.run.ID, w.executor())
	if err != nil {
		return nil, fmt.Errorf("cannot look for lost hosts: %w", err)
	}
	defer rows.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	missed := map[string]time.Time{}
	var idle []ids
	for rows.Next() {
		in := ids{Run: w.run.ID}
		if err := rows.Scan(&in.Host, &in.Attempt); err != nil {
			return nil, err
		}
		if w.active[in] != nil {
			continue
		}
		since, ok := w.missed[in.workflow()]
		if !ok {
			since = time.Now()
		}
		missed[in.workflow()] = since
		if ok {
			idle = append(idle, in)
		}
	}
	w.missed = missed
	return idle, rows.Err()
}

func workflows(all []ids) []string {
	var s []string
	for _, i := range all {
		s = append(s, i.workflow())
	}
	return s
}

// pruneAtOnce is how many workflows are dropped in one transaction.
const pruneAtOnce = 500

// prune drops the workflows that ended: our tables know all that they did.
func (w *worker) prune(context.Context) error {
	flows, err := dbos.ListWorkflows(w.dbos, dbos.WithFilterQueueName(w.queue()), dbos.WithFilterLimit(pruneAtOnce),
		dbos.WithFilterLoadInput(false), dbos.WithFilterLoadOutput(false),
		dbos.WithFilterStatus(dbos.WorkflowStatusSuccess, dbos.WorkflowStatusError, dbos.WorkflowStatusCancelled))
	if err != nil {
		return fmt.Errorf("cannot prune: %w", err)
	}
	var old []string
	for _, f := range flows {
		old = append(old, f.ID)
	}
	if len(old) == 0 {
		return nil
	}
	if err := dbos.DeleteWorkflows(w.dbos, old); err != nil {
		return fmt.Errorf("cannot prune: %w", err)
	}
	return nil
}

// quiet passes on what DBOS logs as detail for the developer: it must not speak to the user,
// and what it calls an error is often none of ours.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(lowered{log.Handler()}) }

type lowered struct{ slog.Handler }

func (l lowered) Enabled(ctx context.Context, _ slog.Level) bool {
	return l.Handler.Enabled(ctx, slog.LevelDebug)
}

func (l lowered) Handle(ctx context.Context, r slog.Record) error {
	r.Message, r.Level = "dbos: "+r.Message, slog.LevelDebug
	return l.Handler.Handle(ctx, r)
}

func (l lowered) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lowered{l.Handler.WithAttrs(attrs)}
}
func (l lowered) WithGroup(name string) slog.Handler { return lowered{l.Handler.WithGroup(name)} }
