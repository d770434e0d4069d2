package rescue_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/agent/keyless"
	"unbrick/remediate/rescue/wire"
)

// A safeVolume is a locked volume that need not be unlocked; a safeMachine has it alone.
type safeVolume struct {
	v       *volume
	way     keyless.Way
	err     error // of StartSafe
	started int
}

func (s *safeVolume) Name() string         { return s.v.Name() }
func (s *safeVolume) Protectors() []string { return s.v.Protectors() }

func (s *safeVolume) Unlock(ctx context.Context, id string, key bitlocker.Key) error {
	return s.v.Unlock(ctx, id, key)
}

func (s *safeVolume) Open(ctx context.Context, write bool, allow wire.Allow) (playbooks.Volume, io.Closer, error) {
	return s.v.Open(ctx, write, allow)
}

func (s *safeVolume) Keyless() (keyless.Decision, bool) {
	return keyless.Decision{Way: s.way, Why: "because"}, true
}

func (s *safeVolume) StartSafe(context.Context) (string, error) {
	s.started++
	return "it will start in Safe Mode", s.err
}

type safeMachine struct {
	*machine
	v        *safeVolume
	restored int
	err      error // of Restore
}

func (m *safeMachine) Volumes(context.Context) ([]agent.Volume, error) {
	return []agent.Volume{m.v}, nil
}

func (m *safeMachine) Restore(context.Context) (string, error) {
	m.restored++
	return "", m.err
}

func TestKeyless(t *testing.T) {
	for _, tt := range []struct {
		name       string
		terms      rescue.Terms
		way        keyless.Way
		startErr   error
		restoreErr error

		started, restored, releases int
		fails                       string
	}{
		{"allowed", rescue.Terms{Allow: wire.Allow{SafeMode: true}}, keyless.SafeMode, nil, nil, 1, 1, 0, "it will start in Safe Mode"},
		{"not allowed", rescue.Terms{}, keyless.SafeMode, nil, nil, 0, 1, 1, ""},
		{"refused there", rescue.Terms{Allow: wire.Allow{SafeMode: true}}, keyless.SafeMode, errors.New("two Windows"), nil, 1, 1, 1, ""},
		{"it would trip BitLocker", rescue.Terms{Allow: wire.Allow{SafeMode: true}}, keyless.Key, nil, nil, 0, 1, 1, ""},
		{"dry run", rescue.Terms{DryRun: true, Allow: wire.Allow{SafeMode: true}}, keyless.SafeMode, nil, nil, 0, 0, 1, "dry run"},
		{"an earlier one cannot be undone", rescue.Terms{}, keyless.SafeMode, nil, errors.New("bcdedit fails"), 0, 1, 1, "may still start in Safe Mode"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, func(l *lab) { l.cfg.Terms = func(remediate.Target) rescue.Terms { return tt.terms } })
			l.escrow.filed = append(l.escrow.filed, l.lock(l.machine.volumes[0]))
			m := &safeMachine{machine: l.machine, v: &safeVolume{v: l.machine.volumes[0], way: tt.way, err: tt.startErr}, err: tt.restoreErr}
			cfg, done := l.boot(), make(chan ended, 1)
			go func() {
				r, err := agent.Run(l.t.Context(), m, cfg, quick)
				done <- ended{r, err}
			}()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			r, err := l.s.Repair(ctx, l.target, l.pb)
			a := <-done
			var then *remediate.ThenError
			if safe := tt.started == 1 && tt.startErr == nil; errors.As(err, &then) != safe || safe && then.Way != "winrm" || r.SafeMode != (safe || tt.restoreErr != nil) {
				t.Errorf("then %+v, report %+v", then, r)
			}
			if m.v.started != tt.started || m.restored != tt.restored || len(l.ledger.releases) != tt.releases {
				t.Errorf("started %d, restored %d, released %d", m.v.started, m.restored, len(l.ledger.releases))
			}
			if (err == nil) != (tt.fails == "") || tt.started == 1 && tt.releases == 0 && final(err) {
				t.Errorf("repair: %v", err)
			}
			if err != nil {
				wantErr(t, err, tt.fails)
			}
			if said := strings.Join(a.report.Log, "\n"); !strings.Contains(said, string(tt.way)+": because") {
				t.Errorf("the report does not say it: %s", said)
			}
		})
	}
}
