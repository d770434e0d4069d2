package engine

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/halt"
)

// overdueEvery is how often treatments are looked for that take too long.
const overdueEvery = 5 * time.Second

// A learner knows how long treatments take.
type learner struct {
	rates *schedule.Rates
	seq   int64     // outcomes that it has learnt from
	next  time.Time // when it looks next
}

// overdue counts treatments as bad of which nobody knows for three times as long as 95 % of their
// kind take how they end: so that what hangs on every host is halted before its stages run out of
// time. They go on; one that ends well after all counts as good too.
func (w *worker) overdue(ctx context.Context) error {
	stops := slices.ContainsFunc(w.Ladder, func(r remediate.Rung) bool { return r.Stop != (remediate.Stop{}) })
	if w.Baselines == nil && !stops || time.Now().Before(w.learner.next) {
		return nil
	}
	l := &w.learner
	l.next = time.Now().Add(overdueEvery)
	if l.rates == nil {
		l.rates = schedule.NewRates()
		if w.Plan != nil && w.Plan.Rates != nil {
			l.rates = w.Plan.Rates.Clone()
		}
	}
	var err error
	if l.seq, err = w.Store.learn(ctx, w.run.ID, l.seq, l.rates.Learn); err != nil {
		return fmt.Errorf("cannot read how long treatments took: %w", err)
	}
	late, err := w.late(ctx)
	if err != nil || len(late) == 0 {
		return err
	}
	return w.Store.tx(ctx, func(tx *sql.Tx) error {
		for _, t := range late {
			if err := writeUnknown(ctx, tx, t.ids, t.way, t.why); err != nil {
				return err
			}
		}
		return nil
	})
}

// A lateOne is a treatment that takes too long.
type lateOne struct {
	ids
	way, why string
}

// late returns the treatments of this process that take too long.
func (w *worker) late(ctx context.Context) (all []lateOne, err error) {
	rows, err := w.Store.db().QueryContext(ctx, `SELECT h.host, h.attempt, h.route, h.model, MIN(a.started) FROM hosts h
		JOIN audit a ON a.run = h.run AND a.host = h.host AND a.attempt = h.attempt AND a.route = h.route
		WHERE h.run = $1 AND h.executor = $2 AND h.state = 'running' AND h.route <> '' GROUP BY h.host, h.attempt, h.route, h.model`,
		w.run.ID, w.executor())
	if err != nil {
		return nil, fmt.Errorf("cannot look for treatments that take too long: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		t := lateOne{ids: ids{Run: w.run.ID}}
		var model string
		var began int64
		if err := rows.Scan(&t.Host, &t.Attempt, &t.way, &model, &began); err != nil {
			return nil, err
		}
		most := w.learner.rates.Patience(t.way, model)
		if took := time.Since(moment(began)); took > most && t.way != remediate.Manual {
			t.why = fmt.Sprintf("no answer for %s, and 95 %% take a third of %s", took.Round(time.Second), most.Round(time.Second))
			all = append(all, t)
		}
	}
	return all, rows.Err()
}

// writeUnknown writes down a treatment that does not end. How long it took is not known.
func writeUnknown(ctx context.Context, tx *sql.Tx, in ids, way, why string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO outcomes (run, host, attempt, result, way, model, site, error, took, at)
		SELECT run, host, attempt, CAST($4 AS TEXT), CAST($5 AS TEXT), model, site, CAST($6 AS TEXT), 0, CAST($7 AS BIGINT)
		FROM hosts WHERE run = $1 AND host = $2 AND attempt = $3 AND state = 'running' ON CONFLICT DO NOTHING`,
		in.Run, in.Host, in.Attempt, string(halt.Bad), way, why, time.Now().UnixMilli())
	return err
}
