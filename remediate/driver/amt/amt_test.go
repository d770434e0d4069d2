package amt_test

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
	"unbrick/remediate/driver/amt"
	"unbrick/remediate/driver/amt/amttest"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/power"
	"unbrick/remediate/power/powertest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/tlspin"
)

const (
	image    = "http://192.0.2.7:8080/i/0123456789abcdef/rescue.iso"
	password = "Correct-horse-1"
	uuid     = "4c4c4544-0035-1000-8000-b1c04f4e3132"
)

// A desk is one simulated client and how to reach it.
type desk struct {
	*amttest.AMT
	records rescue.MemRecords

	mu      sync.Mutex
	actions []amttest.Action
}

func newDesk(t testing.TB, o amttest.Options) *desk {
	t.Helper()
	d := &desk{}
	o.User, o.Password = "admin", password
	o.Serial, o.UUID = "SN1", uuid
	o.Record = func(a amttest.Action) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.actions = append(d.actions, a)
	}
	a, err := amttest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	d.AMT = a
	return d
}

// did returns what was done, one line each.
func (d *desk) did() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var lines []string
	for _, a := range d.actions {
		lines = append(lines, a.Kind+" "+a.Detail)
	}
	return lines
}

// left says what is not as it was, or nothing.
func (d *desk) left() string {
	s := d.State()
	var left []string
	if !s.On {
		left = append(left, "power off")
	}
	if s.NextOnce {
		left = append(left, "the next start is an exception")
	}
	if s.Source != "" {
		left = append(left, "source "+s.Source)
	}
	if s.Params > 0 {
		left = append(left, fmt.Sprint(s.Params, " boot parameters"))
	}
	return strings.Join(left, ", ")
}

func (d *desk) changes() (all []bool) {
	for _, op := range d.Requests() {
		all = append(all, !amttest.Reads(op))
	}
	return all
}

func (d *desk) target() remediate.Target { return at(d.Addr()) }

func at(address string) remediate.Target {
	return remediate.Target{
		Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h1", UUID: uuid},
		Route: inventory.Route{Driver: "amt", Address: address},
	}
}

func (d *desk) options() amt.Options {
	return amt.Options{
		Login: func(context.Context, remediate.Target) (string, secret.Value, error) {
			return "admin", secret.New(password), nil
		},
		TLS: tlspin.Policy{Mode: tlspin.Insecure}, Records: &d.records,
		BootURL: func(img remediate.Image) (string, error) {
			return strings.Replace(strings.TrimSuffix(img.URL, "rescue.iso"), "http://", "https://", 1) + "netboot/shimx64.efi", nil
		},
		Times: amt.Times{Request: 5 * time.Second, Settle: 2 * time.Second, Poll: time.Millisecond, Retry: time.Millisecond},
	}
}

// cut orders a loss, for the suites.
func (d *desk) cut(n int, before, death bool) {
	kind := amttest.LostReply
	if before {
		kind = amttest.LostRequest
	}
	d.Order(amttest.Fault{Kind: kind, Skip: n})
	if death {
		d.Order(amttest.Fault{Kind: amttest.LostRequest, Skip: n, Count: -1})
	}
}

func (d *desk) hang() { d.Order(amttest.Fault{Kind: amttest.Hang, Count: -1}) }

// TestContract has the driver pass the suite: over HTTPS; and into WinRE, with AMT that takes its
// time, whose nonces go stale, and that lists one thing at a time.
func TestContract(t *testing.T) {
	cert, err := amttest.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		opt   amttest.Options
		winre bool
	}{
		"https": {},
		"winre": {winre: true, opt: amttest.Options{PowerDelay: 3 * time.Millisecond, NonceUses: 2, PullLimit: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drivertest.Run(t, func(t *testing.T) drivertest.Rig {
				c.opt.Certificate = cert
				r := rig(t, c.opt, c.winre)
				r.Few = name != "https"
				return r
			})
		})
	}
}

func rig(t *testing.T, o amttest.Options, winre bool) drivertest.Rig {
	d := newDesk(t, o)
	opt := d.options()
	target, img := d.target(), remediate.Image{URL: image}
	booted, err := opt.BootURL(img)
	if err != nil {
		t.Fatal(err)
	}
	if winre {
		target.Route.Address = "https://" + d.Addr() + "/winre"
	}
	return drivertest.Rig{
		Driver: amt.New(opt), Target: target, Image: img,
		Boots: func() (all []string) {
			for _, b := range d.State().Boots {
				switch {
				case winre && b.Source == amttest.WinRE && b.Secure, !winre && b.Source == amttest.HTTPS && b.URL == booted && b.Secure:
					all = append(all, img.URL)
				default:
					all = append(all, b.Source)
				}
			}
			return all
		},
		Actions: func() int { return len(d.did()) }, Requests: d.changes, Left: d.left,
		Cut:    func(n int, l drivertest.Loss) { d.cut(n, l == drivertest.LostBefore, l == drivertest.Death) },
		Revive: d.Heal, Hang: d.hang,
	}
}

// TestSwitch has it pass the suite of those who switch hosts on and off, on old AMT, too.
func TestSwitch(t *testing.T) {
	cert, err := amttest.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"16.1.25", "11.8.50"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			powertest.Run(t, func(t *testing.T) powertest.Rig {
				d := newDesk(t, amttest.Options{Version: version, Certificate: cert})
				opt := d.options()
				wrong := opt
				wrong.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
					return "admin", secret.New("Wrong-horse-1"), nil
				}
				return powertest.Rig{
					Switch: amt.New(opt), Target: d.target(), Denied: amt.New(wrong), Dead: at("127.0.0.1:1"),
					Boots: func() (all []power.Source) {
						for _, b := range d.State().Boots {
							all = append(all, map[string]power.Source{amttest.Disk: power.Disk, amttest.Network: power.Network}[b.Source])
						}
						return all
					},
					Actions: func() int { return len(d.did()) }, Requests: d.changes,
					Left:   func() string { return "" }, // AMT has no sessions
					Cut:    func(n int, l powertest.Loss) { d.cut(n, l == powertest.LostBefore, l == powertest.Death) },
					Revive: d.Heal, Hang: d.hang,
					Few: version != "16.1.25",
				}
			})
		})
	}
}
