package engine

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A way is a route into a host that was begun: what has to be put back, and how.
type way struct {
	Route   inventory.Route   `json:"route"`
	Posture remediate.Posture `json:"posture"`           // as the host stood before the first attempt
	Attempt int               `json:"attempt,omitempty"` // that began it, as its driver knows it
	Spent   time.Duration     `json:"spent,omitempty"`   // of its budget
}

// A parked host waits for a person: where it goes on, and with which verdict so far.
type parked struct {
	Way     way               `json:"way"`
	Stage   remediate.Stage   `json:"stage"`
	Verdict remediate.Verdict `json:"verdict,omitempty"`
}

// A proof says that a host was repaired, and by which way.
type proof struct {
	Route  inventory.Route  `json:"route"`
	Report remediate.Report `json:"report"`
}

// A row is what is known of a host when an attempt begins. It is the same whenever the attempt
// is taken up again.
type row struct {
	host inventory.Host
	// What an attempt before this one left: to be put back, and the repair itself done.
	debt   *way
	proof  *proof
	parked *parked
	climb  remediate.Climb
	lost   int // attempts

	notes []remediate.Note
	heard string // the notes as they are stored
}

// A treatment is one attempt at one host.
type treatment struct {
	*worker
	ids
	ctx  dbos.Context
	row  row
	step int // the last one begun

	climb remediate.Climb // that the way is taken on
	last  way             // taken
	begun bool            // it was entered
	then  string          // the way that can go on, if it failed so
	// undone says that the host is no longer as an earlier way left it for this one.
	undone bool
	waits  *parked // if it ended there

	ending
	evidence string
	said     string // what the driver said of how the host was found, or came up by itself
	report   *remediate.Report
}

// An ending is how a treatment ends.
type ending struct {
	verdict remediate.Verdict
	route   string
	reason  string
	final   bool // no other way into the host would do better
	// Somebody cancelled it: how it ended is no fault of its way.
	cancelled bool
}

var errStale = errors.New("the host has moved on")

// host is the durable workflow of one attempt at one host. Its error is the engine's: nobody
// knows how the host stands, and the next attempt finds out.
func (w *worker) host(ctx dbos.Context, in ids) (verdict string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		w.over(ctx, in, err)
	}()
	t := &treatment{worker: w, ids: in, ctx: ctx}
	if t.row, err = w.loadRow(ctx, in); err != nil {
		return "", err
	}
	w.begin(in)
	if err = t.treat(); err != nil {
		return "", err
	}
	if t.waits != nil {
		return string(remediate.Waiting), t.park()
	}
	if on, next, ok := t.another(); ok {
		return "", t.goOn(on, next)
	}
	return string(t.verdict), t.end()
}

// begin notes that the host's workflow runs here.
func (w *worker) begin(in ids) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active[in] = func(error) {}
}

// over notes that a workflow ended, and gives the host back to be taken again if the engine
// failed it. When the process ends instead, the workflow goes on in the next one.
func (w *worker) over(ctx context.Context, in ids, err error) {
	w.mu.Lock()
	delete(w.active, in)
	w.mu.Unlock()
	if err != nil && ctx.Err() == nil && !errors.Is(err, errStale) {
		w.Log.Warn("attempt lost", "run", in.Run, "host", in.Host, "attempt", in.Attempt, "error", err)
		if diskFull(err) {
			w.fail(fmt.Errorf("cannot write state %s: %w", w.Store.name(), err))
		}
		if err := w.lose(ctx, in, err); err != nil {
			w.Log.Warn("cannot give host back", "run", in.Run, "host", in.Host, "error", err) // reconcile does
		}
	}
}

