package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"unbrick/bitlocker"
	"unbrick/playbooks"
)

// A treatment is what the agent does to one volume.
type treatment struct {
	*agent
	v      Volume
	pb     *playbooks.Playbook
	result playbooks.VolumeResult
}

// run brings the volume from locked to repaired, as far as it goes; result says how far.
func (t *treatment) run(ctx context.Context) {
	if c, ok := t.v.(io.Closer); ok {
		defer func() {
			if err := c.Close(); err != nil {
				t.note("close", "%s: %v", t.v.Name(), err)
			}
		}()
	}
	if t.keyless(ctx) || !t.unlock(ctx) {
		return
	}
	if !t.inspect(ctx) || t.job.DryRun {
		return
	}
	t.repair(ctx)
}

// unlock asks for the keys of the volume, one at a time, until one opens it: no key leaves
// the server that is not needed.
func (t *treatment) unlock(ctx context.Context) bool {
	ids := t.v.Protectors()
	if len(ids) == 0 {
		return true
	}
	if t.person != nil {
		err := t.typedKey(ctx, ids)
		if err != nil {
			t.result.Verdict, t.result.Error = playbooks.Locked, err.Error()
		}
		return err == nil
	}
	var why []string
	for _, id := range ids {
		err := t.tryKey(ctx, id)
		if err == nil {
			t.report.Released = append(t.report.Released, id)
			t.note("unlock", "%s: opened with protector %s", t.v.Name(), id)
			return true
		}
		why = append(why, fmt.Sprintf("protector %s: %v", id, err))
		t.note("unlock", "%s: %s", t.v.Name(), why[len(why)-1])
	}
	t.result.Verdict = playbooks.Locked
	t.result.Error = strings.Join(why, "; ")
	return false
}

func (t *treatment) tryKey(ctx context.Context, id string) error {
	// An escrow that is down must not take the time of other keys and volumes.
	ctx, cancel := context.WithTimeout(ctx, time.Until(t.end)/2)
	defer cancel()
	if s, ok := t.v.(Stretcher); ok {
		if salt := s.Salt(id); salt != nil {
			key, denied, err := t.c.stretchedKey(ctx, id, salt)
			return t.opened(id, denied, err, func() error { return s.UnlockStretched(ctx, id, key) })
		}
	}
	key, denied, err := t.c.recoveryKey(ctx, id)
	return t.opened(id, denied, err, func() error {
		if err := t.v.Unlock(ctx, id, key); err != nil {
			return errors.New(without(err.Error(), key))
		}
		return nil
	})
}

// opened unlocks the volume if the server gave its key.
func (t *treatment) opened(id, denied string, err error, unlock func() error) error {
	if err != nil {
		t.report.Unanswered = append(t.report.Unanswered, id)
		return err
	}
	if denied != "" {
		return errors.New(denied)
	}
	if err := unlock(); err != nil {
		return fmt.Errorf("its key does not open the volume: %w", err)
	}
	return nil
}

// without strikes a key out of a text that should not have it in the first place.
func without(text string, key bitlocker.Key) string {
	digits := key.Reveal()
	for _, form := range []string{digits, strings.ReplaceAll(digits, "-", ""), strings.ReplaceAll(digits, "-", " ")} {
		text = strings.ReplaceAll(text, form, "[recovery key]")
	}
	return text
}

// inspect checks the volume read-only, and says whether there is something to repair.
func (t *treatment) inspect(ctx context.Context) bool {
	findings, err := t.check(ctx)
	t.result = playbooks.NewVolumeResult(t.v.Name(), findings, err)
	if errors.Is(err, ErrLocked) {
		t.result.Verdict = playbooks.Locked
		t.report.Unanswered = append(t.report.Unanswered, t.v.Name())
	}
	t.note("inspect", "%s: %s%s", t.v.Name(), t.result.Verdict, colon(t.result.Error))
	return t.result.Verdict.Affected()
}

