package engine

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"unbrick/remediate"
)

// Pause makes a run, or some of its sites, take no more hosts until Resume. Hosts in flight go
// on: a host that was entered is better put back than left as it is. by says who did it. The
// empty run is the latest, here and below.
func (s *Store) Pause(ctx context.Context, run, by string, sites ...string) error {
	return s.setPaused(ctx, run, by, sites)
}

// Resume lets a run that was paused or halted go on, or some of its sites that were paused.
// The stop rule then looks only at what ends from now on.
func (s *Store) Resume(ctx context.Context, run string, sites ...string) error {
	return s.setPaused(ctx, run, "", sites)
}

func (s *Store) setPaused(ctx context.Context, run, by string, sites []string) error {
	return s.change(ctx, run, func(tx *sql.Tx, run string) error {
		for _, site := range sites {
			n, err := changed(ctx, tx, `UPDATE sites SET paused = $1 WHERE run = $2 AND site = $3`, by, run, site)
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("run %s has no site %q", run, site)
			}
		}
		if len(sites) > 0 {
			return nil
		}
		if by != "" {
			_, err := tx.ExecContext(ctx, `UPDATE runs SET paused = $1 WHERE id = $2`, by, run)
			return err
		}
		now, err := s.now(ctx, tx)
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE runs SET paused = '', halted = '', resumed = $1 WHERE id = $2`, now, run)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE sites SET paused = '' WHERE run = $1`, run)
		}
		return err
	})
}

// Cancel ends the treatment of hosts, or of all, without a repair: one in flight is put back
// first. The verdict is failed, and says by whom. It returns how many hosts that is; those
// with a verdict are left alone.
func (s *Store) Cancel(ctx context.Context, run, by string, hosts ...string) (n int, err error) {
	err = s.change(ctx, run, func(tx *sql.Tx, run string) error {
		n = 0
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		each, err := s.named(ctx, tx, run, hosts)
		if err != nil {
			return err
		}
		for _, where := range each {
			// What was never entered ends here. What has to be put back first is taken and
			// finds that it was cancelled.
			ended, err := s.moveAll(ctx, tx, run, "failed", where+` AND state IN ('todo', 'waiting') AND entered = ''`,
				`state = 'done', verdict = 'failed', reason = $1, ended = $2`, "cancelled by "+by, now)
			if err != nil {
				return err
			}
			_, err = s.moveAll(ctx, tx, run, "todo", where+` AND state = 'waiting'`, `state = 'todo', verdict = ''`)
			if err != nil {
				return err
			}
			flying, err := changed(ctx, tx, `UPDATE hosts SET cancel = $1 WHERE run = $2 AND state <> 'done' AND `+where, by, run)
			if err != nil {
				return err
			}
			n += ended + int(flying)
		}
		return nil
	})
	return n, err
}

// Retry makes hosts that ended with one of the verdicts, or that are named, be treated again,
// from the start; one that was repaired and is still to be put back, from there.
// It returns how many hosts that is.
func (s *Store) Retry(ctx context.Context, run string, verdicts []remediate.Verdict, hosts ...string) (n int, err error) {
	err = s.change(ctx, run, func(tx *sql.Tx, run string) error {
		n = 0
		which, err := s.named(ctx, tx, run, hosts)
		if err != nil {
			return err
		}
		if len(hosts) == 0 {
			which = nil
		}
		for _, v := range verdicts {
			which = append(which, "verdict = "+quote(string(v)))
		}
		for _, where := range which {
			moved, err := s.moveAll(ctx, tx, run, "todo", where+` AND state IN ('done', 'waiting')`,
				`state = 'todo', verdict = '', reason = '', cancel = '', lost = 0, touched = 0, ended = 0, parked = '', notes = '',
				climb = '', way = CASE WHEN entered <> '' THEN '' ELSE '`+unlabelled+`' END,
				repaired = CASE WHEN entered = '' THEN '' ELSE repaired END`)
			if err != nil {
				return err
			}
			n += moved
		}
		if n > 0 {
			_, err = tx.ExecContext(ctx, `UPDATE runs SET state = 'running', ended = 0 WHERE id = $1`, run)
		}
		return err
	})
	return n, err
}

// change runs fn on a run while no process takes hosts.
func (s *Store) change(ctx context.Context, run string, fn func(tx *sql.Tx, run string) error) error {
	r, err := s.Run(ctx, run)
	if err != nil {
		return err
	}
	err = s.tx(ctx, func(tx *sql.Tx) error {
		if err := s.exclusive(ctx, tx); err != nil {
			return err
		}
		return fn(tx, r.ID)
	})
	if err != nil {
		return fmt.Errorf("cannot change run %s: %w", r.ID, err)
	}
	return nil
}

// quote makes an SQL literal of a text.
func quote(text string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(text, "\x00", ""), "'", "''") + "'"
}

// named returns a condition for each host, or one for all. Every host must be in the run.
func (s *Store) named(ctx context.Context, tx *sql.Tx, run string, hosts []string) ([]string, error) {
	if len(hosts) == 0 {
		return []string{"host <> ''"}, nil
	}
	var each []string
	for _, h := range hosts {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM hosts WHERE run = $1 AND host = $2`, run, h).Scan(&n); err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fmt.Errorf("run %s has no host %q", run, h)
		}
		each = append(each, "host = "+quote(h))
	}
	return each, nil
}

// moveAll changes the hosts that where describes as set says, and counts them over to a bucket.
func (s *Store) moveAll(ctx context.Context, tx *sql.Tx, run, to, where, set string, args ...any) (int, error) {
	rows, err := tx.QueryContext(ctx, `SELECT site, state, verdict, COUNT(*),
		SUM(CASE WHEN verdict IN ('fixed', 'healthy') AND (due = 0 OR ended <= due) THEN 1 ELSE 0 END),
		SUM(CASE WHEN verdict IN ('fixed', 'healthy') AND due > 0 AND ended > due THEN 1 ELSE 0 END)
		FROM hosts WHERE run = $1 AND `+where+` GROUP BY site, state, verdict`, run)
	if err != nil {
		return 0, err
	}
	type pile struct {
		site, state, verdict string
		n, onTime, late      int
	}
	var piles []pile
	for rows.Next() {
		var p pile
		if err := rows.Scan(&p.site, &p.state, &p.verdict, &p.n, &p.onTime, &p.late); err != nil {
			rows.Close()
			return 0, err
		}
		piles = append(piles, p)
	}
	if err := rows.Close(); err != nil {
		return 0, err
	}
	n := 0
	for _, p := range piles {
		from := p.state
		if from == "done" {
			from = p.verdict
		}
		if err := move(ctx, tx, run, p.site, from, to, p.n); err != nil {
			return 0, err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE sites SET on_time = on_time - $1, late = late - $2
			WHERE run = $3 AND site = $4`, p.onTime, p.late, run, p.site); err != nil {
			return 0, err
		}
		n += p.n
	}
	if n == 0 {
		return 0, nil
	}
	args = append(args, run)
	_, err = tx.ExecContext(ctx, `UPDATE hosts SET `+set+fmt.Sprintf(` WHERE run = $%d AND `, len(args))+where, args...)
	return n, err
}
