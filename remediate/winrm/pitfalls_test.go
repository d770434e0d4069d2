package winrm_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

// The tests here are named for what the libraries for WinRM get wrong, in the order of the
// project's survey of them.

// within makes sure that call returns an error, and in time: well before the test's own limit.
func within(t *testing.T, limit time.Duration, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("it went well")
		}
		return err
	case <-time.After(limit + 10*time.Second):
		t.Fatalf("it had %v and did not return", limit)
	}
	return nil
}

// TestPitfall01HTTP500IsAnError: a shell that is gone does not make Receive spin.
func TestPitfall01HTTP500IsAnError(t *testing.T) {
	s := host(t, winrmtest.Options{})
	c := dial(t, options(s, nil))
	s.Order(winrmtest.Fault{Kind: winrmtest.Rebooted, Op: winrmtest.Receive})
	_, err := c.Run(t.Context(), "wait", nil)
	var fault *winrm.FaultError
	if !errors.As(err, &fault) || !fault.ShellGone() {
		t.Errorf("the shell is gone, and Run says: %v", err)
	}
	if n := len(s.Requests()); n > 6 {
		t.Errorf("%d requests: %v", n, s.Requests())
	}
	d := dial(t, options(s, nil))
	s.Order(winrmtest.Fault{Kind: winrmtest.Status500, Op: winrmtest.Receive})
	if _, err := d.Run(t.Context(), "hello", nil); err == nil {
		t.Error("status 500 without a fault passed as an answer")
	}
}

// TestPitfall02DeadlinesReachTheConnection: nothing outlives its context.
func TestPitfall02DeadlinesReachTheConnection(t *testing.T) {
	s := host(t, winrmtest.Options{MaxWait: time.Hour})
	long := func(o *winrm.Options) { o.Times.Operation, o.Times.Answer = time.Hour, time.Hour }
	c := dial(t, options(s, long))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := within(t, time.Second, func() error { _, err := c.Run(ctx, "wait", nil); return err }); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	for _, op := range []winrmtest.Op{winrmtest.Login, winrmtest.Finish, winrmtest.Create} {
		s.Order(winrmtest.Fault{Kind: winrmtest.Hang, Op: op})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		within(t, time.Second, func() error { _, err := winrm.Dial(ctx, options(s, long)); return err })
		cancel()
	}
	c.Close()
	if n := s.Count().Shells; n != 0 {
		t.Errorf("%d shells are left of commands that were given up", n)
	}
}

// TestPitfall03DeadMidCommand: a host that dies in the middle of a command is an error, once.
func TestPitfall03DeadMidCommand(t *testing.T) {
	for _, kind := range []winrmtest.Kind{winrmtest.Crash, winrmtest.CrashBefore, winrmtest.Hang, winrmtest.DropAfter, winrmtest.Garbage, winrmtest.Endless} {
		s := host(t, winrmtest.Options{})
		c := dial(t, options(s, func(o *winrm.Options) {
			if kind == winrmtest.Hang {
				o.Times.Answer = 100 * time.Millisecond
			}
		}))
		n := len(s.Requests())
		s.Order(winrmtest.Fault{Kind: kind, Op: winrmtest.Receive, Count: -1})
		err := within(t, 5*time.Second, func() error { _, err := c.Run(t.Context(), "wait", nil); return err })
		var lost *winrm.LostError
		if !errors.As(err, &lost) {
			t.Errorf("%s: %v", kind, err)
		}
		if more := len(s.Requests()) - n; more > 2 {
			t.Errorf("%s: %d requests after it", kind, more)
		}
	}
}

// TestPitfall04NoResultBesideAnError: exit code 0 never comes with an error.
func TestPitfall04NoResultBesideAnError(t *testing.T) {
	s := host(t, winrmtest.Options{})
	c := dial(t, options(s, nil))
	s.Order(winrmtest.Fault{Kind: winrmtest.Unauthorized, Op: winrmtest.Receive})
	r, err := c.Run(t.Context(), "hello", nil)
	var login *winrm.LoginError
	if !errors.As(err, &login) || r.Stdout != nil {
		t.Errorf("401 in the middle: %+v, %v", r, err)
	}
	if _, err := c.Run(t.Context(), "hello", nil); err == nil {
		t.Error("the session went on after it")
	}
}

