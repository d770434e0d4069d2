package redfish_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/tlspin"
)

const (
	image    = "http://192.0.2.7:8080/i/0123456789abcdef/rescue.iso"
	password = "correct horse battery"
)

// A rack is one simulated BMC and how to reach it.
type rack struct {
	*redfishtest.BMC
	mu      sync.Mutex
	actions []redfishtest.Action
}

func newRack(t testing.TB, o redfishtest.Options) *rack {
	t.Helper()
	r := &rack{}
	o.User, o.Password = "root", password
	o.Serial, o.UUID = "SN1", "4c4c4544-0035-1000-8000-b1c04f4e3132"
	o.Record = func(a redfishtest.Action) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.actions = append(r.actions, a)
	}
	b, err := redfishtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	r.BMC = b
	return r
}

// did returns what was done, one line each.
func (r *rack) did() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	for _, a := range r.actions {
		lines = append(lines, a.Kind+" "+a.Detail)
	}
	return lines
}

// left says what is not as it was, or nothing.
func (r *rack) left() string {
	s := r.State()
	var left []string
	if s.Power != "On" {
		left = append(left, "power "+s.Power)
	}
	for slot, m := range s.Media {
		left = append(left, slot+": "+m.Image)
	}
	if s.Override.Enabled != "Disabled" {
		left = append(left, fmt.Sprint("override ", s.Override))
	}
	if s.Override.Mode != "UEFI" {
		left = append(left, "boot mode "+s.Override.Mode)
	}
	if s.Sessions != 0 {
		left = append(left, fmt.Sprint(s.Sessions, " sessions"))
	}
	return strings.Join(left, ", ")
}

func (r *rack) boots() []string {
	boots := []string{}
	for _, b := range r.State().Boots {
		if b.Device == redfishtest.Cd {
			boots = append(boots, b.Image)
		} else {
			boots = append(boots, drivertest.Disk)
		}
	}
	return boots
}

// changes says of each request so far whether it was to change something.
func (r *rack) changes() []bool {
	var all []bool
	for _, op := range r.Requests() {
		switch op {
		case redfishtest.OpRoot, redfishtest.OpSystems, redfishtest.OpSystem, redfishtest.OpManager, redfishtest.OpMedia:
			all = append(all, false)
		default:
			all = append(all, true)
		}
	}
	return all
}

func (r *rack) target() remediate.Target { return at(r.URL()) }

func at(address string) remediate.Target {
	return remediate.Target{
		Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h1", Serial: "SN1"},
		Route: inventory.Route{Driver: "redfish", Address: address},
	}
}

func login(context.Context, remediate.Target) (string, secret.Value, error) {
	return "root", secret.New(password), nil
}

func options() redfish.Options {
	return redfish.Options{
		Login: login, TLS: tlspin.Policy{Mode: tlspin.Insecure},
		Times: redfish.Times{
			Request: 5 * time.Second, Settle: 2 * time.Second, Logout: 200 * time.Millisecond, Poll: time.Millisecond, Retry: time.Millisecond,
		},
	}
}

// TestContract has the driver pass the suite against every model.
func TestContract(t *testing.T) {
	for _, m := range redfishtest.Models() {
		t.Run(m.Name, func(t *testing.T) {
			t.Parallel()
			drivertest.Run(t, func(t *testing.T) drivertest.Rig { return rig(t, m) })
		})
	}
}

func rig(t *testing.T, m redfishtest.Model) drivertest.Rig {
	r := newRack(t, redfishtest.Options{Model: m})
	lostReply, dead := -1, false // which answer was ordered to be lost, and whether all later ones
	return drivertest.Rig{
		Driver: redfish.New(options()), Target: r.target(), Image: remediate.Image{URL: image},
		Boots:    r.boots,
		Actions:  func() int { return len(r.did()) },
		Requests: r.changes,
		Left: func() string {
			left := r.left()
			if left == "1 sessions" && (dead || lostReply >= 0 && r.Requests()[lostReply] == redfishtest.OpLogin) {
				return "" // nobody can name it any more: the BMC ends it after its time
			}
			return left
		},
		Cut: func(n int, l drivertest.Loss) {
			kind := redfishtest.LostRequest
			if l != drivertest.LostBefore {
				kind, lostReply = redfishtest.LostReply, len(r.Requests())+n
			}
			r.Order(redfishtest.Fault{Kind: kind, Skip: n})
			if dead = l == drivertest.Death; dead {
				r.Order(redfishtest.Fault{Kind: redfishtest.LostRequest, Skip: n, Count: -1})
			}
		},
		Revive: r.Heal,
		Few:    m.Name != "Generic",
		Hang:   func() { r.Order(redfishtest.Fault{Kind: redfishtest.Hang, Count: -1}) },
	}
}
