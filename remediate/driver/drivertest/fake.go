package drivertest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
)

// A Fake is a Driver that works on the hosts of a World. It does as drivers for real hosts do:
// power off, insert, override, power on; and back.
type Fake struct{ World World }

var _ remediate.Driver = Fake{}

// hands do one call of one method.
type hands struct {
	world World
	op    Op
}

func (f Fake) hands(t remediate.Target, s remediate.Stage) hands {
	return hands{f.World, Op{Host: t.Host.Name, Stage: s, Caller: rand.Text()}}
}

func (h hands) do(ctx context.Context, v Verb) (HostState, error) {
	h.op.Verb = v
	return h.world.Do(ctx, h.op)
}

func (h hands) all(ctx context.Context, verbs ...Verb) error {
	for _, v := range verbs {
		if _, err := h.do(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

// Observe implements Driver.
func (f Fake) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	s, err := f.hands(t, remediate.Check).do(ctx, Look)
	if err != nil {
		return remediate.Posture{}, err
	}
	p := remediate.Posture{Power: "off", Detail: map[string]string{"slot": s.Inserted}}
	if s.On {
		p.Power = "on"
	}
	return p, nil
}

// Enter implements Driver. The image goes in while the power is off and the power comes back
// when all is ready: so a host that is on with our image in it was started with it.
func (f Fake) Enter(ctx context.Context, t remediate.Target, img remediate.Image) error {
	h := f.hands(t, remediate.Enter)
	h.op.Image = img.URL
	s, err := h.do(ctx, Look)
	if err != nil || s.On && s.Inserted == img.URL {
		return err
	}
	var verbs []Verb
	if s.On {
		verbs = append(verbs, PowerOff)
	}
	if s.Inserted != "" && s.Inserted != img.URL {
		verbs = append(verbs, EjectMedia)
	}
	if s.Inserted != img.URL {
		verbs = append(verbs, InsertMedia)
	}
	return h.all(ctx, append(verbs, SetOverride, PowerOn)...)
}

// Leave implements Driver.
func (f Fake) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	h := f.hands(t, remediate.Leave)
	s, err := h.do(ctx, Look)
	if err != nil {
		return err
	}
	was := before.Detail["slot"]
	var verbs []Verb
	if s.Inserted != was {
		if s.On {
			verbs = append(verbs, PowerOff)
		}
		verbs = append(verbs, EjectMedia)
	}
	if s.Override {
		verbs = append(verbs, ClearOverride)
	}
	if err := h.all(ctx, verbs...); err != nil {
		return err
	}
	if was != "" && s.Inserted != was {
		h.op.Image = was
		if err := h.all(ctx, InsertMedia); err != nil {
			return err
		}
	}
	if s.On && s.Inserted == was {
		return nil
	}
	return h.all(ctx, PowerOn)
}

// A FakeMedic repairs the hosts of a World, if the image that it gave out runs there.
type FakeMedic struct {
	World World
	Poll  time.Duration // how often it looks whether the image runs; 5 ms if 0
}

var _ remediate.Medic = FakeMedic{}

// Image implements Medic.
func (FakeMedic) Image(_ context.Context, t remediate.Target) (remediate.Image, error) {
	token := sha256.Sum256([]byte(t.ID()))
	return remediate.Image{URL: "http://192.0.2.1/i/" + hex.EncodeToString(token[:8]) + "/rescue.iso"}, nil
}

// Repair implements Medic.
func (m FakeMedic) Repair(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	img, err := m.Image(ctx, t)
	if err != nil {
		return remediate.Report{}, err
	}
	poll := m.Poll
	if poll == 0 {
		poll = 5 * time.Millisecond
	}
	op := Op{Host: t.Host.Name, Verb: Look, Image: img.URL, Stage: remediate.Repair}
	for {
		s, err := m.World.Do(ctx, op)
		if err != nil {
			return remediate.Report{}, err
		}
		switch {
		case s.Repairs > 0:
			return report(t), nil
		case op.Verb == Look && s.Running == Rescue && s.Inserted == img.URL:
			op.Verb = Repair
			continue
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return remediate.Report{}, errors.New("cannot repair: the image did not report in time")
		}
	}
}

func report(t remediate.Target) remediate.Report {
	file := playbooks.File{
		Path: "Windows/System32/drivers/CrowdStrike/C-00000291-00000000-00000032.sys", Size: 4096,
		ModTime: time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC), SHA256: hex.EncodeToString(make([]byte, 32)),
		Faulty: true, Why: "last write in the window", Removed: true,
	}
	return remediate.Report{Agent: "fake", Result: playbooks.Result{Playbook: "crowdstrike-291", Volumes: []playbooks.VolumeResult{{
		Volume: t.Host.Name, Verdict: playbooks.Faulty,
		Findings: []playbooks.Finding{{Root: "Windows", Step: "remove", Verdict: playbooks.Faulty, Files: []playbooks.File{file}}},
	}}}}
}

// A FakeProber sees Windows on the hosts of a World.
type FakeProber struct{ World World }

var _ remediate.Prober = FakeProber{}

// Probe implements Prober.
func (p FakeProber) Probe(ctx context.Context, h inventory.Host) (string, error) {
	s, err := p.World.Do(ctx, Op{Host: h.Name, Verb: Look, Stage: remediate.Confirm})
	if err != nil || s.Running != Windows {
		return "", err
	}
	return "Windows answers", nil
}