// TestPitfall05NoFallBackToBasic: a server that offers only Basic gets no password.
func TestPitfall05NoFallBackToBasic(t *testing.T) {
	for name, conf := range map[string]*tls.Config{"http": nil, "https": winrmtest.Certificate("127.0.0.1")} {
		s := host(t, winrmtest.Options{Offer: []string{"Basic"}, TLS: conf, Plain: true})
		_, err := winrm.Dial(t.Context(), options(s, nil))
		if err == nil || !strings.Contains(err.Error(), "it offers Basic and we may use NTLM alone") {
			t.Errorf("%s: %v", name, err)
		}
		if n := s.Count(); n.Plain != 0 || n.Shells != 0 {
			t.Errorf("%s: %+v", name, n)
		}
	}
	s := host(t, winrmtest.Options{Offer: []string{"Basic"}, Plain: true})
	_, err := winrm.Dial(t.Context(), options(s, func(o *winrm.Options) {
		o.Auth = winrm.Basic{User: "ops", Password: secret.New(password)}
	}))
	if err == nil || s.Count().Accepted != 0 {
		t.Errorf("Basic over http: %v, %+v", err, s.Count())
	}
}

// TestPitfall06NeverPlain: what is not sealed is neither sent nor believed.
func TestPitfall06NeverPlain(t *testing.T) {
	for name, o := range map[string]winrmtest.Options{
		"seals nothing": {NoSeal: true, Plain: true},
		"no NTLM":       {Offer: []string{}, Plain: true},
	} {
		s := host(t, o)
		if _, err := winrm.Dial(t.Context(), options(s, nil)); err == nil {
			t.Errorf("%s: it went well", name)
		}
		if n := s.Count(); n.Plain != 0 {
			t.Errorf("%s: %+v", name, n)
		}
	}
	s := host(t, winrmtest.Options{Plain: true})
	s.Order(winrmtest.Fault{Kind: winrmtest.DropBefore, Op: winrmtest.Login})
	if _, err := winrm.Dial(t.Context(), options(s, nil)); err == nil || s.Count().Plain != 0 {
		t.Errorf("a login that broke: %v, %+v", err, s.Count())
	}
	for _, op := range []winrmtest.Op{winrmtest.Execute, winrmtest.Receive} {
		c := dial(t, options(s, nil))
		s.Order(winrmtest.Fault{Kind: winrmtest.InPlain, Op: op})
		if _, err := c.Run(t.Context(), "hello", nil); err == nil || !strings.Contains(err.Error(), "not sealed") {
			t.Errorf("an answer in plain text to %s: %v", op, err)
		}
	}
}

// TestPitfall07OneLoginPerConnection: many commands, one login; many sessions at a time.
func TestPitfall07OneLoginPerConnection(t *testing.T) {
	s := host(t, winrmtest.Options{})
	const sessions = 8
	done := make(chan error, sessions)
	for range sessions {
		go func() {
			c, err := winrm.Dial(t.Context(), options(s, nil))
			if err == nil {
				defer c.Close()
				for range 5 {
					if _, err = c.Run(t.Context(), "cat", []byte("in")); err != nil {
						break
					}
				}
			}
			done <- err
		}()
	}
	for range sessions {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := s.Count(); n.Accepted != sessions || n.Logins != sessions {
		t.Errorf("%d sessions: %+v", sessions, n)
	}
}

// TestPitfall09DomainsAndNames: the domain is the user's own, not the server's.
func TestPitfall09DomainsAndNames(t *testing.T) {
	s := host(t, winrmtest.Options{})
	for user, admitted := range map[string]bool{`CORP\ops`: true, `corp\OPS`: true, "ops": true, `.\ops`: true, "ops@unbrick.test": true, `OTHER\ops`: false, "other": false} {
		c, err := winrm.Dial(t.Context(), options(s, func(o *winrm.Options) { o.Auth = winrm.NTLM{User: user, Password: secret.New(password)} }))
		var login *winrm.LoginError
		if admitted != (err == nil) || !admitted && !errors.As(err, &login) {
			t.Errorf("%s: %v", user, err)
		}
		if err == nil {
			c.Close()
		} else if strings.Contains(err.Error(), password) {
			t.Error("the error has the password")
		}
	}
}

// TestPitfall10NothingStays: no goroutine, connection or shell, on either side, however it ended.
func TestPitfall10NothingStays(t *testing.T) {
	s := host(t, winrmtest.Options{})
	before := runtime.NumGoroutine()
	for i := range 30 {
		c, err := winrm.Dial(t.Context(), options(s, nil))
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 1:
			s.Order(winrmtest.Fault{Kind: winrmtest.DropAfter, Op: winrmtest.Receive})
		case 2:
			s.Order(winrmtest.Fault{Kind: winrmtest.Status500, Op: winrmtest.Receive})
		}
		c.Run(t.Context(), "hello", nil)
		c.Close()
	}
	eventually(t, func() bool {
		n := s.Count()
		return n.Connections == 0 && n.Shells == 0 && runtime.NumGoroutine() <= before
	}, func() { t.Errorf("%+v, %d goroutines before and %d now", s.Count(), before, runtime.NumGoroutine()) })
}

