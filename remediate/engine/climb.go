package engine

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"unbrick/inventory"
	"unbrick/remediate"
)

// next returns the way that a host takes next, of those whose drivers are here and can carry
// out the playbook.
func (e *Engine) next(h inventory.Host, c remediate.Climb) (inventory.Route, remediate.Climb, bool) {
	ways := slices.DeleteFunc(slices.Clone(e.Ladder.Ways(h)), func(r inventory.Route) bool { return e.Drivers[r.Driver] == nil || e.unable[r.Driver] != nil })
	return c.Next(ways, func(way string) int { return cmp.Or(e.Ladder.Rung(way).Tries, e.Attempts) })
}

// noWay says why there is no way into a host.
func (e *Engine) noWay(h inventory.Host) error {
	why := "the host has no way in that this unbrick knows"
	for _, r := range h.Routes {
		if err := e.unable[r.Driver]; err != nil {
			why = fmt.Sprintf("the host has no way in that can carry out the playbook: not by %s: %v", r.Driver, err)
		}
	}
	return errors.New(why)
}

// another returns the way that follows the one that failed, if there is one. A host that one
// way left ready for another, and that nobody goes on with, is stranded.
func (t *treatment) another() (on remediate.Climb, next inventory.Route, ok bool) {
	if t.verdict != remediate.Failed && t.verdict != remediate.Skipped {
		return on, next, false
	}
	on = t.climb.Failed(t.last.Route, t.begun)
	if t.undone {
		on = on.Undo()
	}
	if t.then != "" {
		on = on.Begin(t.last.Route, t.then)
	}
	if t.verdict == remediate.Failed && !t.final {
		next, on, ok = t.next(t.row.host, on)
	}
	if !ok && on.Owed() {
		t.verdict = remediate.Stranded
		t.reason = joined(t.reason, fmt.Sprintf("%s made it ready for %s, and that was not undone", on.Detour.From.Driver, on.Detour.To))
	}
	return on, next, ok
}

// goOn gives the host back, to be taken by its next way when that has a place for it.
func (t *treatment) goOn(on remediate.Climb, next inventory.Route) error {
	round := t.climb.Round
	t.climb = on
	l := labelOf(t.row.host, next)
	ctx := context.WithoutCancel(t.ctx)
	err := t.Store.tx(ctx, func(tx *sql.Tx) error {
		// What was said of the host was said to the treatment that ends here.
		n, err := changed(ctx, tx, `UPDATE hosts SET state = 'todo', stage = '', reason = $1, climb = $2, parked = '', notes = '', since = 0,
			way = $3, subnet = $4, tech = $5
			WHERE run = $6 AND host = $7 AND attempt = $8 AND executor = $9 AND state = 'running'`,
			t.reason, t.climbText(), l.way, l.subnet, l.tech, t.Run, t.Host, t.Attempt, t.executor())
		if err != nil || n == 0 {
			return err
		}
		if err := t.outcome(ctx, tx, round); err != nil {
			return err
		}
		return move(ctx, tx, t.Run, t.row.host.Site, "running", "todo", 1)
	})
	if err == nil {
		t.at("handed over", t.Host, remediate.End)
	}
	return err
}

// A label is what the dispatcher goes by.
type label struct{ way, subnet, tech string }

func labelOf(h inventory.Host, r inventory.Route) label {
	return label{way: r.Driver, subnet: remediate.Subnet(h, r), tech: cmp.Or(h.Technician, "anybody at "+h.Site)}
}

// ladderText is what the labels of a run depend on.
func ladderText(l remediate.Ladder) string {
	if l == nil {
		return ""
	}
	ways := []string{} // limits and tries may change
	for _, r := range l {
		ways = append(ways, fmt.Sprint(r.Way, " ", r.Derive))
	}
	b, _ := json.Marshal(ways) // strings always have a JSON
	return string(b)
}

// unlabelled is the way of hosts whose label is not known. They are not taken until it is.
const unlabelled = "?"

// relabelAtOnce is how many hosts get their labels in one transaction.
const relabelAtOnce = 1000

// relabel gives the hosts that are to do the labels of this ladder, if they have another's.
func (w *worker) relabel(ctx context.Context) error {
	text := ladderText(w.Ladder)
	if text == w.run.ladder {
		return nil
	}
	if err := w.relabelAll(ctx, `entered = '' AND parked = ''`); err != nil {
		return err
	}
	if _, err := w.Store.db().ExecContext(ctx, `UPDATE runs SET ladder = $1 WHERE id = $2`, text, w.run.ID); err != nil {
		return fmt.Errorf("cannot note the ladder of run %s: %w", w.run.ID, err)
	}
	return nil
}

// labelNew gives those their labels that have none.
func (w *worker) labelNew(ctx context.Context) error {
	where := `way = ` + quote(unlabelled)
	any := 0
	err := w.Store.db().QueryRowContext(ctx, `SELECT 1 FROM hosts WHERE run = $1 AND state = 'todo' AND `+where+` LIMIT 1`, w.run.ID).Scan(&any)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for hosts to be treated again: %w", err)
	}
	return w.relabelAll(ctx, where)
}

func (w *worker) relabelAll(ctx context.Context, where string) error {
	for after, n := "", relabelAtOnce; n == relabelAtOnce; {
		from := after
		err := w.Store.tx(ctx, func(tx *sql.Tx) error {
			if err := w.Store.exclusive(ctx, tx); err != nil {
				return err
			}
			var err error
			n, after, err = w.relabelPage(ctx, tx, where, from)
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot say by which way hosts go next: %w", err)
		}
	}
	return nil
}

// relabelPage labels a page of the hosts that where describes, and returns how many they were.
func (w *worker) relabelPage(ctx context.Context, tx *sql.Tx, where, after string) (n int, last string, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT host, data, climb, way, subnet, tech FROM hosts
		WHERE run = $1 AND host > $2 AND state = 'todo' AND `+where+fmt.Sprintf(` ORDER BY host LIMIT %d`, relabelAtOnce), w.run.ID, after)
	if err != nil {
		return 0, after, err
	}
	other := map[string]label{}
	for last = after; rows.Next(); n++ {
		var data, climb string
		var old label
		var h inventory.Host
		var c remediate.Climb
		err := rows.Scan(&last, &data, &climb, &old.way, &old.subnet, &old.tech)
		if err == nil {
			err = errors.Join(unmarshal(data, &h), unmarshal(climb, &c))
		}
		if err != nil {
			rows.Close()
			return 0, after, err
		}
		route, _, _ := w.next(h, c)
		if l := labelOf(h, route); l != old {
			other[last] = l
		}
	}
	if err := rows.Close(); err != nil {
		return 0, after, err
	}
	for host, l := range other {
		_, err := tx.ExecContext(ctx, `UPDATE hosts SET way = $1, subnet = $2, tech = $3 WHERE run = $4 AND host = $5`,
			l.way, l.subnet, l.tech, w.run.ID, host)
		if err != nil {
			return 0, after, err
		}
	}
	return n, last, rows.Err()
}
