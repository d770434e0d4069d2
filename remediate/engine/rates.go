package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A rate is when the next host may be begun by a way whose starts are counted. The state has it,
// so that all processes of a run together keep it. What is to be put back, or gone on with, is
// no start.
type rate struct {
	gap, next int64 // ms
	burst     int64 // ms: how much of what was missed may be made up for
	fresh     bool  // next is not written down yet
}

// rates reads what the ways with a rate may begin now. It holds while the transaction does, if
// that is exclusive.
func (w *worker) rates(ctx context.Context, tx *sql.Tx) (all map[string]*rate, now int64, err error) {
	if len(w.PerHour) == 0 {
		return nil, 0, nil
	}
	if now, err = w.Store.now(ctx, tx); err != nil {
		return nil, 0, err
	}
	all = map[string]*rate{}
	for way, n := range w.PerHour {
		if n <= 0 {
			continue
		}
		r := &rate{gap: max(1, time.Hour.Milliseconds()/int64(n))}
		if second := time.Second.Milliseconds(); r.gap < second {
			r.burst = second // nobody looks that often
		}
		err := tx.QueryRowContext(ctx, `SELECT next FROM rates WHERE run = $1 AND way = $2`, w.run.ID, way).Scan(&r.next)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, 0, fmt.Errorf("cannot read the rate of %s: %w", way, err)
		}
		all[way] = r
	}
	return all, now, nil
}

// waits says whether the way has begun all that it may for now.
func (r *rate) waits(now int64) bool { return r != nil && r.next > now }

// start counts one.
func (r *rate) start(now int64) {
	if r != nil {
		r.next, r.fresh = max(r.next, now-r.burst)+r.gap, true
	}
}

// saveRates writes down the starts that were counted.
func (u *usage) saveRates(ctx context.Context, tx *sql.Tx, run string) error {
	for way, r := range u.rates {
		if !r.fresh {
			continue
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO rates (run, way, next) VALUES ($1, $2, $3)
			ON CONFLICT (run, way) DO UPDATE SET next = excluded.next`, run, way, r.next)
		if err != nil {
			return fmt.Errorf("cannot write the rate of %s: %w", way, err)
		}
	}
	return nil
}
