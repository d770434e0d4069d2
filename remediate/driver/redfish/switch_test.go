package redfish_test

import (
	"context"
	"testing"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/power"
	"unbrick/remediate/power/powertest"
)

// TestSwitch has the driver pass the suite of switches against every model.
func TestSwitch(t *testing.T) {
	for _, m := range redfishtest.Models() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			powertest.Run(t, func(t *testing.T) powertest.Rig { return switchRig(t, m) })
		})
	}
}

func switchRig(t *testing.T, m redfishtest.Model) powertest.Rig {
	r := newRack(t, redfishtest.Options{Model: m})
	lost, dead := -1, false // which answer was ordered to be lost, and whether all later ones
	wrong := options()
	wrong.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
		return "root", secret.New("wrong"), nil
	}
	return powertest.Rig{
		Switch: redfish.New(options()), Target: r.target(), Denied: redfish.New(wrong),
		Dead: at("https://127.0.0.1:1"),
		Boots: func() []power.Source {
			var all []power.Source
			for _, b := range r.State().Boots {
				from := power.Disk
				if b.Device == redfishtest.Pxe {
					from = power.Network
				}
				all = append(all, from)
			}
			return all
		},
		Actions:  func() int { return len(r.did()) },
		Requests: r.changes,
		Left: func() string {
			s := r.State()
			if s.Sessions > 0 && !dead && (lost < 0 || r.Requests()[lost] != redfishtest.OpLogin) {
				return "a session"
			}
			if s.Override.Mode != "UEFI" {
				return "boot mode " + s.Override.Mode
			}
			return ""
		},
		Cut: func(n int, l powertest.Loss) {
			kind := redfishtest.LostRequest
			if l != powertest.LostBefore {
				kind, lost = redfishtest.LostReply, len(r.Requests())+n
			}
			r.Order(redfishtest.Fault{Kind: kind, Skip: n})
			if dead = l == powertest.Death; dead {
				r.Order(redfishtest.Fault{Kind: redfishtest.LostRequest, Skip: n, Count: -1})
			}
		},
		Revive: r.Heal,
		Hang:   func() { r.Order(redfishtest.Fault{Kind: redfishtest.Hang, Count: -1}) },
		Few:    m.Name != "Generic",
	}
}
