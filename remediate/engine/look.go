package engine

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/schedule/halt"
)

// Hosts that nobody treats are looked at rarely, so many at once, and each for so long.
const (
	looksAtOnce = 16
	lookTime    = 30 * time.Second
)

// relapsed is how often in a row a host must be seen down to have gone down again: one look
// misses a host that is just being restarted.
const relapsed = 3

// lookAfter looks at hosts that wait for a person, which may come up by themselves, and at
// those that were fixed a short while ago, which may go down again.
func (w *worker) lookAfter(ctx context.Context) {
	if w.Prober == nil {
		return
	}
	tick := time.NewTicker(w.Look)
	defer tick.Stop()
	up, down := map[ids]time.Time{}, map[ids]int{} // since when, and for how many looks in a row
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var err error
		up, err = w.lookAtWaiting(ctx, up)
		if err == nil && w.Watch > 0 {
			down, err = w.lookAtFixed(ctx, down)
		}
		if err != nil && ctx.Err() == nil {
			w.Log.Warn("cannot look after hosts", "run", w.run.ID, "error", err) // the next time
		}
	}
}

// lookAtWaiting takes up hosts that were seen up for as long as a host has to be: one that crashes
// again and again answers for some seconds in between, and would take a place from others each
// time. It leaves out those that a person has to put back: that is to be done all the same. It
// returns since when hosts are up.
func (w *worker) lookAtWaiting(ctx context.Context, before map[ids]time.Time) (map[ids]time.Time, error) {
	up := map[ids]time.Time{}
	err := w.lookAll(ctx, `state = 'waiting' AND stage <> 'leave'`, nil, func(in ids, evidence string) error {
		if evidence == "" {
			return nil
		}
		since, ok := before[in]
		if !ok {
			since = time.Now()
		}
		if up[in] = since; !ok || time.Since(since) < w.Soak {
			return nil
		}
		return w.Store.Wake(ctx, in.Run, in.Host, remediate.Note{By: appName, What: remediate.Seen, Text: evidence})
	})
	return up, err
}

// lookAtFixed returns how often in a row hosts were seen down, by now.
func (w *worker) lookAtFixed(ctx context.Context, before map[ids]int) (map[ids]int, error) {
	down := map[ids]int{}
	since := time.Now().Add(-w.Watch).UnixMilli()
	err := w.lookAll(ctx, `state = 'done' AND verdict = 'fixed' AND ended > $3`, []any{since}, func(in ids, evidence string) error {
		if evidence != "" {
			return nil
		}
		if down[in] = before[in] + 1; down[in] < relapsed {
			return nil
		}
		return w.reopen(ctx, in)
	})
	return down, err
}

// lookAll looks at the hosts that where describes, a page at a time, and tells of each what
// shows that it is up. It passes over those that it cannot look at.
func (w *worker) lookAll(ctx context.Context, where string, values []any, tell func(ids, string) error) error {
	for after := ""; ; {
		page, err := w.lookPage(ctx, where, append([]any{w.run.ID, after}, values...))
		if err != nil || len(page) == 0 {
			return err
		}
		seen := w.probeAll(ctx, page)
		for i, l := range page {
			if s := seen[i]; s.err == nil && ctx.Err() == nil {
				if err := tell(l.ids, s.evidence); err != nil {
					return err
				}
			}
			after = l.Host
		}
	}
}

type looked struct {
	ids
	host inventory.Host
}

