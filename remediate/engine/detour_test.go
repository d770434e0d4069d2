package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/remediate"
)

// safe is a clerk who says that hosts are in Safe Mode until they are repaired.
func safe(y *yard) clerk { return clerk{y, func(repaired bool) bool { return !repaired }} }

const (
	winrmTries   = "observe winrm, "
	redfishReady = "observe redfish, enter redfish, repair redfish, leave redfish, "
	winrmRepairs = "observe winrm, enter winrm, repair winrm, leave winrm, "
)

// A way that makes a host ready for another hands over to that one, tried before or not, and
// has the host back if it fails too.
func TestDetour(t *testing.T) {
	const ready = "observe winrm: fails unless ready; repair redfish: makes ready"
	for _, c := range []struct {
		name    string
		ways    string
		does    string
		calls   string
		verdict remediate.Verdict
		reason  string
	}{
		{"there", "winrm redfish", ready, winrmTries + redfishReady + winrmRepairs, remediate.Fixed, ""},
		{"out of turn", "redfish netboot winrm", ready, redfishReady + winrmRepairs, remediate.Fixed, ""},
		{"and back", "winrm redfish netboot", ready + "; repair winrm: fails",
			winrmTries + redfishReady + winrmRepairs + redfishReady, remediate.Fixed, ""},
		{"not reached, and back", "winrm redfish netboot", "observe winrm: fails; repair redfish: makes ready",
			winrmTries + redfishReady + winrmTries + redfishReady, remediate.Fixed, ""},
		{"the way is not there", "redfish netboot", ready, redfishReady + redfishReady, remediate.Fixed, ""},
		{"nothing comes back, then in order", "winrm redfish netboot", "observe winrm: fails; repair redfish: makes ready; observe redfish: fails when returned",
			winrmTries + redfishReady + winrmTries + "observe redfish, observe netboot, enter netboot, repair netboot, leave netboot, ", remediate.Fixed, ""},
		{"left as it is", "winrm redfish", "observe winrm: fails; repair redfish: makes ready; observe redfish: fails when returned",
			winrmTries + redfishReady + winrmTries + "observe redfish, ", remediate.Stranded, "redfish made it ready for winrm, and that was not undone"},
		{"undone by the one who did it", "winrm redfish", "observe winrm: fails; repair redfish: is final when returned",
			winrmTries + redfishReady + winrmTries + redfishReady, remediate.Failed, "nobody has the key"},
		{"undone by the other", "winrm redfish", ready + "; repair winrm: is final",
			winrmTries + redfishReady + winrmRepairs, remediate.Failed, "nobody has the key"},
		{"cannot be put back there", "winrm redfish", ready + "; leave winrm: fails",
			winrmTries + redfishReady + winrmRepairs, remediate.Stranded, "what winrm did is still there"},
	} {
		for _, asked := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, asked %t", c.name, asked), func(t *testing.T) {
				t.Parallel()
				y := newYard(strings.Split(c.does, "; ")...)
				_, s := yardStore(t, "h")
				e := y.engine(s, strings.Fields(c.ways)...)
				e.Attempts = 1
				if asked {
					e.Voucher = safe(y)
				}
				runs(t, e)
				if got := strings.Join(y.calls, ", ") + ", "; got != c.calls {
					t.Errorf("calls\n%s, want\n%s", got, c.calls)
				}
				if r := result(t, s, "h"); r.Verdict != c.verdict || !strings.Contains(r.Reason, c.reason) {
					t.Errorf("%s: %q, want %s: %q", r.Verdict, r.Reason, c.verdict, c.reason)
				}
			})
		}
	}
}

// The way that a host was made ready for waits until it has started, and not for ever.
func TestDetourWaits(t *testing.T) {
	for _, comes := range []bool{true, false} {
		t.Run(fmt.Sprint(comes), func(t *testing.T) {
			y := newYard("observe winrm: fails unless ready", "repair redfish: makes ready")
			_, s := yardStore(t, "h")
			e := y.engine(s, "winrm", "redfish")
			e.Voucher, e.Timeouts.Check = safe(y), 50*time.Millisecond
			if !comes {
				e.Timeouts.Confirm = 100 * time.Millisecond
			}
			var looks atomic.Int64
			e.at = func(when, _ string, st remediate.Stage) {
				if when == "after" && st == remediate.Leave && looks.Add(1) == 1 {
					y.set("h", false) // it starts
					if comes {
						time.AfterFunc(200*time.Millisecond, func() { y.set("h", true) })
					}
				}
			}
			runs(t, e)
			want := winrmTries + redfishReady + winrmRepairs
			if !comes {
				want = winrmTries + redfishReady + redfishReady
			}
			if got := strings.Join(y.calls, ", ") + ", "; got != want {
				t.Errorf("calls\n%s, want\n%s", got, want)
			}
			if r := result(t, s, "h"); r.Verdict != remediate.Fixed && comes {
				t.Errorf("%s: %q", r.Verdict, r.Reason)
			}
		})
	}
}

// Wherever the attempt is lost, or the process ends, the host comes to its end all the same.
func TestDetourCutOff(t *testing.T) {
	for _, point := range points() {
		if point == "parked" {
			continue // nobody waits
		}
		for _, lost := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, lost %t", point, lost), func(t *testing.T) {
				t.Parallel()
				y := newYard("observe winrm: fails unless ready", "repair redfish: makes ready")
				path, s := yardStore(t, "h")
				e := y.engine(s, "winrm", "redfish")
				e.Voucher = safe(y)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				times := map[string]int{}
				e.at = func(when, _ string, st remediate.Stage) {
					if at := strings.TrimSpace(when + " " + string(st)); at != point {
						return
					}
					if times[point]++; times[point] > 3 { // each that there is, of the first way, the second, and the third
						return
					}
					if lost {
						panic("lost")
					}
					cancel()
				}
				for range 5 {
					_, err := New(e).Run(ctx)
					if err == nil {
						break
					}
					if !errors.Is(err, ErrInterrupted) {
						t.Fatal(err)
					}
					s.Close()
					s = openTest(t, path)
					e.Store = s
					ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
				}
				if r := result(t, s, "h"); r.Verdict != remediate.Fixed || r.Route != "winrm" {
					t.Errorf("%s by %s: %q", r.Verdict, r.Route, r.Reason)
				}
			})
		}
	}
}