func (w *worker) loadRow(ctx context.Context, in ids) (r row, err error) {
	var data, debt, proof, parked, climb string
	err = w.Store.tx(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT data, debt, proof, parked, climb, notes, lost FROM hosts
			WHERE run = $1 AND host = $2 AND attempt = $3 AND executor = $4 AND state = 'running'`,
			in.Run, in.Host, in.Attempt, w.executor()).
			Scan(&data, &debt, &proof, &parked, &climb, &r.heard, &r.lost)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return r, errStale
	}
	if err != nil {
		return r, err
	}
	return r, errors.Join(unmarshal(data, &r.host), unmarshal(debt, &r.debt), unmarshal(proof, &r.proof),
		unmarshal(parked, &r.parked), unmarshal(climb, &r.climb), unmarshal(r.heard, &r.notes))
}

func unmarshal(text string, v any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), v)
}

// maxLost is how many attempts at one host the engine may lose.
const maxLost = 5

// treat takes the host one way, to its end. An attempt that follows a lost one takes up what
// that one left: a host that was repaired is put back and confirmed, one that was entered put
// back. One that waited goes on where it stopped.
func (t *treatment) treat() error {
	t.climb = t.row.climb
	debt, proof, waited := t.row.debt, t.row.proof, t.row.parked
	switch {
	case proof != nil && debt != nil:
		t.report = &proof.Report
		return t.way(*debt, remediate.Leave, remediate.Fixed)
	case proof != nil:
		t.report = &proof.Report
		return t.way(way{Route: proof.Route}, remediate.Confirm, remediate.Fixed)
	case waited != nil && (debt != nil) == (waited.Stage != remediate.Check):
		t.begun = debt != nil
		return t.way(waited.Way, waited.Stage, waited.Verdict)
	case debt != nil:
		err := t.way(*debt, remediate.Leave, remediate.Failed)
		if err != nil || t.verdict != remediate.Failed {
			return err
		}
	}
	if t.row.lost >= maxLost {
		t.ending = ending{verdict: remediate.Failed, final: true, reason: fmt.Sprintf(
			"given up after %d attempts that ended without an answer; see the log", maxLost)}
		return nil
	}
	var route inventory.Route // without a way in the host can only be looked at
	route, t.climb, _ = t.next(t.row.host, t.row.climb)
	return t.way(way{Route: route}, remediate.Check, "")
}

// way goes one way into the host, from a stage on and with the verdict so far.
func (t *treatment) way(w way, stage remediate.Stage, verdict remediate.Verdict) error {
	if w.Attempt == 0 {
		w.Attempt = t.Attempt
	}
	t.ending = ending{route: w.Route.Driver, verdict: verdict}
	for stage != remediate.End {
		out, err := t.stage(stage, w)
		if err != nil {
			return err
		}
		if out.Waiting {
			t.reason = out.Reason
			t.waits = &parked{Way: w, Stage: stage, Verdict: t.verdict}
			return nil
		}
		w.Spent += out.Spent
		switch stage {
		case remediate.Check:
			w.Posture = out.Posture
		case remediate.Enter:
			t.begun = true
		}
		move := remediate.Next(stage, out.Outcome, t.verdict)
		t.learn(out, move.Verdict)
		stage = move.Next
	}
	t.last = w
	if t.verdict == remediate.Stranded {
		t.reason += "; what " + w.Route.Driver + " did is still there: " + w.Posture.String() + " is how it stood before"
	}
	return nil
}

// learn takes from a stage what the result will say.
func (t *treatment) learn(out output, verdict remediate.Verdict) {
	t.verdict = verdict
	t.final = t.final || out.Final
	t.cancelled = t.cancelled || out.Cancelled
	t.then, t.undone = cmp.Or(out.Then, t.then), t.undone || out.Undone
	if out.Evidence != "" {
		t.evidence = out.Evidence
	}
	t.said = cmp.Or(out.Said, t.said)
	if out.Report != nil {
		t.report = out.Report
	}
	if out.Reason != "" {
		t.reason = joined(t.reason, out.Reason)
	}
}

// proven returns the evidence, after what the driver said if that is more.
func (t *treatment) proven() string {
	if strings.Contains(t.evidence, t.said) {
		return t.evidence
	}
	return joined(t.said, t.evidence)
}

// end writes down the verdict. It does so once, however often it is called.
func (t *treatment) end() error {
	report := ""
	if t.report != nil {
		b, err := json.Marshal(t.report)
		if err != nil {
			return err
		}
		report = string(b)
	}
	now := time.Now().UnixMilli()
	ctx := context.WithoutCancel(t.ctx)
	err := t.Store.tx(ctx, func(tx *sql.Tx) error {
		var due int64
		err := tx.QueryRowContext(ctx, `UPDATE hosts SET state = 'done', stage = '', verdict = $1, route = $2, reason = $3,
			evidence = $4, report = $5, ended = $6 WHERE run = $7 AND host = $8 AND attempt = $9 AND executor = $10
			AND state = 'running' RETURNING due`, t.verdict, t.route, t.reason, t.proven(), report, now,
			t.Run, t.Host, t.Attempt, t.executor()).Scan(&due)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // it is written down
		}
		if err == nil {
			err = move(ctx, tx, t.Run, t.row.host.Site, "running", string(t.verdict), 1)
		}
		if err == nil {
			err = t.outcome(ctx, tx, t.climb.Round)
		}
		if err == nil && t.verdict.Done() {
			column := "on_time"
			if due != 0 && now > due {
				column = "late"
			}
			_, err = tx.ExecContext(ctx, fmt.Sprintf(`UPDATE sites SET %s = %s + 1 WHERE run = $1 AND site = $2`,
				column, column), t.Run, t.row.host.Site)
		}
		return err
	})
	if err != nil {
		return err
	}
	t.at("ended", t.Host, remediate.End)
	e := t.event(t, remediate.End, t.route)
	e.Verdict, e.Reason = t.verdict, t.reason
	t.tell(e)
	return nil
}
