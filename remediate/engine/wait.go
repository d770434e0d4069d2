package engine

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"unbrick/remediate"
)

// park puts the host aside where it waits for a person. It gives its place to others, and is
// taken again, from the same stage on, when Wake is called for it.
func (t *treatment) park() error {
	where, err := json.Marshal(t.waits)
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(t.ctx)
	asleep := false
	err = t.Store.tx(ctx, func(tx *sql.Tx) error {
		asleep = false
		// A word that came while the stage ran was not heard: it goes on at once.
		var state string
		err := tx.QueryRowContext(ctx, `UPDATE hosts SET state = CASE WHEN notes = $1 AND cancel = '' THEN 'waiting' ELSE 'todo' END,
			verdict = CASE WHEN notes = $1 AND cancel = '' THEN 'waiting' ELSE '' END,
			parked = $2, climb = $3, stage = $4, route = $5, reason = $6, since = CASE WHEN since > 0 AND $7 = 1 THEN since ELSE $8 END, way = ''
			WHERE run = $9 AND host = $10 AND attempt = $11 AND executor = $12 AND state = 'running' RETURNING state`,
			t.row.heard, string(where), t.climbText(), string(t.waits.Stage), t.route, t.reason, map[bool]int{true: 1}[t.onlySeen()], time.Now().UnixMilli(),
			t.Run, t.Host, t.Attempt, t.executor()).Scan(&state)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // it is written down
		}
		if err != nil {
			return err
		}
		asleep = state == "waiting"
		return move(ctx, tx, t.Run, t.row.host.Site, "running", state, 1)
	})
	if err != nil {
		return err
	}
	t.at("parked", t.Host, remediate.End)
	if asleep {
		e := t.event(t, remediate.End, t.route)
		e.Verdict, e.Reason = remediate.Waiting, t.reason
		t.tell(e)
	}
	return nil
}

func (t *treatment) climbText() string {
	b, _ := json.Marshal(t.climb) // texts and numbers always have a JSON
	return string(b)
}

// A NotAskedError says that nobody is asked for a word on a host, so that none is taken: what is
// said before a person is asked is no proof of what they do.
type NotAskedError struct {
	Host    string
	State   string // "todo", "running" or "done"
	Way     string // that it is treated by, or is next; may be empty
	Verdict remediate.Verdict
}

func (e *NotAskedError) Error() string {
	switch {
	case e.State == "done":
		return fmt.Sprintf("host %s does not wait: it has ended as %s", e.Host, e.Verdict)
	case e.State == "running":
		return fmt.Sprintf("host %s does not wait for a person: it is being treated by %s", e.Host, e.Way)
	}
	return fmt.Sprintf("host %s does not wait for a person: its turn to be treated by %s has not come", e.Host, cmp.Or(e.Way, "its ways in"))
}

// Wake says a word on a host, and takes it up again if it waits for a person: the stage that
// waits runs once more and is given the word. For a host that a person is to go to, and that
// does not wait yet, the word is kept until it does; what goes another way, or has its verdict,
// takes remarks at most, and a *NotAskedError is returned. The empty run is the latest.
func (s *Store) Wake(ctx context.Context, run, host string, note remediate.Note) error {
	note.Text = clean(note.Text)
	return s.change(ctx, run, func(tx *sql.Tx, run string) error {
		var state, verdict, heard, way, route, parked string
		err := tx.QueryRowContext(ctx, `SELECT state, verdict, notes, way, route, parked FROM hosts WHERE run = $1 AND host = $2`, run, host).
			Scan(&state, &verdict, &heard, &way, &route, &parked)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("run %s has no host %q", run, host)
		}
		if err != nil {
			return err
		}
		if state == "running" || way == "" {
			way = route
		}
		word := note.What == remediate.Done || note.What == remediate.GaveUp
		asked := parked != "" || way == remediate.Manual
		if state == "done" || word && !asked {
			return &NotAskedError{Host: host, State: state, Way: way, Verdict: remediate.Verdict(verdict)}
		}
		now, err := s.now(ctx, tx)
		if err != nil {
			return err
		}
		note.At = moment(now)
		var notes []remediate.Note
		if err := unmarshal(heard, &notes); err != nil {
			return err
		}
		if n := len(notes) - 1; n >= 0 && note.What == remediate.Seen && notes[n].What == remediate.Seen {
			notes = notes[:n] // it may be seen up again and again
		}
		text, err := json.Marshal(append(notes, note))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE hosts SET notes = $1 WHERE run = $2 AND host = $3`, string(text), run, host); err != nil {
			return err
		}
		if state != "waiting" {
			return nil
		}
		_, err = s.moveAll(ctx, tx, run, "todo", `state = 'waiting' AND host = `+quote(host), `state = 'todo', verdict = ''`)
		return err
	})
}

// onlySeen says that a host which waited was taken up again because somebody saw it up, and that
// no person has spoken since.
func (t *treatment) onlySeen() bool {
	n := len(t.row.notes)
	return t.row.parked != nil && n > 0 && t.row.notes[n-1].What == remediate.Seen
}

// seenWhileWaiting returns what shows that such a host is up and stays so. One that crashes again
// and again does not: whoever treats it goes on waiting for the person.
func (t *treatment) seenWhileWaiting(ctx context.Context) (evidence string, err error) {
	if !t.onlySeen() {
		return "", nil
	}
	return t.stays(ctx)
}

// awaits says whether the run goes on although no host of this process is in flight or can be
// taken: for hosts that wait for a person, or for the shift of one, or are looked after.
func (w *worker) awaits(ctx context.Context, tx *sql.Tx, p position) (bool, error) {
	now := time.Now()
	if w.Wait > 0 {
		if off, err := w.anyOff(ctx, tx, p.now); err != nil || off {
			return off, err
		}
		in, args := w.atSites("site", w.run.ID)
		rows, err := tx.QueryContext(ctx, `SELECT route, MAX(since) FROM hosts
			WHERE run = $1 AND state = 'waiting'`+in+` GROUP BY route`, args...)
		if err != nil {
			return false, fmt.Errorf("cannot look for hosts that wait: %w", err)
		}
		await := false
		for rows.Next() {
			var way string
			var since int64
			if err := rows.Scan(&way, &since); err != nil {
				rows.Close()
				return false, err
			}
			from := time.UnixMilli(max(since, w.began.UnixMilli())) // who takes a run up again means to wait
			await = await || now.Before(from.Add(cmp.Or(w.Ladder.Rung(way).Budget, w.Wait)))
		}
		if err := rows.Close(); err != nil || await {
			return await, err
		}
	}
	if w.Watch <= 0 {
		return false, nil
	}
	n := 0
	in, args := w.atSites("site", w.run.ID, now.Add(-w.Watch).UnixMilli())
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM hosts WHERE run = $1 AND ended > $2
		AND state = 'done' AND verdict = 'fixed'`+in+` LIMIT 1) AS watched`, args...).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("cannot look for hosts that were fixed: %w", err)
	}
	return n > 0, nil
}
