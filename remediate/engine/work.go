package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"unbrick/remediate"
)

// A cancelledError says by whom a host was cancelled.
type cancelledError struct{ by string }

func (e *cancelledError) Error() string { return "cancelled by " + e.by }

// errState wraps what is not the stage's fault but the state's.
type errState struct{ error }

// attend does what a stage is there for, within its time. Its error is the state's; whatever a
// driver does, a panic included, is an output.
func (t *treatment) attend(ctx context.Context, cancelled string, s remediate.Stage, w way) (output, error) {
	ctx, stop := context.WithTimeoutCause(ctx, t.Timeouts.by(s, w.Route.Driver)+t.extra(s), errTooLong)
	defer stop()
	if budget := t.Ladder.Rung(w.Route.Driver).Budget; budget > 0 && budgeted(s) {
		ctx, stop = context.WithTimeoutCause(ctx, budget-w.Spent, &budgetError{budget})
		defer stop()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s != remediate.Leave { // putting back is not cut off
		t.mu.Lock()
		t.active[t.ids] = cancel
		t.mu.Unlock()
		if cancelled != "" {
			cancel(&cancelledError{cancelled})
		}
	}
	out, err := t.try(ctx, func() (output, error) { return t.do(ctx, s, w) })
	var state *errState
	if errors.As(err, &state) {
		return output{}, state.error
	}
	if err != nil {
		out = t.failure(ctx, s, w.Route.Driver, out, err)
	}
	out.Reason, out.Evidence = clean(clauses(out.Reason)), clean(out.Evidence)
	return out, nil
}

var errTooLong = errors.New("took too long")

// budgeted says whether the time of a stage is the way's to spend. Putting back and proof are
// not cut short because what came before took long.
func budgeted(s remediate.Stage) bool {
	return s == remediate.Check || s == remediate.Enter || s == remediate.Repair
}

type budgetError struct{ budget time.Duration }

func (e *budgetError) Error() string {
	return fmt.Sprintf("the way has used up its budget of %s for the host", e.budget)
}

// extra is the time of a stage beside its own.
func (t *treatment) extra(s remediate.Stage) time.Duration {
	switch {
	case s == remediate.Leave:
		return 0
	case s == remediate.Check && t.detour() == remediate.There:
		return t.Timeouts.of(remediate.Confirm) + t.Soak
	}
	return t.Soak // the host may be seen up, and is then watched
}

// detour says on which leg of a detour the way is taken, if on any.
func (t *treatment) detour() remediate.Leg {
	if d := t.row.climb.Detour; d != nil {
		return d.Leg
	}
	return ""
}

// try calls fn until it ends in something other than a RetryError.
func (t *treatment) try(ctx context.Context, fn func() (output, error)) (output, error) {
	for n := 1; ; n++ {
		out, err := guard(fn)
		var retry *remediate.RetryError
		if !errors.As(err, &retry) || n >= t.Tries || ctx.Err() != nil {
			return out, err
		}
		select {
		case <-time.After(max(retry.After, time.Millisecond)):
		case <-ctx.Done():
			return out, err
		}
	}
}

// guard makes an error of a panic: one driver must not end the treatment of every host.
func guard(fn func() (output, error)) (out output, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	return fn()
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("defect in unbrick: panic: %v", e.value) }

// failure turns the error of a stage into its output.
func (t *treatment) failure(ctx context.Context, s remediate.Stage, by string, out output, err error) output {
	out.Outcome, out.Reason = remediate.Ill, fmt.Sprintf("%s: %v", s, err)
	var (
		skip      *remediate.SkipError
		wait      *remediate.WaitError
		final     *remediate.FinalError
		up        *remediate.UpError
		then      *remediate.ThenError
		cancelled *cancelledError
		budget    *budgetError
		panicked  *panicError
	)
	cause := context.Cause(ctx)
	switch {
	case errors.As(cause, &cancelled):
		out.Final, out.Cancelled, out.Reason = true, true, cancelled.Error()
	case errors.As(err, &up) && budgeted(s):
		return output{Outcome: remediate.Up, Evidence: up.Evidence, Said: clean(up.Evidence)}
	case errors.As(err, &skip) && s == remediate.Check:
		out.Outcome, out.Reason = remediate.Skip, skip.Why
	case errors.As(err, &wait):
		out.Waiting, out.Reason = true, wait.For
	case errors.As(err, &final):
		out.Final = true
	case errors.As(err, &then):
		out.Then = then.Way
	case errors.As(cause, &budget):
		out.Reason = fmt.Sprintf("%s: %v: %v", s, budget, err)
	case errors.Is(cause, errTooLong):
		out.Reason = fmt.Sprintf("%s took longer than %s: %v", s, t.Timeouts.by(s, by)+t.extra(s), err)
	case errors.As(err, &panicked):
		t.Log.Error("panic", "run", t.Run, "host", t.Host, "stage", s, "panic", panicked.value, "stack", string(panicked.stack))
	}
	return out
}

// do calls those who do the work of a stage.
func (t *treatment) do(ctx context.Context, s remediate.Stage, w way) (output, error) {
	if ctx.Err() != nil {
		return output{}, context.Cause(ctx)
	}
	target := remediate.Target{Run: t.Run, Attempt: w.Attempt, Host: t.row.host, Route: w.Route, Notes: t.row.notes,
		Returned: t.detour() == remediate.Back || t.detour() == remediate.Over}
	driver := t.Drivers[w.Route.Driver]
	switch s {
	case remediate.Check:
		return t.check(ctx, driver, target)
	case remediate.Enter:
		return t.enter(ctx, driver, target, w)
	case remediate.Repair:
		return t.repair(ctx, driver, target)
	case remediate.Leave:
		return t.leave(ctx, driver, target, w)
	case remediate.Confirm:
		return t.confirm(ctx, driver, target)
	}
	return output{}, fmt.Errorf("no stage %q", s)
}

func (t *treatment) check(ctx context.Context, driver remediate.Driver, target remediate.Target) (output, error) {
	if t.detour() == remediate.There {
		if err := t.awake(ctx); err != nil {
			return output{}, err
		}
	}
	evidence, err := t.stays(ctx)
	if err != nil {
		return output{}, err
	}
	if evidence != "" {
		return output{Outcome: remediate.Up, Evidence: evidence}, nil
	}
	if driver == nil {
		return output{}, t.noWay(t.row.host)
	}
	for _, gate := range t.Gates {
		if err := gate(ctx, target); err != nil {
			return output{}, err
		}
	}
	posture, err := driver.Observe(ctx, target)
	if err != nil {
		return output{}, err
	}
	return output{Outcome: remediate.OK, Posture: posture, Said: clean(posture.Said)}, nil
}

func (t *treatment) enter(ctx context.Context, driver remediate.Driver, target remediate.Target, w way) (output, error) {
	// It may have come back by itself since check, or since this stage was cut off.
	evidence, err := t.stays(ctx)
	if err != nil {
		return output{}, err
	}
	if evidence != "" {
		return output{Outcome: remediate.Up, Evidence: evidence}, nil
	}
	var img remediate.Image
	if _, ok := driver.(remediate.Repairer); !ok {
		if t.Medic == nil {
			return output{}, errors.New("no rescue server")
		}
		if img, err = t.Medic.Image(ctx, target); err != nil {
			return output{}, err
		}
	}
	if err := t.setEntered(w); err != nil {
		return output{}, &errState{err}
	}
	if err := driver.Enter(ctx, target, img); err != nil {
		return output{}, err
	}
	return output{Outcome: remediate.OK}, nil
}

func (t *treatment) repair(ctx context.Context, driver remediate.Driver, target remediate.Target) (output, error) {
	if evidence, err := t.seenWhileWaiting(ctx); err != nil || evidence != "" {
		return output{Outcome: remediate.Up, Evidence: evidence, Reason: "up while it waited for a person"}, err
	}
	var report remediate.Report
	var err error
	undone := false
	if r, ok := driver.(remediate.Repairer); ok {
		var up *upError
		if report, err = t.inPlace(ctx, r, target); errors.As(err, &up) {
			return output{Outcome: remediate.Up, Evidence: up.evidence, Said: clean(up.said)}, nil
		}
	} else {
		watched, stop := context.WithCancel(ctx)
		up := t.watch(watched, stop)
		report, err = t.Medic.Repair(watched, target, t.Playbook)
		stop()
		undone = report.Agent != "" && !report.SafeMode
		if evidence := <-up; err != nil && evidence != "" {
			return output{Outcome: remediate.Up, Evidence: evidence}, nil
		}
	}
	if err != nil {
		return output{Undone: undone}, err
	}
	if err := report.Proof(); err != nil {
		return output{Report: &report}, err
	}
	return output{Outcome: remediate.OK, Report: &report}, nil
}

func (t *treatment) leave(ctx context.Context, driver remediate.Driver, target remediate.Target, w way) (output, error) {
	owed, err := t.entered()
	if err != nil {
		return output{}, &errState{err}
	}
	if !owed { // Enter was never begun, or this very stage was done before
		return output{Outcome: remediate.OK}, nil
	}
	if driver == nil {
		return output{}, fmt.Errorf("the driver %s, which entered it, is not here", w.Route.Driver)
	}
	if evidence, err := t.probe(ctx); err == nil && evidence != "" {
		target.Up = t.vouched(ctx, evidence, t.unasked(evidence)) != ""
	}
	if err := driver.Leave(ctx, target, w.Posture); err != nil {
		return output{}, err
	}
	return output{Outcome: remediate.OK}, nil
}
