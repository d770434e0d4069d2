package winrm_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/winrm"
	"unbrick/remediate/engine"
)

// A bench is a controller and a rescue server for one fake host, whose agent has Windows start
// in Safe Mode as the one in WinPE does.
type bench struct {
	w        *windows
	d        *winrm.Driver
	returned int // repairs after Safe Mode came to nothing
}

func (b *bench) Observe(context.Context, remediate.Target) (remediate.Posture, error) {
	return remediate.Posture{Power: "on"}, nil
}

func (b *bench) Enter(context.Context, remediate.Target, remediate.Image) error { return nil }

func (b *bench) Image(context.Context, remediate.Target) (remediate.Image, error) {
	return remediate.Image{}, nil
}

func (b *bench) Repair(_ context.Context, t remediate.Target, _ *playbooks.Playbook) (remediate.Report, error) {
	if t.Returned {
		b.returned++
		return remediate.Report{Agent: "test"}, errors.New("nobody has its key")
	}
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	b.w.flag, b.w.bootMark, b.w.says = true, "/S", `{"entry": "`+running+`", "set": "network"}`
	return remediate.Report{Agent: "test", SafeMode: true}, &remediate.ThenError{Way: "winrm", Err: errors.New("locked: it will start in Safe Mode")}
}

// Leave starts Windows, which is in Safe Mode if its boot entry says so, and crashes else.
func (b *bench) Leave(context.Context, remediate.Target, remediate.Posture) error {
	b.w.mu.Lock()
	flag := b.w.flag
	if flag {
		b.w.safeMode = "0x2"
	}
	b.w.mu.Unlock()
	if flag {
		b.w.Revive()
	}
	return nil
}

func (b *bench) Probe(context.Context, inventory.Host) (string, error) {
	if b.w.Dead() {
		return "", nil
	}
	return "port 5985 answers", nil
}

func (b *bench) Vouch(ctx context.Context, _ inventory.Host) (remediate.Standing, error) {
	p, err := b.d.Observe(ctx, b.w.target())
	return remediate.Standing{SafeMode: p.Detail["safe_mode"] != ""}, err
}

// TestChain: a host whose locked Windows was set to start in Safe Mode by the agent is repaired
// there by WinRM, which was tried before in vain; the setting is undone, and the host restarted
// and seen up.
func TestChain(t *testing.T) {
	w := sick(t, nil)
	w.Die()
	o := options()
	o.Times.Catch = 2 * time.Second
	b := &bench{w: w, d: winrm.New(o)}
	store, err := engine.Open(t.Context(), filepath.Join(t.TempDir(), "unbrick.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h := w.target().Host
	h.Routes = []inventory.Route{w.target().Route, {Driver: "redfish", Address: "10.0.0.1"}}
	_, err = store.Begin(t.Context(), engine.Run{FleetDigest: "f"}, func(yield func(engine.Planned) bool) { yield(engine.Planned{Host: h}) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = engine.New(engine.Engine{
		Store: store, Playbook: library(t), Drivers: map[string]remediate.Driver{"winrm": b.d, "redfish": b}, Ladder: remediate.DefaultLadder(),
		Medic: b, Prober: b, Voucher: b, Every: 10 * time.Millisecond, Soak: 10 * time.Millisecond, Poll: 10 * time.Millisecond, Attempts: 1,
	}).Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range store.Results(t.Context(), "", "") {
		var ways []string
		for _, a := range r.Attempts {
			ways = append(ways, a.Route)
		}
		if err != nil || r.Verdict != remediate.Fixed || r.Route != "winrm" || strings.Join(ways, " ") != "winrm redfish winrm" || r.Evidence != "port 5985 answers" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if w.broken() || w.left() != "" || w.safeMode != "" || w.restarts != 1 || b.returned != 0 {
		t.Errorf("broken %v, left %q, Safe Mode %q, %d restarts, %d times back", w.broken(), w.left(), w.safeMode, w.restarts, b.returned)
	}
}