func eventually(t *testing.T, ok func() bool, complain func()) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			complain()
			return
		}
	}
}

// TestPitfall11LargeInput: no message is larger than what hosts take.
func TestPitfall11LargeInput(t *testing.T) {
	s := host(t, winrmtest.Options{})
	c := dial(t, options(s, nil))
	for _, n := range []int{1, 64 << 10, 64<<10 + 1, 152600, 400000} {
		text := strings.Repeat("y", n)
		run(t, c, "cat", text, text)
	}
	r, err := c.Run(t.Context(), "cat", []byte{})
	if err != nil || len(r.Stdout) != 0 {
		t.Errorf("empty input that ends: %v", err)
	}
	run(t, c, "print 300000", "", strings.Repeat("x", 300000))
}

// TestPitfall12CDATA: a command stays in its element, and one that is too long is not sent.
func TestPitfall12CDATA(t *testing.T) {
	s := host(t, winrmtest.Options{})
	c := dial(t, options(s, nil))
	for _, line := range []string{`echo ]]> & <x>`, `]]></rsp:Command><rsp:Command>rm`, `a]]]]>>b`, `"%PATH%" ^ é 漢`} {
		run(t, c, line, "", line)
	}
	if _, err := c.Run(t.Context(), strings.Repeat("z", 8100), nil); err == nil || !strings.Contains(err.Error(), "8,191") {
		t.Error(err)
	}
	run(t, c, "hello", "", "hello")
	if _, err := c.Run(t.Context(), "two\nlines", nil); err == nil {
		t.Error("two lines went as one command")
	}
}

// TestPitfall13CertificatesWithTLS12: a client certificate logs in, and caps TLS.
func TestPitfall13CertificatesWithTLS12(t *testing.T) {
	cert := winrmtest.ClientCertificate("ops")
	s := host(t, winrmtest.Options{TLS: winrmtest.Certificate("127.0.0.1"), ClientCert: cert.Leaf})
	var version uint16
	with := func(c tls.Certificate) winrm.Options {
		return options(s, func(o *winrm.Options) { o.Auth = winrm.Certificate{Certificate: c} })
	}
	s13 := winrmtest.Certificate("127.0.0.1")
	s13.VerifyConnection = func(st tls.ConnectionState) error { version = st.Version; return nil }
	probe := host(t, winrmtest.Options{TLS: s13, ClientCert: cert.Leaf})
	o := with(cert)
	o.Address = probe.URL()
	run(t, dial(t, o), "hello", "", "hello")
	if version != tls.VersionTLS12 {
		t.Errorf("TLS %x", version)
	}
	run(t, dial(t, with(cert)), "hello", "", "hello")
	var login *winrm.LoginError
	if _, err := winrm.Dial(t.Context(), with(winrmtest.ClientCertificate("ops"))); !errors.As(err, &login) {
		t.Errorf("another certificate: %v", err)
	}
}

// TestPitfall14OneShellForAll: commands share a shell, and a full host says so.
func TestPitfall14OneShellForAll(t *testing.T) {
	s := host(t, winrmtest.Options{MaxShells: 1})
	c := dial(t, options(s, nil))
	for range 5 {
		run(t, c, "hello", "", "hello")
	}
	_, err := winrm.Dial(t.Context(), options(s, nil))
	var fault *winrm.FaultError
	if !errors.As(err, &fault) || !fault.Busy() {
		t.Errorf("no room for another shell: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	created := 0
	for _, op := range s.Requests() {
		if op == winrmtest.Create {
			created++
		}
	}
	if created != 2 || s.Count().Shells != 0 {
		t.Errorf("%d shells were made, %d are left", created, s.Count().Shells)
	}
}

// silent accepts connections and says nothing.
func silent(t *testing.T) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lis.Close() })
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	return lis.Addr().String()
}

func TestDeadHosts(t *testing.T) {
	for _, address := range []string{"http://" + silent(t), "https://" + silent(t), "http://127.0.0.1:1"} {
		o := winrm.Options{Address: address, Auth: ntlm(), Times: winrm.Times{Connect: 100 * time.Millisecond, Operation: 50 * time.Millisecond, Answer: 50 * time.Millisecond}}
		o.TLS.Mode = "insecure"
		err := within(t, time.Second, func() error { _, err := winrm.Dial(t.Context(), o); return err })
		var lost *winrm.LostError
		if !errors.As(err, &lost) {
			t.Errorf("%s: %v", address, err)
		}
	}
}
