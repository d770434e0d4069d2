package agent

import (
	"context"
	"fmt"

	"unbrick/playbooks"
	"unbrick/remediate/rescue/agent/keyless"
)

// A Keyless is a Volume that can say whether its key is needed at all. Optional.
type Keyless interface {
	// Keyless decides on a locked volume that Windows starts from; ok is false for any other.
	Keyless() (d keyless.Decision, ok bool)
}

// A SafeStarter is a Keyless whose Windows can be had to start in Safe Mode with Networking,
// where it opens the volume by itself. Optional.
type SafeStarter interface {
	// StartSafe sets that up, and says what it did. Where it refuses nothing was changed.
	StartSafe(ctx context.Context) (did string, err error)
}

// A Restorer is a Machine that undoes the StartSafe of an earlier stay. Optional.
type Restorer interface {
	// Restore says what it undid; the empty string if there was nothing to undo.
	Restore(ctx context.Context) (did string, err error)
}

// restore has the machine undo what is left of an earlier stay: that the host is back here
// means that it came to nothing. Not in a dry run, which changes nothing.
func (a *agent) restore(ctx context.Context) error {
	r, ok := a.m.(Restorer)
	if !ok || a.job.DryRun {
		return nil
	}
	did, err := r.Restore(ctx)
	if did != "" {
		a.note("restore", "%s", did)
	}
	if err != nil {
		err = fmt.Errorf("Windows may still start in Safe Mode, as unbrick set it: %w", err)
		a.note("restore", "%v", err)
		a.report.SafeMode = true
	}
	return err
}

// keyless notes whether the volume needs its key, for the triage, and has its Windows start in
// Safe Mode if that does without and is allowed. True means that the volume is left at that:
// it is locked still, and another way may repair it.
func (t *treatment) keyless(ctx context.Context) bool {
	k, ok := t.v.(Keyless)
	if !ok {
		return false
	}
	d, ok := k.Keyless()
	if !ok {
		return false
	}
	t.note("keyless", "%s: %s", t.v.Name(), d)
	s, ok := t.v.(SafeStarter)
	if !ok || !t.job.Allow.SafeMode || t.job.DryRun || d.Way != keyless.SafeMode {
		return false
	}
	did, err := s.StartSafe(ctx)
	if err != nil {
		t.note("keyless", "%s: Windows is not set to start in Safe Mode, so its key is asked for: %v", t.v.Name(), err)
		return false
	}
	t.note("keyless", "%s: %s", t.v.Name(), did)
	t.result.Verdict, t.result.Error = playbooks.Locked, did
	t.report.Unanswered = append(t.report.Unanswered, t.v.Name())
	t.report.SafeMode = true
	return true
}
