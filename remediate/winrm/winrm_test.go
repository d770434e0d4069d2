package winrm_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker/rotation"
	"unbrick/inventory/secret"
	"unbrick/remediate/lab/testenv/powershell"
	"unbrick/remediate/tlspin"
	"unbrick/remediate/winrm"
	"unbrick/remediate/winrm/winrmtest"
)

var _ rotation.Runner = winrm.Runner{}

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
	case strings.HasPrefix(c.Line, "print"):
		var n int
		fmt.Sscan(strings.Join(append([]string{strings.TrimPrefix(c.Line, "print")}, c.Args...), " "), &n)
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
		Times: winrm.Times{Operation: 500 * time.Millisecond, Answer: 20 * time.Second, Goodbye: 5 * time.Second, Connect: 10 * time.Second},
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

// TestThroughTLS logs in by every way that needs TLS. NTLM is bound to the certificate, which
// the server checks.
func TestThroughTLS(t *testing.T) {
	s := host(t, winrmtest.Options{TLS: winrmtest.Certificate("127.0.0.1"), Offer: []string{"Negotiate", "Basic"}})
	for name, auth := range map[string]winrm.Auth{"NTLM": ntlm(), "Basic": winrm.Basic{User: "ops", Password: secret.New(password)}} {
		c := dial(t, options(s, func(o *winrm.Options) { o.Auth = auth }))
		run(t, c, "cat", "in", "in")
		if err := c.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := winrm.Dial(t.Context(), options(s, func(o *winrm.Options) { o.TLS = tlspin.Policy{Mode: tlspin.Verify} }))
	if err == nil || s.Count().Accepted != 3 || s.Count().Logins != 1 {
		t.Errorf("a certificate that nobody signed: %v, %+v", err, s.Count())
	}
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"h1", "10.1.2.3", "::1", "[::1]:5986", "h1:5985", "https://h1", "http://h1/wsman", "HTTPS://h1:443/"} {
		if err := winrm.CheckAddress(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", " ", "h1:0", "h1:x", "ftp://h1", "https://u:p@h1", "https://h1/x", "h1 h2", "h1/x", "https://", "h\"1"} {
		if err := winrm.CheckAddress(bad); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestFacts(t *testing.T) {
	boot := time.Date(2024, 7, 19, 6, 10, 0, 0, time.FixedZone("", 7200))
	mode := "0x2"
	s := host(t, winrmtest.Options{
		WMI: func(class string) map[string]any {
			return map[string]any{"Caption": "Windows", "Version": "10.0.17763", "LastBootUpTime": boot}
		},
		Handler: func(_ context.Context, c *winrmtest.Command) int {
			fmt.Fprint(c.Stdout, "HOST1\r\n")
			if !strings.Contains(c.Line, "reg query") || mode == "" {
				return 1
			}
			fmt.Fprintf(c.Stdout, "\r\n    OptionValue    REG_DWORD    %s\r\n", mode)
			return 0
		},
	})
	c := dial(t, options(s, nil))
	for m, want := range map[string]string{"0x2": "network", "0x1": "minimal", "": ""} {
		mode = m
		f, err := c.Facts(t.Context())
		if err != nil || f.SafeMode != want || f.Name != "HOST1" || !f.Boot.Equal(boot) || f.OS != "Windows 10.0.17763" {
			t.Errorf("%q: %+v, %v", mode, f, err)
		}
	}
}

// TestPowerShell follows a script to the host: it stands in no command line.
func TestPowerShell(t *testing.T) {
	const script = "'secret é' # 123456-654321"
	s := host(t, winrmtest.Options{Handler: func(_ context.Context, c *winrmtest.Command) int {
		in, _ := io.ReadAll(c.Stdin)
		text, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(in), "\r\n", ""))
		if err != nil || string(text) != script || c.Line != winrm.PowerShellLine() || strings.Contains(c.Line, "secret") {
			fmt.Fprint(c.Stderr, "key 123456-654321 ", err)
			return 1
		}
		fmt.Fprint(c.Stdout, "\ufeffdone\r\n")
		return 0
	}})
	r := winrm.Runner{Options: func(context.Context, string) (winrm.Options, error) { return options(s, nil), nil }}
	if out, err := r.Run(t.Context(), "h1", script); err != nil || out != "done" {
		t.Errorf("%q, %v", out, err)
	}
	_, coded, _ := strings.Cut(winrm.PowerShellLine(), "-EncodedCommand ")
	b, err := base64.StdEncoding.DecodeString(coded)
	if err != nil {
		t.Fatal(err)
	}
	if err := powershell.Check(strings.ReplaceAll(string(b), "\x00", "")); err != nil {
		t.Error(err) // what reads the script: UTF-16 of ASCII
	}
	_, err = r.Run(t.Context(), "h1", "other")
	if err == nil || strings.Contains(err.Error(), "123456") || !strings.Contains(err.Error(), "key [digits]") {
		t.Error(err)
	}
	if n := s.Count(); n.Shells != 0 {
		t.Errorf("%+v", n)
	}
}