// check opens the volume read-only and applies the playbook's Check.
func (t *treatment) check(ctx context.Context) (findings []playbooks.Finding, err error) {
	if ctx.Err() != nil {
		return nil, errTime
	}
	vol, closer, err := t.v.Open(ctx, false, t.job.Allow)
	if err != nil {
		return nil, fmt.Errorf("cannot open the volume: %w", err)
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	return t.pb.Check(vol)
}

// repair writes, and then looks, read-only again, at what became of it. Whatever goes wrong,
// the result still names what was removed.
func (t *treatment) repair(ctx context.Context) {
	before := t.result
	findings, err := t.apply(ctx)
	if len(findings) == 0 { // not even looked at: what inspect found stands
		findings = before.Findings
	}
	t.result = playbooks.NewVolumeResult(t.v.Name(), findings, err)
	if !t.result.Verdict.Affected() {
		t.result.Verdict = before.Verdict
	}
	done := playbooks.Result{Volumes: []playbooks.VolumeResult{t.result}}
	removed, changed := done.Removed(), done.Changed()
	t.note("repair", "%s: %d files removed, %d values changed%s", t.v.Name(), len(removed), len(changed), colon(t.result.Error))
	if err != nil && len(removed)+len(changed) == 0 {
		return
	}
	if err := t.verify(ctx, before.Findings); err != nil {
		t.result.Error = strings.TrimPrefix(t.result.Error+"; after the repair: "+err.Error(), "; ")
		t.note("verify", "%s: %v", t.v.Name(), err)
		return
	}
	t.note("verify", "%s: nothing faulty is left, and what is good is as it was", t.v.Name())
}

func (t *treatment) apply(ctx context.Context) (findings []playbooks.Finding, err error) {
	if ctx.Err() != nil {
		return nil, errTime
	}
	vol, closer, err := t.v.Open(ctx, true, t.job.Allow)
	if err != nil {
		return nil, fmt.Errorf("cannot open the volume for writing: %w", err)
	}
	defer func() {
		if cerr := closer.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("cannot close the volume, so what was done may not be on the disk: %w", cerr))
		}
	}()
	return t.pb.Apply(vol, &keeper{ctx: ctx, client: t.c, place: t.place, volume: t.v.Name()})
}

// verify checks the volume again: nothing faulty may be there, and every other file that was
// looked at must be there with the content that it had.
func (t *treatment) verify(ctx context.Context, before []playbooks.Finding) error {
	// Removing took no time worth the name; a look must be possible even at the deadline.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(time.Until(t.end), 30*time.Second))
	defer cancel()
	after, err := t.check(ctx)
	if err != nil {
		return err
	}
	now := map[string]playbooks.File{}
	for _, f := range after {
		for _, file := range f.Files {
			if file.Faulty {
				return fmt.Errorf("%s is still there", file.Path)
			}
			now[file.Path] = file
		}
	}
	for _, f := range before {
		for _, was := range f.Files {
			if is, ok := now[was.Path]; !was.Faulty && (!ok || is.SHA256 != was.SHA256) {
				return fmt.Errorf("%s is not as it was", was.Path)
			}
		}
	}
	return verifyValues(before, after)
}

// verifyValues is verify for registry values and boot options. A hive as a whole has no name:
// it may be dirty before and clean now. What could not be put right is in the findings.
func verifyValues(before, after []playbooks.Finding) error {
	now := map[string]string{}
	for _, f := range after {
		for _, v := range f.Values {
			if v.Faulty && v.Is != "" {
				return fmt.Errorf("%s in %s is still %s", v.Name, v.Path, v.Was)
			}
			now[v.Path+"\x00"+v.Name] = v.Was
		}
	}
	for _, f := range before {
		for _, v := range f.Values {
			if is := now[v.Path+"\x00"+v.Name]; !v.Faulty && v.Name != "" && is != v.Was {
				return fmt.Errorf("%s in %s is not as it was", v.Name, v.Path)
			}
		}
	}
	return nil
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
