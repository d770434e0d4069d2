package engine

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"unbrick/remediate"
)

// A candidate is a host that is due to be taken.
type candidate struct {
	ids
	label
	site, group string
	model       string
	order       int64
	there       int // hosts of its site in flight
}

// A line is the hosts of one model that are to do by one way, in their order. They are read a
// page at a time: no two queries may be open in one transaction.
type line struct {
	way, model string
	size       int           // of a page
	shut       []string      // sites that are halted for the way
	serves     int           // hosts of services up to this class alone; 0: all
	now        int64         // whoever's shift begins later is not sent
	spent      time.Duration // on reading it
	first      candidate     // none comes before it
	page       []candidate
	end        bool // there is no further page
	last       candidate
}

// linePage is how long a page is at most.
const linePage = 250

// candidates returns the hosts to take now, in their order, as far as the limits go: no site
// that is paused or gated, no host that is claimed, no two hosts of a group at once, no more of a way and model than its
// ring has. Each has a line of its own, so that one that is full does not make those behind it
// be searched.
func (w *worker) candidates(ctx context.Context, tx *sql.Tx, p position) (list []candidate, stuck int, err error) {
	groups, err := w.groups(ctx, tx)
	if err != nil {
		return nil, 0, err
	}
	fixes, err := w.Store.fixes(ctx, tx, p.now)
	if err != nil {
		return nil, 0, err
	}
	fixed := map[string]bool{} // by hand, now
	for _, f := range fixes {
		fixed[claimName(f.Host)], groups[f.group] = true, true
	}
	u, err := w.usage(ctx, tx, p.watch)
	if err != nil {
		return nil, 0, err
	}
	lines, err := w.lines(ctx, tx, p.service == 0)
	if err == nil && p.service > 0 {
		lines, err = w.serviceLines(ctx, tx, lines, p.service)
	}
	if err != nil {
		return nil, 0, err
	}
	for _, l := range lines {
		l.now = p.now
		if l.size = min(max(2*p.free, 16), linePage); u.watches(l.way) {
			l.shut = u.watch.sites[l.way]
		}
	}
	lines, hands := w.withHands(lines)
	defer func() { w.restHands(hands, list) }()
	for len(list) < p.free {
		lines = slices.DeleteFunc(lines, func(l *line) bool { return u.full(l.way, l.model) })
		c, ok, err := w.pop(ctx, tx, lines)
		if err != nil {
			return nil, 0, err
		}
		if !ok {
			break
		}
		switch {
		case c.group != "" && groups[c.group], fixed[claimName(c.Host)]:
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
	if len(list)+p.running == 0 {
		n, err := w.inHand(ctx, tx, u, p)
		if err != nil {
			return nil, 0, err
		}
		stuck = max(stuck, n) // of those are the ones whose technician is busy
	}
	return list, stuck, u.saveRates(ctx, tx, w.run.ID)
}

// lines finds the ways that hosts are to go, and their models. It skips from one to the next:
// there may be millions of hosts, and there are few of these. Without ways it finds those alone
// that have none: what is to be put back or gone on with.
func (w *worker) lines(ctx context.Context, tx *sql.Tx, ways bool) ([]*line, error) {
	var all []*line
	for query, args := `(way, model) >= ($2, $3)`, []any{w.run.ID, "", ""}; ; query = `(way, model) > ($2, $3)` {
		l := &line{}
		err := tx.QueryRowContext(ctx, `SELECT way, model, ord, host FROM hosts WHERE run = $1 AND state = 'todo' AND held = 0 AND `+query+
			` ORDER BY way, model, ord, host LIMIT 1`, args...).Scan(&l.way, &l.model, &l.first.order, &l.first.Host)
		l.first.way = l.way
		if err == sql.ErrNoRows || err == nil && !ways && l.way != "" {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if l.way != unlabelled {
			all = append(all, l)
		}
		args[1], args[2] = l.way, l.model
	}
}

// pop takes the first host of the lines.
func (w *worker) pop(ctx context.Context, tx *sql.Tx, lines []*line) (c candidate, ok bool, err error) {
	for {
		var first *line
		for _, l := range lines {
			if !(l.end && len(l.page) == 0) && (first == nil || before(l.next(), first.next())) {
				first = l
			}
		}
		switch {
		case first == nil:
			return c, false, nil
		case len(first.page) == 0: // what it holds may come later than it could
			if err := w.read(ctx, tx, first); err != nil {
				return c, false, err
			}
		default:
			c, first.page = first.page[0], first.page[1:]
			return c, true, nil
		}
	}
}

// next returns the first host of the line, or what none of it comes before.
func (l *line) next() candidate {
	switch {
	case len(l.page) > 0:
		return l.page[0]
	case l.last.Host != "":
		return l.last
	}
	return l.first
}

// before says which comes first: what is to be put back, or gone on with, has no way.
func before(a, b candidate) bool {
	if (a.way == "") != (b.way == "") {
		return a.way == ""
	}
	return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.Host, b.Host)) < 0
}

// read reads the next page of a line.
func (w *worker) read(ctx context.Context, tx *sql.Tx, l *line) error {
	where, args := " AND h.way = $2 AND h.model = $3", []any{w.run.ID, l.way, l.model}
	if l.serves > 0 {
		where = serviceLine(l.serves)
	}
	if l.last.Host != "" {
		where, args = where+` AND (h.ord, h.host) > ($4, $5)`, append(args, l.last.order, l.last.Host)
	}
	if w.Limits.PerSite > 0 {
		args = append(args, w.Limits.PerSite)
		where += fmt.Sprintf(` AND s.running < $%d`, len(args))
	}
	if l.way == remediate.Manual {
		where += ` AND NOT (` + offShift(l.now) + `)`
	}
	for _, site := range l.shut {
		args = append(args, site)
		where += fmt.Sprintf(` AND h.site <> $%d`, len(args))
	}
	began := time.Now()
	defer func() { l.spent += time.Since(began) }()
	in, args := w.atSites("h.site", args...)
	rows, err := tx.QueryContext(ctx, `SELECT h.host, h.attempt, h.ord, h.site, h.grp, h.way, h.model, h.subnet, h.tech, s.running FROM hosts h
		JOIN sites s ON s.run = h.run AND s.site = h.site
		WHERE h.run = $1 AND h.state = 'todo' AND h.held = 0 AND s.paused = ''
		AND (s.gated = 0 OR h.first = 1 OR h.serves > 0 OR h.way = '')`+where+in+
		fmt.Sprintf(` ORDER BY h.ord, h.host LIMIT %d`, l.size), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		c := candidate{ids: ids{Run: w.run.ID}}
		if err := rows.Scan(&c.Host, &c.Attempt, &c.order, &c.site, &c.group, &c.way, &c.model, &c.subnet, &c.tech, &c.there); err != nil {
			return err
		}
		l.page = append(l.page, c)
	}
	if l.end = len(l.page) < l.size; !l.end {
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