func (w *worker) lookPage(ctx context.Context, where string, args []any) ([]looked, error) {
	in, args := w.atSites("site", args...)
	rows, err := w.Store.db().QueryContext(ctx, `SELECT host, attempt, data FROM hosts WHERE run = $1 AND host > $2 AND `+
		where+in+fmt.Sprintf(` ORDER BY host LIMIT %d`, resultPage), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []looked
	for rows.Next() {
		l := looked{ids: ids{Run: w.run.ID}}
		var data string
		if err := rows.Scan(&l.Host, &l.Attempt, &data); err != nil {
			return nil, err
		}
		if err := unmarshal(data, &l.host); err != nil {
			return nil, err
		}
		page = append(page, l)
	}
	return page, rows.Err()
}

type sight struct {
	evidence string
	err      error
}

func (w *worker) probeAll(ctx context.Context, page []looked) []sight {
	seen := make([]sight, len(page))
	places := make(chan struct{}, looksAtOnce)
	var all sync.WaitGroup
	for i, l := range page {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, lookTime)
			defer cancel()
			out, err := guard(func() (output, error) {
				evidence, err := w.Prober.Probe(ctx, l.host)
				return output{Evidence: clean(evidence)}, err
			})
			seen[i] = sight{out.Evidence, err}
		})
	}
	all.Wait()
	return seen
}

// reopen takes a host up again that was fixed and went down again: as if it had never been
// treated, but not for ever. One that did so as often as a way is tried is unconfirmed.
func (w *worker) reopen(ctx context.Context, in ids) error {
	why := fmt.Sprintf("fixed, and down again: no sign of life in %d looks in a row", relapsed)
	w.at("reopen", in.Host, remediate.End)
	var e Event // none if another process did it
	err := w.Store.change(ctx, in.Run, func(tx *sql.Tx, run string) error {
		e = Event{}
		var data, climb, route string
		err := tx.QueryRowContext(ctx, `SELECT data, climb, route FROM hosts WHERE run = $1 AND host = $2 AND attempt = $3
			AND state = 'done' AND verdict = 'fixed'`, run, in.Host, in.Attempt).Scan(&data, &climb, &route)
		if err == sql.ErrNoRows {
			return nil
		}
		var h inventory.Host
		var before remediate.Climb
		if err == nil {
			err = unmarshal(data, &h)
		}
		if err == nil {
			err = unmarshal(climb, &before)
		}
		if err != nil {
			return err
		}
		now := time.Now().UnixMilli()
		_, err = tx.ExecContext(ctx, `INSERT INTO audit (run, host, attempt, step, route, stage, outcome, verdict, reason, started, ended)
			SELECT $1, $2, $3, COALESCE(MAX(step), 0) + 1, $4, $5, $6, $7, $8, $9, $9 FROM audit WHERE run = $1 AND host = $2 AND attempt = $3`,
			run, in.Host, in.Attempt, route, string(remediate.Confirm), string(remediate.Ill), string(remediate.Unconfirmed), why, now)
		if err != nil {
			return err
		}
		if route != remediate.Manual {
			if err := writeOutcome(ctx, tx, in, route, halt.Harm, why); err != nil {
				return err
			}
		}
		where := `state = 'done' AND verdict = 'fixed' AND host = ` + quote(in.Host)
		e = Event{Host: in.Host, Site: h.Site, Attempt: in.Attempt, Route: route, Again: true, Reason: why}
		if before.Relapses+1 >= w.Attempts {
			e.Verdict = remediate.Unconfirmed
			_, err = w.Store.moveAll(ctx, tx, run, string(remediate.Unconfirmed), where, `verdict = 'unconfirmed', reason = $1`, why)
			return err
		}
		next, on, _ := w.next(h, remediate.Climb{Relapses: before.Relapses + 1})
		text, err := json.Marshal(on)
		if err != nil {
			return err
		}
		l := labelOf(h, next)
		// What showed that it was fixed, and what was said of it, was of the treatment before.
		_, err = w.Store.moveAll(ctx, tx, run, "todo", where, `state = 'todo', verdict = '', reason = $1, repaired = '', parked = '',
			notes = '', since = 0, evidence = '', report = '', lost = 0, touched = 0,
			climb = $2, way = $3, subnet = $4, tech = $5, ended = 0`, why, string(text), l.way, l.subnet, l.tech)
		return err
	})
	if err == nil && e.Host != "" {
		w.tell(e)
	}
	if err == nil {
		w.at("reopened", in.Host, remediate.End)
	}
	return err
}
