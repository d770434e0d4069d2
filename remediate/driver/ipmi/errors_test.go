package ipmi_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/ipmi"
	"unbrick/remediate/driver/ipmi/ipmitest"
	"unbrick/remediate/power"
)

// guid is what goes over the wire for the UUID 4c4c4544-0035-1000-8000-b1c04f4e3132, in the
// order of SMBIOS.
var guid = [16]byte{0x44, 0x45, 0x4c, 0x4c, 0x35, 0x00, 0x00, 0x10, 0x80, 0x00, 0xb1, 0xc0, 0x4f, 0x4e, 0x31, 0x32}

// TestErrors: each trouble in the user's words, and a RetryError where it may pass.
func TestErrors(t *testing.T) {
	long := "a password of 20 b.."
	for name, c := range map[string]struct {
		bmc    ipmitest.Options
		login  string
		faults []ipmitest.Fault
		want   string
		retry  bool
	}{
		"wrong password":      {login: "tr0ub4dor", want: "refused the credentials: wrong password"},
		"long password cut":   {bmc: ipmitest.Options{Password: long[:16]}, login: long, want: "has 20 bytes, and old BMCs keep 16"},
		"password too long":   {login: long + "x", want: "passwords of up to 20"},
		"account of a user":   {bmc: ipmitest.Options{Limited: true}, want: "role of an operator"},
		"command not allowed": {faults: []ipmitest.Fault{{Kind: ipmitest.Refuse, Code: 0xd4, Skip: 4, Count: -1}}, want: "role of an operator"},
		"role not given":      {faults: []ipmitest.Fault{{Kind: ipmitest.Refuse, Code: 0x81, Skip: 3}}, want: "role of an operator"},
		"no suite of ours":    {bmc: ipmitest.Options{Suites: []int{0}}, want: "neither cipher suite 17 nor 3"},
		"no answer":           {faults: []ipmitest.Fault{{Kind: ipmitest.LostRequest, Count: -1}}, want: "does not answer on UDP", retry: true},
		"goes away":           {faults: []ipmitest.Fault{{Kind: ipmitest.LostRequest, Skip: 4, Count: -1}}, want: "does not answer on UDP", retry: true},
		"busy for long":       {faults: []ipmitest.Fault{{Kind: ipmitest.Refuse, Code: 0xc0, Skip: 4, Count: -1}}, want: "completion code c0h, Node busy", retry: true},
		"refused":             {faults: []ipmitest.Fault{{Kind: ipmitest.Refuse, Code: 0xc1, Skip: 4, Count: -1}}, want: "completion code c1h"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, c.bmc)
			for _, f := range c.faults {
				b.Order(f)
			}
			if c.login == "" {
				c.login = password
			}
			_, err := ipmi.New(options(c.login)).Power(t.Context(), at(b.Addr()))
			var retry *remediate.RetryError
			if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &retry) != c.retry {
				t.Errorf("%v\nwant one with %q, retry %v", err, c.want, c.retry)
			}
			if err != nil && strings.Contains(err.Error(), c.login) {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}

// TestWrongPasswordOnce: one call is one failed login, or accounts are locked.
func TestWrongPasswordOnce(t *testing.T) {
	b := start(t, ipmitest.Options{})
	_, err := ipmi.New(options("wrong")).Power(t.Context(), at(b.Addr()))
	if err == nil {
		t.Fatal("a wrong password was taken")
	}
	n := 0
	for _, op := range b.Requests() {
		if op == ipmitest.OpOpen {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d logins with a wrong password: %q", n, b.Requests())
	}
	if !soon(func() bool { return b.State().Sessions == 0 }) {
		t.Error("the login that failed keeps a place in the session table")
	}
}

func TestFullTable(t *testing.T) {
	b := start(t, ipmitest.Options{MaxSessions: 1})
	s := ipmi.New(options(password))
	b.Order(ipmitest.Fault{Kind: ipmitest.LostRequest, Skip: 5, Count: -1}) // the logout
	if _, err := s.Power(t.Context(), at(b.Addr())); err != nil {
		t.Fatal(err)
	}
	b.Heal()
	_, err := s.Power(t.Context(), at(b.Addr()))
	var retry *remediate.RetryError
	if !errors.As(err, &retry) || !strings.Contains(err.Error(), "session table is full") {
		t.Errorf("a full table: %v", err)
	}
}

func TestStranger(t *testing.T) {
	reversed := guid
	for i := range reversed {
		reversed[i] = [16]byte{0x32, 0x31, 0x4e, 0x4f, 0xc0, 0xb1, 0x00, 0x80, 0x00, 0x10, 0x35, 0x00, 0x44, 0x45, 0x4c, 0x4c}[i]
	}
	for name, c := range map[string]struct {
		guid [16]byte
		uuid string
		any  bool
		ok   bool
	}{
		"as SMBIOS has it":  {guid, "44454c4c-3500-0010-8000-b1c04f4e3132", false, true},
		"in network order":  {guid, "4c4c4544-0035-1000-8000-b1c04f4e3132", false, true},
		"reversed":          {reversed, "4C4C4544-0035-1000-8000-B1C04F4E3132", false, true},
		"another host":      {guid, "4c4c4544-0035-1000-8000-b1c04f4e3133", false, false},
		"another, allowed":  {guid, "4c4c4544-0035-1000-8000-b1c04f4e3133", true, true},
		"no GUID":           {[16]byte{}, "4c4c4544-0035-1000-8000-b1c04f4e3133", false, true},
		"unknown UUID":      {guid, "", false, true},
		"UUID of a new era": {guid, "odd", false, true},
	} {
		b := start(t, ipmitest.Options{GUID: c.guid})
		o := options(password)
		o.AnyGUID = c.any
		target := at(b.Addr())
		target.Host.UUID = c.uuid
		err := ipmi.New(o).Turn(t.Context(), target, power.Off)
		if c.ok != (err == nil) || err != nil && !strings.Contains(err.Error(), "belongs to another host") {
			t.Errorf("%s: %v", name, err)
		}
		if s := b.State(); s.On == c.ok {
			t.Errorf("%s: the host is on: %v", name, s.On)
		}
	}
}

// TestBadAddress: an address that cannot be is said before anything is sent.
func TestBadAddress(t *testing.T) {
	s := ipmi.New(options(password))
	for _, a := range []string{"", "http://10.1.2.3", "10.1.2.3:0", "10.1.2.3:port", "user:secret@10.1.2.3", "a b"} {
		_, err := s.Power(t.Context(), at(a))
		if err == nil || !strings.Contains(err.Error(), "such as 10.1.2.3") || strings.Contains(err.Error(), "secret") {
			t.Errorf("address %q: %v", a, err)
		}
	}
	_, err := s.Power(t.Context(), at("bmc.invalid"))
	if err == nil || !strings.Contains(err.Error(), "bmc.invalid:623") {
		t.Errorf("a name that is not there: %v", err)
	}
}

// TestLogin: an error of the credentials' source is the call's.
func TestLogin(t *testing.T) {
	o := options(password)
	o.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
		return "", secret.Value{}, errors.New("the vault is sealed")
	}
	if _, err := ipmi.New(o).Power(t.Context(), at("127.0.0.1")); err == nil || !strings.Contains(err.Error(), "vault is sealed") {
		t.Error(err)
	}
}

// TestCancelled: a call whose context ends in the middle logs out and leaves no goroutine.
func TestCancelled(t *testing.T) {
	before := runtime.NumGoroutine()
	b, err := ipmitest.Start(ipmitest.Options{User: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	o := options(password)
	o.Times.Settle, o.Times.Reply = time.Hour, time.Minute
	b.Order(ipmitest.Fault{Kind: ipmitest.LostReply, On: ipmitest.OpCommand, Skip: 1})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- ipmi.New(o).Turn(ctx, at(b.Addr()), power.Off) }()
	if !soon(func() bool { return len(b.Requests()) >= 5 }) {
		t.Fatalf("it did not get that far: %q", b.Requests())
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if !soon(func() bool { return b.State().Sessions == 0 }) {
		t.Error("a session was left")
	}
	b.Close()
	if !soon(func() bool { return runtime.NumGoroutine() <= before }) {
		buf := make([]byte, 1<<16)
		t.Errorf("goroutines were left:\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// between passes datagrams between a client and a BMC, each answer as change makes of it, and
// returns its address.
func between(t *testing.T, b *ipmitest.BMC, change func(answer []byte) [][]byte) string {
	t.Helper()
	front, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	back, err := net.Dial("udp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		p := make([]byte, 2048)
		for {
			n, client, err := front.ReadFrom(p)
			if err != nil {
				return
			}
			back.Write(p[:n])
			back.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) // some requests get none
			if n, err = back.Read(p); err != nil {
				continue
			}
			for _, answer := range change(bytes.Clone(p[:n])) {
				front.WriteTo(answer, client)
			}
		}
	})
	t.Cleanup(func() { front.Close(); passing.Wait(); back.Close() })
	return front.LocalAddr().String()
}

// TestStrayDatagrams: what is not the answer to the last request is not taken for it.
func TestStrayDatagrams(t *testing.T) {
	// Before each answer come a copy of the one before, and an unencrypted command's answer
	// that says the host is off (Get Chassis Status, IPMI 2.0, 28.2).
	off := []byte{6, 0, 0xff, 7, 6, 0, 0xa3, 0xa2, 0xa1, 0xa0, 1, 0, 0, 0, 12, 0, 0x81, 0x04, 0x7b, 0x20, 0x10, 0x01, 0, 0, 0, 0, 0, 0xcf}
	var last []byte
	addr := between(t, start(t, ipmitest.Options{}), func(answer []byte) [][]byte {
		before := last
		last = answer
		return [][]byte{off, before, answer}
	})
	if s, err := ipmi.New(options(password)).Power(t.Context(), at(addr)); err != nil || s != power.On {
		t.Errorf("the host is on; the switch says %s, %v", s, err)
	}
}

// TestGarbledDatagrams: whatever arrives, a call ends, and no answer that was changed on its
// way is believed. The library parses in goroutines of its own, where a panic would be the end
// of the whole program.
func TestGarbledDatagrams(t *testing.T) {
	random, pick := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(3, 4))
	b := start(t, ipmitest.Options{MaxSessions: 1000})
	var hit atomic.Int32 // answers until the one that is garbled
	addr := between(t, b, func(answer []byte) [][]byte {
		if hit.Add(-1) == -1 {
			switch random.IntN(3) {
			case 0:
				answer = answer[:random.IntN(len(answer))]
			case 1:
				answer[random.IntN(len(answer))] ^= byte(1 + random.IntN(255))
			case 2:
				for i := range answer[6:] {
					answer[6+i] = byte(random.Uint32())
				}
			}
		}
		return [][]byte{answer}
	})
	o := options(password)
	o.Times.Reply = 10 * time.Millisecond
	s := ipmi.New(o)
	for range 150 {
		hit.Store(int32(pick.IntN(6)))
		if st, err := s.Power(t.Context(), at(addr)); err == nil && st != power.On {
			t.Errorf("the host is on, and a garbled answer said %s", st)
		}
	}
}

// TestFlags: flags that the BMC keeps for longer than 60 seconds, by UEFI, and nothing after.
func TestFlags(t *testing.T) {
	b := start(t, ipmitest.Options{Off: true})
	s, ctx := ipmi.New(options(password)), t.Context()
	if err := s.Next(ctx, at(b.Addr()), power.Network); err != nil {
		t.Fatal(err)
	}
	want := ipmitest.Flags{Valid: true, UEFI: true, Device: ipmitest.Network}
	if st := b.State(); st.Flags != want || !st.Keep || st.On {
		t.Errorf("after Next(network): %+v", st)
	}
	if err := s.Next(ctx, at(b.Addr()), power.Disk); err != nil {
		t.Fatal(err)
	}
	if st := b.State(); st.Flags.Valid || st.Keep {
		t.Errorf("after Next(disk): %+v", st)
	}
}
