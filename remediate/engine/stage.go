package engine

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"unbrick/remediate"
)

// An output is how a stage ended, as DBOS stores it. It holds no secret.
type output struct {
	Outcome  remediate.Outcome `json:"outcome"`
	Posture  remediate.Posture `json:"posture"`
	Report   *remediate.Report `json:"report,omitempty"`
	Evidence string            `json:"evidence,omitempty"`
	Said     string            `json:"said,omitempty"` // by the driver, of how the host was found or came up by itself
	Reason   string            `json:"reason,omitempty"`
	Final    bool              `json:"final,omitempty"`   // no other way in would do better
	Then     string            `json:"then,omitempty"`    // the way that can go on
	Undone   bool              `json:"undone,omitempty"`  // what an earlier way did for this one
	Waiting  bool              `json:"waiting,omitempty"` // for a person
	// Somebody cancelled it.
	Cancelled bool          `json:"cancelled,omitempty"`
	Spent     time.Duration `json:"spent,omitempty"` // of the way's budget
}

// stage runs one stage as a durable step. Its error is the engine's.
func (t *treatment) stage(s remediate.Stage, w way) (output, error) {
	t.step++
	n := t.step
	name := w.Route.Driver + "/" + string(s)
	t.at("before", t.Host, s)
	out, err := dbos.RunAsStep(t.ctx, func(ctx context.Context) (output, error) {
		out, err := t.perform(ctx, n, s, w)
		if err != nil {
			// Returning would record the error as the outcome of the stage, and the stage has
			// none. The process is about to end the workflow without a record.
			<-ctx.Done()
			return output{}, ctx.Err()
		}
		t.at("after", t.Host, s)
		return out, nil
	}, dbos.WithStepName(name))
	if err == nil {
		t.at("recorded", t.Host, s)
	}
	return out, err
}

// perform runs a stage and writes it down. An error means that it may not begin now, was cut
// off, or could not be written down: it has to run again.
func (t *treatment) perform(ctx context.Context, n int, s remediate.Stage, w way) (output, error) {
	if err := t.pace(ctx, s, w.Route.Driver); err != nil {
		return output{}, t.broken(ctx, err)
	}
	if !t.enterStage() {
		return output{}, ErrInterrupted
	}
	defer t.leaveStage()
	started := time.Now()
	cancelled, err := t.note(ctx, s, w.Route.Driver)
	if err != nil {
		return output{}, t.broken(ctx, err)
	}
	t.tell(t.event(t, s, w.Route.Driver))
	out, err := t.attend(ctx, cancelled, s, w)
	if ctx.Err() != nil {
		return output{}, ctx.Err()
	}
	if budgeted(s) {
		out.Spent = time.Since(started)
	}
	if err == nil {
		t.at("effect", t.Host, s)
		err = t.record(ctx, n, s, w, out, started)
	}
	if err != nil {
		return output{}, t.broken(ctx, err)
	}
	e := t.event(t, s, w.Route.Driver)
	e.Outcome, e.Reason = out.Outcome, out.Reason
	t.tell(e)
	t.Log.Debug("stage ended", "run", t.Run, "host", t.Host, "stage", s, "route", w.Route.Driver,
		"outcome", out.Outcome, "reason", out.Reason)
	return out, nil
}

// broken ends the work of this process: what cannot be written down must not be done.
func (t *treatment) broken(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		t.fail(fmt.Errorf("cannot write state %s: %w", t.Store.name(), err))
	}
	return err
}

// mine is the condition that the host is still this process's own, in this attempt. Its
// arguments are the first five.
const mine = `run = $1 AND host = $2 AND attempt = $3 AND executor = $4 AND state = 'running'
	AND EXISTS (SELECT 1 FROM workers WHERE executor = $4 AND token = $5)`

// errTaken says that the host is not.
var errTaken = errors.New("another process took over the host")

// update changes the host's row, if it is this process's own. Values begin at $6; the
// statement returns one text.
func (t *treatment) update(ctx context.Context, tx *sql.Tx, set, returning string, values ...any) (text string, err error) {
	args := append([]any{t.Run, t.Host, t.Attempt, t.executor(), t.lease.token}, values...)
	err = tx.QueryRowContext(ctx, `UPDATE hosts SET `+set+` WHERE `+mine+` RETURNING `+returning, args...).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		err = errTaken
	}
	return text, err
}

// note writes down that a stage begins. It returns by whom the host was cancelled, if it was.
func (t *treatment) note(ctx context.Context, s remediate.Stage, route string) (cancelled string, err error) {
	err = t.Store.tx(ctx, func(tx *sql.Tx) (err error) {
		cancelled, err = t.update(ctx, tx, `stage = $6, route = $7`, `cancel`, string(s), route)
		return err
	})
	return cancelled, err
}

// record adds the stage to the audit, and to the row what the next attempt has to know of it.
func (t *treatment) record(ctx context.Context, n int, s remediate.Stage, w way, out output, started time.Time) error {
	set, values := `stage = stage`, []any{}
	switch {
	case s == remediate.Leave && out.Outcome == remediate.OK:
		set = `entered = ''`
	case s == remediate.Repair && out.Outcome == remediate.OK:
		b, err := json.Marshal(proof{Route: w.Route, Report: *out.Report})
		if err != nil {
			return err
		}
		set, values = `repaired = $6`, append(values, string(b))
	}
	verdict := remediate.Next(s, out.Outcome, t.verdict).Verdict
	if out.Waiting {
		verdict = remediate.Waiting
	}
	return t.Store.tx(ctx, func(tx *sql.Tx) error {
		if _, err := t.update(ctx, tx, set, `host`, values...); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO audit (run, host, attempt, step, route, stage, outcome, verdict, reason, started, ended)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (run, host, attempt, step) DO UPDATE SET
			outcome = excluded.outcome, verdict = excluded.verdict, reason = excluded.reason,
			started = excluded.started, ended = excluded.ended`,
			t.Run, t.Host, t.Attempt, n, w.Route.Driver, string(s), string(out.Outcome), string(verdict), out.Reason,
			started.UnixMilli(), time.Now().UnixMilli())
		return err
	})
}

// setEntered writes down what will have to be put back, unless an earlier attempt did so. It
// ends with the process and not with the stage: that a stage has no time left is no fault of
// the state.
func (t *treatment) setEntered(w way) error {
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return t.Store.tx(t.ctx, func(tx *sql.Tx) error {
		_, err := t.update(t.ctx, tx, `entered = CASE WHEN entered = '' THEN $6 ELSE entered END, touched = 1`, `host`, string(b))
		return err
	})
}

// entered says whether there is something to put back.
func (t *treatment) entered() (yes bool, err error) {
	err = t.Store.tx(t.ctx, func(tx *sql.Tx) error {
		var e string
		err := tx.QueryRowContext(t.ctx, `SELECT entered FROM hosts WHERE run = $1 AND host = $2`, t.Run, t.Host).Scan(&e)
		yes = e != ""
		return err
	})
	return yes, err
}

// reasonLength is how much of an error is kept.
const reasonLength = 1000

// clauses makes one line of an error, whose lines say what is wrong and what to do.
func clauses(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
}

// clean makes a text of a driver fit for a table: one line, printable, not endless.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > reasonLength {
		text = strings.ToValidUTF8(text[:reasonLength], "") + "…"
	}
	return strings.TrimSpace(text)
}
