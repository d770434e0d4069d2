package engine

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A flapper answers two looks and is silent for two, until the host is well.
type flapper struct {
	*yard
	n atomic.Int64
}

func (f *flapper) Probe(ctx context.Context, h inventory.Host) (string, error) {
	if evidence, _ := f.yard.Probe(ctx, h); evidence != "" {
		return evidence, nil
	}
	if f.n.Add(1)%4 < 2 {
		return "answers between two crashes", nil
	}
	return "", nil
}

// A host that answers for a moment between two crashes is not healthy: it is repaired.
func TestFlapping(t *testing.T) {
	y := newYard()
	_, s := yardStore(t, "h")
	e := y.engine(s, "redfish")
	e.Prober, e.Soak, e.Timeouts.Confirm = &flapper{yard: y}, 30*time.Millisecond, 5*time.Second
	runs(t, e)
	if r := result(t, s, "h"); r.Verdict != remediate.Fixed || r.Evidence != "answers" {
		t.Errorf("%s: %q, %q", r.Verdict, r.Reason, r.Evidence)
	}
}

// What a driver says of how a host came up is kept beside what shows that it stays up.
func TestDriverEvidence(t *testing.T) {
	for _, does := range []string{"repair winrm: says up", "enter winrm: says up"} {
		y := newYard(does)
		_, s := yardStore(t, "h")
		runs(t, y.engine(s, "winrm"))
		if r := result(t, s, "h"); r.Verdict != remediate.Healthy || r.Evidence != "a ping; answers" {
			t.Errorf("%s: %s: %q", does, r.Verdict, r.Evidence)
		}
	}
}

// An idle gate leads to hosts that were found off.
type idle struct{ gate }

func (i idle) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	p, err := i.gate.Observe(ctx, t)
	p.Said = "it was found off"
	return p, err
}

// So is what it says of how the host was found.
func TestFoundOff(t *testing.T) {
	y := newYard()
	_, s := yardStore(t, "h")
	e := y.engine(s, "redfish")
	e.Drivers["redfish"] = idle{gate{y, "redfish"}}
	runs(t, e)
	if r := result(t, s, "h"); r.Verdict != remediate.Fixed || r.Evidence != "it was found off; answers" {
		t.Errorf("%s: %q, %q", r.Verdict, r.Reason, r.Evidence)
	}
}

// A driver that takes such a moment for the end is told to go on.
func TestFlappingInPlace(t *testing.T) {
	y := newYard("repair winrm: says up, which does not last")
	_, s := yardStore(t, "h")
	e := y.engine(s, "winrm")
	e.Prober, e.Soak, e.Timeouts.Repair = &flapper{yard: y}, 30*time.Millisecond, 300*time.Millisecond
	runs(t, e)
	repairs := 0
	for _, c := range y.calls {
		if c == "repair winrm" {
			repairs++
		}
	}
	if r := result(t, s, "h"); r.Verdict != remediate.Failed || repairs < 2 {
		t.Errorf("%s after %d repairs: %q", r.Verdict, repairs, r.Reason)
	}
}

// A clerk says how hosts stand that answer.
type clerk struct {
	y    *yard
	safe func(repaired bool) bool
}

func (c clerk) Vouch(_ context.Context, h inventory.Host) (remediate.Standing, error) {
	c.y.mu.Lock()
	defer c.y.mu.Unlock()
	if c.safe == nil {
		return remediate.Standing{}, errors.New("access denied")
	}
	return remediate.Standing{Started: time.Date(2024, 7, 19, 6, 0, 0, 0, time.UTC), SafeMode: c.safe(c.y.repaired[h.Name])}, nil
}

func TestVouched(t *testing.T) {
	for _, c := range []struct {
		name     string
		safe     func(repaired bool) bool
		verdict  remediate.Verdict
		evidence string
	}{
		{"it says when it was started", func(bool) bool { return false }, remediate.Healthy, "answers, started 2024-07-19T06:00:00Z"},
		{"nobody may ask", nil, remediate.Healthy, "answers"},
		{"Safe Mode, until it is repaired", func(repaired bool) bool { return !repaired }, remediate.Fixed, "answers, started 2024-07-19T06:00:00Z"},
		{"Safe Mode for good", func(bool) bool { return true }, remediate.Unconfirmed, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard()
			y.set("h", true)
			_, s := yardStore(t, "h")
			e := y.engine(s, "winrm")
			e.Voucher = clerk{y, c.safe}
			runs(t, e)
			if r := result(t, s, "h"); r.Verdict != c.verdict || r.Evidence != c.evidence {
				t.Errorf("%s: %q, %q; want %s, %q", r.Verdict, r.Reason, r.Evidence, c.verdict, c.evidence)
			}
		})
	}
}

// A sensor's console hears of hosts that nobody sees.
type console struct{ last func() time.Time }

func (c console) SeenAfter(_ context.Context, _ inventory.Host, since time.Time) (string, error) {
	if last := c.last(); last.After(since) {
		return "the console saw it", nil
	}
	return "", nil
}

type blind struct{}

func (blind) Probe(context.Context, inventory.Host) (string, error) { return "", nil }

func TestWitness(t *testing.T) {
	began := time.Now()
	for _, c := range []struct {
		name    string
		last    func() time.Time
		verdict remediate.Verdict
	}{
		{"seen again and again", time.Now, remediate.Fixed},
		{"seen before the repair alone", func() time.Time { return began }, remediate.Unconfirmed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard()
			_, s := yardStore(t, "h")
			e := y.engine(s, "redfish")
			e.Prober, e.Witness, e.Timeouts.Confirm = blind{}, console{c.last}, 500*time.Millisecond
			runs(t, e)
			if r := result(t, s, "h"); r.Verdict != c.verdict || (r.Evidence != "") != (c.verdict == remediate.Fixed) {
				t.Errorf("%s: %q, %q", r.Verdict, r.Reason, r.Evidence)
			}
		})
	}
}

// A camera is a gate that can show the host's screen.
type camera struct {
	gate
	err error
}

func (c camera) Screenshot(context.Context, remediate.Target) ([]byte, error) {
	return []byte("\x89PNG"), c.err
}

func TestScreenshot(t *testing.T) {
	for _, c := range []struct {
		name    string
		err     error
		up      bool
		where   string
		verdict remediate.Verdict
	}{
		{"of a host that is up", nil, true, "; screen in h.png", remediate.Fixed},
		{"of one that is not", nil, false, "; screen in h.png", remediate.Unconfirmed},
		{"that cannot be had", errors.ErrUnsupported, true, "", remediate.Fixed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard()
			_, s := yardStore(t, "h")
			e := y.engine(s, "redfish")
			e.Drivers["redfish"] = camera{gate{y, "redfish"}, c.err}
			e.Keep = func(t remediate.Target, png []byte) (string, error) { return t.Host.Name + ".png", nil }
			if !c.up {
				e.Prober = blind{}
			}
			runs(t, e)
			r := result(t, s, "h")
			if said := r.Evidence + r.Reason; r.Verdict != c.verdict || !strings.HasSuffix(said, c.where) || c.where == "" && strings.Contains(said, "screen") {
				t.Errorf("%s: %q", r.Verdict, said)
			}
		})
	}
}
