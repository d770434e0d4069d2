package engine

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// The order of hosts in the state is that of the plan which the run began with. While it goes
// on, one process asks a Planner, which knows what has become of each host, which ones come
// next, and writes their order down. What may be taken at all does not depend on it.
const (
	windowHosts = 2000      // whose order is written down
	windowSpan  = 4096      // of hosts.ord, for each window
	mostPlanned = 1_000_000 // of a larger run the order stays that of its plan
	planNews    = 100       // outcomes, after which the order is made anew early
)

// planAhead keeps the order of the next hosts up to date until ctx ends, and says when it is for
// the first time.
func (w *worker) planAhead(ctx context.Context, planned func()) {
	defer planned()
	if w.Plan == nil {
		return
	}
	var p *Planning
	var next, soon time.Time
	var outcomes, pins int64
	tick := time.NewTicker(min(w.Replan, time.Second))
	defer tick.Stop()
	for {
		leads, seq, pinned, err := w.leadPlan(ctx)
		began := time.Now()
		early := p != nil && (pinned != pins || seq-outcomes >= planNews && began.After(soon))
		switch {
		case err != nil || !leads:
			p = nil
		case early || !began.Before(next):
			p, err = w.planned(ctx, p)
			outcomes, pins = seq, pinned
			took := time.Since(began) // planning must not be all that the process does
			soon, next = began.Add(10*took), began.Add(max(w.Replan, 20*took))
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

// planned is plan, and makes an error of a panic: hosts can be treated in any order.
func (w *worker) planned(ctx context.Context, p *Planning) (next *Planning, err error) {
	defer func() {
		if v := recover(); v != nil {
			next, err = nil, &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return w.plan(ctx, p)
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
