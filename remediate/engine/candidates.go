package engine

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
)

// A candidate is a host that is due to be taken.
type candidate struct {
	ids
	label
	site, group string
	order       int64
	there       int // hosts of its site in flight
}

// A line is the hosts that are to do by one way, in their order. They are read a page at a
// time: no two queries may be open in one transaction.
type line struct {
	way  string
	page []candidate
	end  bool // there is no further page
	last candidate
}

const linePage = 250

// candidates returns the hosts to take now, in their order, as far as the limits go: no site
// that is paused, no two hosts of a group at once. Each way has a line of its own, so that one
// that is full does not make those behind it be searched.
func (w *worker) candidates(ctx context.Context, tx *sql.Tx, free int) (list []candidate, stuck int, err error) {
	groups, err := w.groups(ctx, tx)
	if err != nil {
		return nil, 0, err
	}
	u, err := w.usage(ctx, tx)
	if err != nil {
		return nil, 0, err
	}
	lines, err := w.lines(ctx, tx)
	if err != nil {
		return nil, 0, err
	}
	for len(list) < free {
		lines = slices.DeleteFunc(lines, func(l *line) bool { return u.full(l.way) })
		c, ok, err := w.pop(ctx, tx, lines)
		if err != nil || !ok {
			return list, stuck, err
		}
		switch {
		case c.group != "" && groups[c.group]:
		case !u.admits(c):
			if u.busyPerson(c) {
				stuck++
			}
		default:
			u.add(c)
			groups[c.group] = true
			c.Attempt++
			list = append(list, c)
		}
	}
	return list, stuck, nil
}

// lines finds the ways that hosts are to go. It skips from one to the next: there may be
// millions of hosts and there are few ways.
func (w *worker) lines(ctx context.Context, tx *sql.Tx) ([]*line, error) {
	var all []*line
	for query, args := `way >= $2`, []any{w.run.ID, ""}; ; query = `way > $2` {
		l := &line{}
		err := tx.QueryRowContext(ctx, `SELECT way FROM hosts WHERE run = $1 AND state = 'todo' AND `+query+
			` ORDER BY way LIMIT 1`, args...).Scan(&l.way)
		if err == sql.ErrNoRows {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if l.way != unlabelled {
			all = append(all, l)
		}
		args[1] = l.way
	}
}

// pop takes the first host of the lines.
func (w *worker) pop(ctx context.Context, tx *sql.Tx, lines []*line) (c candidate, ok bool, err error) {
	var first *line
	for _, l := range lines {
		if len(l.page) == 0 && !l.end {
			if err := w.read(ctx, tx, l); err != nil {
				return c, false, err
			}
		}
		if len(l.page) > 0 && (first == nil || before(l.page[0], first.page[0])) {
			first = l
		}
	}
	if first == nil {
		return c, false, nil
	}
	c, first.page = first.page[0], first.page[1:]
	return c, true, nil
}

func before(a, b candidate) bool {
	return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Host, b.Host)) < 0
}

// read reads the next page of a line.
func (w *worker) read(ctx context.Context, tx *sql.Tx, l *line) error {
	where, args := "", []any{w.run.ID, l.way}
	if l.last.Host != "" {
		where, args = ` AND (h.ord, h.host) > ($3, $4)`, append(args, l.last.order, l.last.Host)
	}
	if w.Limits.PerSite > 0 {
		args = append(args, w.Limits.PerSite)
		where += fmt.Sprintf(` AND s.running < $%d`, len(args))
	}
	in, args := w.atSites("h.site", args...)
	rows, err := tx.QueryContext(ctx, `SELECT h.host, h.attempt, h.ord, h.site, h.grp, h.way, h.subnet, h.tech, s.running FROM hosts h
		JOIN sites s ON s.run = h.run AND s.site = h.site
		WHERE h.run = $1 AND h.state = 'todo' AND h.way = $2 AND s.paused = ''`+where+in+
		fmt.Sprintf(` ORDER BY h.ord, h.host LIMIT %d`, linePage), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		c := candidate{ids: ids{Run: w.run.ID}}
		if err := rows.Scan(&c.Host, &c.Attempt, &c.order, &c.site, &c.group, &c.way, &c.subnet, &c.tech, &c.there); err != nil {
			return err
		}
		l.page = append(l.page, c)
	}
	if l.end = len(l.page) < linePage; !l.end {
		l.last = l.page[len(l.page)-1]
	}
	return rows.Err()
}

// groups returns those that have a host in flight.
func (w *worker) groups(ctx context.Context, tx *sql.Tx) (map[string]bool, error) {
	rows, err := tx.QueryContext(ctx, `SELECT DISTINCT grp FROM hosts WHERE run = $1 AND state = 'running' AND grp <> ''`, w.run.ID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	busy := map[string]bool{}
	for rows.Next() {
		var g string
		if err := rows.Scan(&g); err != nil {
			return nil, err
		}
		busy[g] = true
	}
	return busy, rows.Err()
}
