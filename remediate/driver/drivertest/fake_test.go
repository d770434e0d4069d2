package drivertest_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
)

func target() remediate.Target {
	return remediate.Target{
		Run: "r", Attempt: 1, Host: inventory.Host{Name: "h1"}, Route: inventory.Route{Driver: "fake", Address: "h1"},
	}
}

// TestFakeRun goes once through every stage, on a world in another place.
func TestFakeRun(t *testing.T) {
	m := &drivertest.Memory{}
	srv := httptest.NewServer(drivertest.ServeWorld(m))
	defer srv.Close()
	w := drivertest.DialWorld(srv.URL)
	driver, medic, prober := drivertest.Fake{World: w}, drivertest.FakeMedic{World: w}, drivertest.FakeProber{World: w}

	ctx := t.Context()
	before, err := driver.Observe(ctx, target())
	if err != nil {
		t.Fatal(err)
	}
	img, _ := medic.Image(ctx, target())
	for range 2 { // each stage twice, as after a crash
		if err := driver.Enter(ctx, target(), img); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		rep, err := medic.Repair(ctx, target(), nil)
		if err != nil || !rep.Volumes[0].Findings[0].Files[0].Removed {
			t.Fatalf("%v %v", rep, err)
		}
	}
	for range 2 {
		if err := driver.Leave(ctx, target(), before); err != nil {
			t.Fatal(err)
		}
	}
	if up, err := prober.Probe(ctx, target().Host); up == "" || err != nil {
		t.Errorf("no sign of life after a repair: %v", err)
	}
	if s := m.State("h1"); !s.Tidy() || len(s.Booted) != 1 || s.Repairs != 1 || s.Starts != 2 || s.Violations != nil {
		t.Errorf("the host: %+v", s)
	}
}

// TestFakeFaults cuts Enter and Leave at every op, in every way, and repeats them.
func TestFakeFaults(t *testing.T) {
	for _, kind := range drivertest.Kinds() {
		for skip := 0; ; skip++ {
			m := &drivertest.Memory{}
			m.Order(drivertest.Fault{Kind: kind, Skip: skip})
			run(t, m)
			if m.Pending() > 0 {
				break // beyond the last op
			}
			if s := m.State("h1"); !s.Tidy() || len(s.Booted) != 1 || s.Violations != nil {
				t.Errorf("%s at op %d: %+v", kind, skip, s)
			}
		}
	}
}

func run(t *testing.T, m *drivertest.Memory) {
	t.Helper()
	driver := drivertest.Fake{World: m}
	img, _ := drivertest.FakeMedic{}.Image(t.Context(), target())
	var before remediate.Posture
	for _, stage := range []func(context.Context) error{
		func(ctx context.Context) (err error) { before, err = driver.Observe(ctx, target()); return err },
		func(ctx context.Context) error { return driver.Enter(ctx, target(), img) },
		func(ctx context.Context) error { return driver.Leave(ctx, target(), before) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := stage(ctx)
		cancel()
		if err != nil {
			err = stage(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestWatch(t *testing.T) {
	do := func(m *drivertest.Memory, ops ...drivertest.Op) {
		for _, op := range ops {
			op.Host = "h1"
			if _, err := m.Do(t.Context(), op); err != nil && op.Verb != drivertest.InsertMedia {
				t.Fatal(err)
			}
		}
	}
	boot := []drivertest.Op{
		{Verb: drivertest.PowerOff}, {Verb: drivertest.InsertMedia, Image: "i"}, {Verb: drivertest.SetOverride}, {Verb: drivertest.PowerOn},
	}
	for name, ops := range map[string][]drivertest.Op{
		"booted twice":        append(boot, drivertest.Op{Verb: drivertest.PowerOff, Image: "i"}, drivertest.Op{Verb: drivertest.SetOverride}, drivertest.Op{Verb: drivertest.PowerOn}),
		"cut while it works":  append(boot, drivertest.Op{Verb: drivertest.PowerOff, Image: "i", Stage: remediate.Enter}),
		"removed twice":       append(boot, drivertest.Op{Verb: drivertest.Repair, Image: "i"}, drivertest.Op{Verb: drivertest.Repair, Image: "i"}),
		"inserted twice":      append(boot, drivertest.Op{Verb: drivertest.InsertMedia, Image: "i"}),
		"two callers at once": {{Verb: drivertest.PowerOff, Caller: "a"}, {Verb: drivertest.PowerOn, Caller: "b"}, {Verb: drivertest.PowerOff, Caller: "a"}},
	} {
		m := &drivertest.Memory{}
		do(m, ops...)
		if s := m.State("h1"); len(s.Violations) != 1 {
			t.Errorf("%s: violations %q", name, s.Violations)
		}
	}
}

func TestRemoteErrors(t *testing.T) {
	m := &drivertest.Memory{}
	srv := httptest.NewServer(drivertest.ServeWorld(m))
	defer srv.Close()
	m.Order(drivertest.Fault{Kind: drivertest.Busy, After: time.Minute})
	m.Order(drivertest.Fault{Kind: drivertest.Refused})
	w := drivertest.DialWorld(srv.URL)
	_, err := w.Do(t.Context(), drivertest.Op{Host: "h", Verb: drivertest.Look})
	var retry *remediate.RetryError
	if !errors.As(err, &retry) || retry.After != time.Minute {
		t.Errorf("busy became %v", err)
	}
	_, err = w.Do(t.Context(), drivertest.Op{Host: "h", Verb: drivertest.Look})
	var final *remediate.FinalError
	if !errors.As(err, &final) {
		t.Errorf("refused became %v", err)
	}
}
