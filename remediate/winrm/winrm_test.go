package winrm_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate/tlspin"
	"unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

const password = "correct horse battery"

// host starts a service that the account ops with our password may use.
func host(t testing.TB, o winrmtest.Options) *winrmtest.Server {
	t.Helper()
	o.User, o.Password, o.Domain = "ops", password, "CORP"
	if o.Handler == nil {
		o.Handler = echo
	}
	s, err := winrmtest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// echo prints its line and its input.
func echo(ctx context.Context, c *winrmtest.Command) int {
	switch {
	case strings.HasPrefix(c.Line, "exit "):
		var code int
		fmt.Sscan(c.Line[5:], &code)
		fmt.Fprint(c.Stderr, "it failed")
		return code
	case strings.HasPrefix(c.Line, "print "):
		var n int
		fmt.Sscan(c.Line[6:], &n)
		io.WriteString(c.Stdout, strings.Repeat("x", n))
	case c.Line == "cat":
		io.Copy(c.Stdout, c.Stdin)
	case c.Line == "wait":
		<-ctx.Done()
	default:
		fmt.Fprint(c.Stdout, c.Line)
	}
	return 0
}

func ntlm() winrm.NTLM { return winrm.NTLM{User: `CORP\ops`, Password: secret.New(password)} }

// options are those that reach s by NTLM, or as change says.
func options(s *winrmtest.Server, change func(*winrm.Options)) winrm.Options {
	o := winrm.Options{
		Address: s.URL(), Auth: ntlm(), TLS: tlspin.Policy{Mode: tlspin.Insecure},
		Times: winrm.Times{Operation: time.Second, Answer: time.Second, Goodbye: time.Second, Connect: 2 * time.Second},
	}
	if change != nil {
		change(&o)
	}
	return o
}

func dial(t testing.TB, o winrm.Options) *winrm.Session {
	t.Helper()
	s, err := winrm.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// run runs a command that must go well and print want.
func run(t testing.TB, s *winrm.Session, line, stdin, want string) {
	t.Helper()
	var in []byte
	if stdin != "" {
		in = []byte(stdin)
	}
	r, err := s.Run(t.Context(), line, in)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if string(r.Stdout) != want || r.Code != 0 {
		t.Fatalf("%s: code %d, printed %d bytes %.60q, want %d bytes %.60q", line, r.Code, len(r.Stdout), r.Stdout, len(want), want)
	}
}

func TestSealed(t *testing.T) {
	s := host(t, winrmtest.Options{})
	c := dial(t, options(s, nil))
	run(t, c, "hello", "", "hello")
	run(t, c, "cat", strings.Repeat("0123456789", 50000), strings.Repeat("0123456789", 50000))
	r, err := c.Run(t.Context(), "exit 3", nil)
	if err != nil || r.Code != 3 || string(r.Stderr) != "it failed" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n := s.Count(); n.Plain != 0 || n.Logins != 1 || n.Accepted != 1 || n.Shells != 0 {
		t.Errorf("one login, one connection, nothing plain, no shell left; but %+v", n)
	}
}
