package ipmi_test

import (
	"context"
	"net"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/ipmi"
	"unbrick/remediate/driver/ipmi/ipmitest"
	"unbrick/remediate/power"
	"unbrick/remediate/power/powertest"
)

const (
	user     = "unbrick"
	password = "correct-horse" // of 16 bytes at most
)

func options(password string) ipmi.Options {
	return ipmi.Options{
		Login: func(context.Context, remediate.Target) (string, secret.Value, error) {
			return user, secret.New(password), nil
		},
		Times: ipmi.Times{
			Reply: 40 * time.Millisecond, Settle: 2 * time.Second, Poll: time.Millisecond, Retry: time.Millisecond,
		},
	}
}

func start(t testing.TB, o ipmitest.Options) *ipmitest.BMC {
	t.Helper()
	o.User = user
	if o.Password == "" {
		o.Password = password
	}
	b, err := ipmitest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func at(address string) remediate.Target {
	return remediate.Target{
		Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h1"},
		Route: inventory.Route{Driver: "ipmi", Address: address},
	}
}

// TestSwitch has the switch pass the suite, by either cipher suite.
func TestSwitch(t *testing.T) {
	for name, o := range map[string]ipmitest.Options{
		"suite 17": {}, "suite 3": {Suites: []int{3}}, "drops the UEFI bit": {DropsUEFI: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			powertest.Run(t, func(t *testing.T) powertest.Rig { return rig(t, o) })
		})
	}
}

func rig(t *testing.T, o ipmitest.Options) powertest.Rig {
	few := o.Suites != nil || o.DropsUEFI // cut off as the first variant is: each cut takes its time
	b := start(t, o)
	dead, lost := false, -1 // nothing is heard of us any more; which answer was ordered to be lost
	return powertest.Rig{
		Switch: ipmi.New(options(password)), Target: at(b.Addr()), Denied: ipmi.New(options("wrong")),
		Dead: at(silence(t)),
		Boots: func() []power.Source {
			var all []power.Source
			for _, from := range b.State().Boots {
				all = append(all, power.Source(from))
			}
			return all
		},
		Actions: func() int { return b.State().Actions },
		Left: func() string {
			if b.State().Flags.Persist {
				return "boot flags for good"
			}
			if dead || lost >= 0 && b.Requests()[lost] == ipmitest.OpOpen {
				return "" // nobody can name the session: the BMC ends it after its time
			}
			if !soon(func() bool { return b.State().Sessions == 0 }) {
				return "a session"
			}
			return ""
		},
		Requests: func() []bool {
			all := []bool{}
			for _, op := range b.Requests() {
				all = append(all, !few && (op == ipmitest.OpRAKP3 || op == ipmitest.OpChange))
			}
			return all
		},
		Cut: func(n int, l powertest.Loss) {
			kind := ipmitest.LostRequest
			if l != powertest.LostBefore {
				kind, lost = ipmitest.LostReply, len(b.Requests())+n
			}
			b.Order(ipmitest.Fault{Kind: kind, Skip: n})
			if l == powertest.Death {
				dead = true
				b.Order(ipmitest.Fault{Kind: ipmitest.LostRequest, Skip: n, Count: -1})
			}
		},
		Revive: b.Heal,
		Hang:   func() { b.Order(ipmitest.Fault{Kind: ipmitest.LostRequest, Count: -1}) },
		Few:    few,
	}
}

// soon waits for what arrives without an answer.
func soon(done func() bool) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if done() {
			return true
		}
	}
	return false
}

// silence returns the address of a socket that takes datagrams and never answers.
func silence(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}
