package powertest_test

import (
	"slices"
	"testing"

	"unbrick/remediate/power"
	"unbrick/remediate/power/powertest"
)

// TestFake has the fake pass the suite that it helps others to pass.
func TestFake(t *testing.T) {
	for name, onlyOff := range map[string]bool{"any": false, "only off": true} {
		t.Run(name, func(t *testing.T) {
			powertest.Run(t, func(*testing.T) powertest.Rig { return rig(onlyOff) })
		})
	}
}

func rig(onlyOff bool) powertest.Rig {
	f := &powertest.Fake{OnlyOff: onlyOff}
	f.Order(powertest.Fault{Kind: powertest.LostRequest, Host: "dead", Count: -1})
	denied := &powertest.Fake{}
	denied.Order(powertest.Fault{Kind: powertest.Denied, Count: -1})
	return powertest.Rig{
		Switch: f, Target: powertest.Target("h1"), Denied: denied, Dead: powertest.Target("dead"),
		Boots:   func() []power.Source { return f.State("h1").Boots },
		Actions: func() int { return len(f.State("h1").Boots) },
		Left:    func() string { return "" },
		Requests: func() []bool {
			var all []bool
			for _, op := range f.Ops() {
				all = append(all, op != powertest.Power)
			}
			return all
		},
		Cut: func(n int, l powertest.Loss) {
			kind := powertest.LostRequest
			if l != powertest.LostBefore {
				kind = powertest.LostReply
			}
			f.Order(powertest.Fault{Kind: kind, Skip: n})
			if l == powertest.Death {
				f.Order(powertest.Fault{Kind: powertest.LostRequest, Skip: n, Count: -1})
			}
		},
		Revive: f.Heal,
		Hang:   func() { f.Order(powertest.Fault{Kind: powertest.Hang, Count: -1}) },
	}
}

// TestStarted: what a host boots is told, and a crash uses up what was to be booted.
func TestStarted(t *testing.T) {
	var told []string
	f := &powertest.Fake{Started: func(host string, from power.Source) { told = append(told, host+" "+string(from)) }}
	h := powertest.Target("h1")
	for _, err := range []error{
		f.Turn(t.Context(), h, power.Off), f.Next(t.Context(), h, power.Network), f.Turn(t.Context(), h, power.On),
		f.Next(t.Context(), h, power.Network),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f.Crash("h1")
	f.Crash("h1")
	if want := []string{"h1 network", "h1 network", "h1 disk"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
	f.Set("h1", func(s *powertest.State) { s.Power = power.Off })
	f.Crash("h1")
	if s := f.State("h1"); s.Power != power.Off || len(s.Boots) != 3 {
		t.Errorf("a host that was off crashed: %+v", s)
	}
}
