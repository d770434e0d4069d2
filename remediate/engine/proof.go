package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unbrick/remediate"
)

// probe looks for a sign of life. Not being able to look may pass.
func (t *treatment) probe(ctx context.Context) (string, error) {
	if t.Prober == nil {
		return "", nil
	}
	evidence, err := t.Prober.Probe(ctx, t.row.host)
	if err != nil {
		return "", &remediate.RetryError{After: t.Every, Err: fmt.Errorf("cannot look whether it is up: %w", err)}
	}
	return evidence, nil
}

// stays returns what shows that the host is up, if it is and stays so for as long as a host has
// to: one that crashes again and again answers for some seconds in between.
func (t *treatment) stays(ctx context.Context) (evidence string, err error) {
	evidence, err = t.probe(ctx)
	for end := time.Now().Add(t.Soak); err == nil && evidence != "" && time.Now().Before(end); {
		select {
		case <-time.After(min(t.Every, time.Until(end))):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
		again := ""
		if again, err = t.probe(ctx); again == "" {
			evidence = ""
		}
	}
	if err != nil || evidence == "" {
		return "", err
	}
	return t.vouched(ctx, evidence, t.unasked(evidence)), nil
}

// unasked is what a sign of life comes to where nobody can ask the host how it stands: on a
// detour, what answers may well be in Safe Mode.
func (t *treatment) unasked(evidence string) string {
	if t.detour() != "" {
		return ""
	}
	return evidence
}

// awake waits for a sign of life of any kind: the host was put back a moment ago, and starts.
func (t *treatment) awake(ctx context.Context) error {
	limit := t.Timeouts.of(remediate.Confirm)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for t.Prober != nil {
		if evidence, err := t.probe(ctx); err == nil && evidence != "" {
			break
		}
		select {
		case <-time.After(t.Every):
		case <-ctx.Done():
			return fmt.Errorf("Windows was to start for this way, and gave no sign of life within %s", limit)
		}
	}
	return nil
}

// vouched adds to the evidence what the Windows that answers says of itself. One in Safe Mode is
// not up: it is empty then. Where nobody can ask, it is unasked.
func (t *treatment) vouched(ctx context.Context, evidence, unasked string) string {
	if t.Voucher == nil {
		return unasked
	}
	st, err := t.Voucher.Vouch(ctx, t.row.host)
	switch {
	case err != nil:
		return unasked
	case st.SafeMode:
		return ""
	case !st.Started.IsZero():
		evidence += ", started " + st.Started.UTC().Format(time.RFC3339)
	}
	return evidence
}

// An upError says that a host came up by itself and stays up. It is its evidence, and what the
// driver said of it.
type upError struct{ evidence, said string }

func (e *upError) Error() string { return e.evidence }

// inPlace has the driver repair the host in place. Where it says that the host came up by
// itself and that does not last, it is told to go on.
func (t *treatment) inPlace(ctx context.Context, r remediate.Repairer, target remediate.Target) (remediate.Report, error) {
	for {
		report, err := r.Repair(ctx, target, t.Playbook)
		var up *remediate.UpError
		if !errors.As(err, &up) {
			return report, err
		}
		evidence, lookErr := t.stays(ctx)
		switch {
		case lookErr != nil:
			return report, lookErr
		case evidence != "":
			return report, &upError{evidence, up.Evidence}
		case t.Prober == nil: // nobody can tell: the driver's word stands
			return report, &upError{up.Evidence, up.Evidence}
		}
		select {
		case <-time.After(t.Every):
		case <-ctx.Done():
			return report, fmt.Errorf("it came up and went down again: %w", context.Cause(ctx))
		}
	}
}

// watchEvery is how many times less often a host is looked at while its fixer is awaited.
const watchEvery = 6

// watch looks for a sign of life until ctx ends or there is one, and then calls stop: a host
// that came back by itself instead of booting the image has no fixer to wait for.
func (t *treatment) watch(ctx context.Context, stop func()) <-chan string {
	up := make(chan string, 1)
	go func() {
		defer close(up)
		tick := time.NewTicker(watchEvery * t.Every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			out, err := guard(func() (output, error) {
				evidence, err := t.stays(ctx)
				return output{Evidence: evidence}, err
			})
			if err == nil && out.Evidence != "" {
				up <- out.Evidence
				stop()
				return
			}
		}
	}()
	return up
}

// witnessEvery is how many times less often a witness is asked than the host is looked at: its
// answers change slowly, and it counts questions.
const witnessEvery = 6

const upInSafeMode = "Windows is up in Safe Mode; if nobody needs it so, run bcdedit /deletevalue {current} safeboot there and restart it"

// confirm waits until the host is seen up, and then until it was up for as long as it has to.
func (t *treatment) confirm(ctx context.Context, driver remediate.Driver, target remediate.Target) (output, error) {
	if t.Prober == nil {
		return output{}, errors.New("nobody looks for signs of life")
	}
	began := time.Now()
	var since, heard time.Time // up by our own eyes; heard of by the witness
	first, went := "", "no sign of life"
	for n := 0; ; n++ {
		evidence, err := t.Prober.Probe(ctx, t.row.host)
		switch {
		case err == nil && evidence == "" && !since.IsZero():
			since, went = time.Time{}, "it came up and went down again"
		case evidence != "" && since.IsZero():
			since, first = time.Now(), evidence
		case evidence == "" && t.Witness != nil && n%witnessEvery == 0:
			after := began
			if !heard.IsZero() {
				after = heard.Add(t.Soak)
			}
			seen, _ := t.Witness.SeenAfter(ctx, t.row.host, after)
			if seen != "" && !heard.IsZero() {
				return output{Outcome: remediate.OK, Evidence: seen + t.screenshot(ctx, driver, target)}, nil
			}
			if seen != "" {
				heard, went = time.Now(), seen+", and not again"
			}
		}
		if evidence != "" && time.Since(since) >= t.Soak {
			if first = t.vouched(ctx, first, first); first != "" {
				return output{Outcome: remediate.OK, Evidence: first + t.screenshot(ctx, driver, target)}, nil
			}
			since, went = time.Time{}, upInSafeMode
		}
		select {
		case <-time.After(t.Every):
		case <-ctx.Done():
			seen := t.screenshot(context.WithoutCancel(ctx), driver, target)
			if err != nil {
				return output{}, fmt.Errorf("%s%s: %w", went, seen, err)
			}
			return output{}, errors.New(went + seen)
		}
	}
}

// screenshot keeps what the host shows, where its controller can tell, and says where. That it
// cannot is no reason for anything.
func (t *treatment) screenshot(ctx context.Context, driver remediate.Driver, target remediate.Target) string {
	shot, ok := driver.(remediate.Screenshotter)
	if !ok || t.Keep == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	png, err := shot.Screenshot(ctx, target)
	if err != nil {
		return ""
	}
	where, err := t.Keep(target, png)
	if err != nil {
		t.Log.Warn("cannot keep a screenshot", "host", t.Host, "error", err)
		return ""
	}
	return "; screen in " + where
}
