package engine

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/remediate/schedule"
)

// A site whose dependency tier has not ended is gated: its other hosts need what those serve,
// and are held until then. A held host is not taken. What of them was begun before goes on, and
// what has to be put back is. Above that, ordinary hosts of all sites wait for the services that
// every site needs: see services.go.

// comesFirst says whether the others of its site are held for a host.
func comesFirst(h inventory.Host) bool { return h.Tier == inventory.Dependency && h.Site != "" }

// A gating says which hosts of a run that is being stored are held, and where their sites are.
type gating struct {
	firsts, others map[string]bool // sites by what was seen of them
	early          map[string]bool // sites with hosts that were stored before it was known
	places         placesOf
}

func newGating() *gating {
	return &gating{firsts: map[string]bool{}, others: map[string]bool{}, early: map[string]bool{}, places: placesOf{}}
}

// label returns the columns first and held of a host.
func (g *gating) label(h inventory.Host) (first, held int) {
	g.places.join(h)
	switch {
	case comesFirst(h):
		g.firsts[h.Site] = true
		if g.others[h.Site] {
			g.early[h.Site] = true
		}
		return 1, 0
	case schedule.ServiceOf(&h) > 0:
		return 0, 0
	case g.firsts[h.Site]:
		return 0, 1
	}
	g.others[h.Site] = true
	return 0, 0
}

// finish gates the sites when all hosts are stored.
func (g *gating) finish(ctx context.Context, tx *sql.Tx, run string) error {
	for site := range g.firsts {
		if _, err := tx.ExecContext(ctx, `UPDATE sites SET gated = 1 WHERE run = $1 AND site = $2`, run, site); err != nil {
			return err
		}
	}
	if err := g.places.store(ctx, tx, run); err != nil {
		return err
	}
	return hold(ctx, tx, run, slices.Sorted(maps.Keys(g.early)))
}

// hold holds the hosts of sites that nothing was done to yet.
func hold(ctx context.Context, tx *sql.Tx, run string, sites []string) error {
	for part := range slices.Chunk(sites, 500) {
		args, marks := []any{run}, []string{}
		for _, site := range part {
			args = append(args, site)
			marks = append(marks, fmt.Sprintf("$%d", len(args)))
		}
		_, err := tx.ExecContext(ctx, `UPDATE hosts SET held = 1 WHERE run = $1 AND first = 0 AND serves = 0 AND held = 0 AND state = 'todo'
			AND entered = '' AND parked = '' AND site IN (`+strings.Join(marks, ", ")+`)`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}

// closed is the condition that a site has to be gated, at the time that is the second argument.
// The first is the run.
const closed = `(anyway = 0 OR pinned <= $2) AND EXISTS (SELECT 1 FROM hosts WHERE hosts.run = $1
	AND hosts.site = sites.site AND hosts.first = 1 AND hosts.state <> 'done')`

// openGates lets the hosts of sites go whose dependency tier has ended, and says whether there
// are such. Where there are many sites it looks only now and then, unless it must.
func (w *worker) openGates(ctx context.Context, tx *sql.Tx, must bool) (opened bool, err error) {
	began := time.Now()
	if !must && began.Before(w.gates) {
		return false, nil
	}
	now, err := w.Store.now(ctx, tx)
	if err != nil {
		return false, err
	}
	sites, err := texts(ctx, tx, `SELECT site FROM sites WHERE run = $1 AND gated = 1 AND NOT (`+closed+`)`, w.run.ID, now)
	if err != nil {
		return false, err
	}
	w.gates = began.Add(min(20*time.Since(began), time.Second))
	for _, site := range sites {
		if _, err := tx.ExecContext(ctx, `UPDATE sites SET gated = 0 WHERE run = $1 AND site = $2`, w.run.ID, site); err != nil {
			return false, err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE hosts SET held = 0 WHERE run = $1 AND site = $2 AND held = 1`, w.run.ID, site); err != nil {
			return false, err
		}
		w.Log.Info("dependency tier has ended", "run", w.run.ID, "site", site)
	}
	return len(sites) > 0, nil
}

// closeGates holds the hosts of sites again whose dependency tier is to be treated again, or
// whose run was begun by an unbrick that held nobody.
func (w *worker) closeGates(ctx context.Context) error {
	err := w.Store.tx(ctx, func(tx *sql.Tx) error {
		if err := w.Store.exclusive(ctx, tx); err != nil {
			return err
		}
		now, err := w.Store.now(ctx, tx)
		if err != nil {
			return err
		}
		return shutGates(ctx, tx, w.run.ID, now)
	})
	if err != nil {
		return fmt.Errorf("cannot hold the hosts of sites for their dependency tier: %w", err)
	}
	return nil
}

// shutGates holds the hosts of sites that have to be gated and are not.
func shutGates(ctx context.Context, tx *sql.Tx, run string, now int64) error {
	sites, err := texts(ctx, tx, `SELECT site FROM sites WHERE run = $1 AND gated = 0 AND `+closed, run, now)
	if err != nil || len(sites) == 0 {
		return err
	}
	for _, site := range sites {
		if _, err := tx.ExecContext(ctx, `UPDATE sites SET gated = 1 WHERE run = $1 AND site = $2`, run, site); err != nil {
			return err
		}
	}
	return hold(ctx, tx, run, sites)
}

// texts returns the only column of a query.
func texts(ctx context.Context, tx *sql.Tx, query string, args ...any) (all []string, err error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return all, rows.Err()
}
