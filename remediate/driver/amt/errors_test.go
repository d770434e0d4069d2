package amt_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/amt"
	"unbrick/remediate/driver/amt/amttest"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/power"
	"unbrick/remediate/rescue"
	"unbrick/remediate/tlspin"
)

// root returns a certificate of an authority.
func root(t *testing.T) *x509.Certificate {
	t.Helper()
	c, err := amttest.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestErrors makes every failure that a person has to understand at night. None of them may
// have touched the host.
func TestErrors(t *testing.T) {
	authority := root(t)
	boots := func(url string) func(*desk, *remediate.Target, *amt.Options) {
		return func(_ *desk, _ *remediate.Target, o *amt.Options) {
			o.BootURL = func(remediate.Image) (string, error) { return url, nil }
		}
	}
	orders := func(on string, k amttest.Kind) amttest.Options {
		return amttest.Options{Faults: []amttest.Fault{{Kind: k, On: on}}}
	}
	for _, c := range []struct {
		name  string
		opt   amttest.Options
		also  func(*desk, *remediate.Target, *amt.Options)
		enter bool   // at Enter, else at Observe
		want  string // in the error; empty: none
		retry bool   // whether it may pass by itself
	}{
		{name: "well"},
		{name: "wrong password", want: "credentials were refused", also: func(_ *desk, _ *remediate.Target, o *amt.Options) {
			o.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
				return "admin", secret.New("Wrong-horse-1"), nil
			}
		}},
		{name: "no password", want: "file does not exist", also: func(_ *desk, _ *remediate.Target, o *amt.Options) {
			o.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
				return "", secret.Value{}, fs.ErrNotExist
			}
		}},
		{name: "another UUID", want: "belongs to another host", also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Host.UUID = "4c4c4544-0035-1000-8000-b1c04f4e3133"
		}},
		{name: "another serial", want: "belongs to another host", also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Host.UUID, t.Host.Serial = "", "SN2"
		}},
		{name: "the serial agrees, the UUID is another", want: "it has the UUID", also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Host.UUID, t.Host.Serial = "4c4c4544-0035-1000-8000-b1c04f4e3133", "sn1"
		}},
		{name: "the UUID agrees, the serial is another", want: "it has the serial number", also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Host.UUID, t.Host.Serial = "4c4c4544-0035-1000-8000-b1c04f4e3132", "SN2"
		}},
		{name: "the serial agrees, the UUID is nobody's", also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Host.UUID, t.Host.Serial = "03000200-0400-0500-0006-000700080009", "sn1"
		}},
		{name: "the UUID of the other order", also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Host.UUID = "44454c4c-3500-0010-8000-b1c04f4e3132"
		}},
		{name: "nobody there", want: "cannot reach AMT", retry: true, also: func(d *desk, _ *remediate.Target, _ *amt.Options) { d.Close() }},
		{name: "no such name", want: "no such name in DNS", also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Route.Address = "desk1.invalid"
		}},
		{name: "unknown authority", want: "With tls: pin", also: func(_ *desk, _ *remediate.Target, o *amt.Options) {
			o.TLS = tlspin.Policy{Mode: tlspin.Verify}
		}},
		{name: "client control mode", want: "is in client control mode", opt: amttest.Options{ClientControl: true}},
		{name: "client control mode, consented", opt: amttest.Options{ClientControl: true, Consented: true}},
		{name: "consent", want: "consent to everything", opt: amttest.Options{AskConsent: true}},
		{name: "old", want: "is version 12.0.45 and cannot boot from a URL", opt: amttest.Options{Version: "12.0.45"}},
		{name: "off in the BIOS", want: "switched off in the host's BIOS", opt: amttest.Options{NoHTTPSBoot: true}},
		{name: "WinRE off in the BIOS", want: "may not boot the recovery environment", opt: amttest.Options{NoWinRE: true}, also: func(_ *desk, t *remediate.Target, _ *amt.Options) {
			t.Route.Address = "https://" + t.Route.Address + "/winre"
		}},
		{name: "root unknown", want: `lacks "CN=AMT,O=self-signed"`, opt: amttest.Options{Roots: []*x509.Certificate{root(t)}}, also: func(_ *desk, _ *remediate.Target, o *amt.Options) {
			o.Root = authority
		}},
		{name: "root known", opt: amttest.Options{PullLimit: 1, Roots: []*x509.Certificate{root(t), authority}}, also: func(_ *desk, _ *remediate.Target, o *amt.Options) {
			o.Root = authority
		}},
		{name: "no URL", want: "no https address is set up", also: func(_ *desk, _ *remediate.Target, o *amt.Options) { o.BootURL = nil }},
		{name: "no records", want: "nowhere to record", also: func(_ *desk, _ *remediate.Target, o *amt.Options) { o.Records = nil }},
		{name: "an ISO", enter: true, want: "no ISO", also: boots("https://192.0.2.7/i/abc/rescue.iso")},
		{name: "plain HTTP", enter: true, want: "not https", also: boots("http://192.0.2.7/i/abc/shimx64.efi")},
		{name: "a long URL", enter: true, want: "AMT takes 300", also: boots("https://192.0.2.7/" + strings.Repeat("a", 300) + ".efi")},
		{name: "busy", want: "503", retry: true, opt: orders(amttest.OpPull, amttest.Busy)},
		{name: "internal error", want: "InternalError", retry: true, opt: orders(amttest.OpGet, amttest.Refused)},
		{name: "no longer logged in", want: "no longer takes credentials", retry: true, opt: amttest.Options{Faults: []amttest.Fault{{Kind: amttest.Unauthorized, On: amttest.OpPull, Count: 2}}}},
		{name: "an account of few rights", want: "this account may not do that", opt: orders(amttest.OpPull, amttest.Forbidden)},
		{name: "bad address", want: "want https", also: func(_ *desk, t *remediate.Target, _ *amt.Options) { t.Route.Address = "http://10.0.0.1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t, c.opt)
			target, opt := d.target(), d.options()
			if c.also != nil {
				c.also(d, &target, &opt)
			}
			driver := amt.New(opt)
			_, err := driver.Observe(t.Context(), target)
			if c.enter {
				if err != nil {
					t.Fatal(err)
				}
				err = driver.Enter(t.Context(), target, remediate.Image{URL: image})
			}
			check(t, err, c.want, c.retry)
			if did := d.did(); len(did) > 0 {
				t.Errorf("the host was touched: %q", did)
			}
		})
	}
}

func check(t *testing.T, err error, want string, retry bool) {
	t.Helper()
	var again *remediate.RetryError
	switch {
	case want == "" && err == nil:
		return
	case want == "" || err == nil || !strings.Contains(err.Error(), want):
		t.Fatalf("want %q, got %v", want, err)
	case errors.As(err, &again) != retry:
		t.Errorf("may pass by itself: %t, for %v", !retry, err)
	}
	if text := err.Error(); strings.Contains(text, password) || strings.Contains(text, "horse") {
		t.Errorf("the password is in %q", text)
	}
}

// TestNotAMT talks to servers that are something else.
func TestNotAMT(t *testing.T) {
	web := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("<html>hello</html>")) })
	basic := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Negotiate")
		w.WriteHeader(http.StatusUnauthorized)
	})
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope"><e:Body><e:Fault><e:Reason><e:Text>no: ` + password + `</e:Text></e:Reason></e:Fault></e:Body></e:Envelope>`))
	})
	elsewhere := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://192.0.2.1/wsman", http.StatusTemporaryRedirect)
	})
	for _, c := range []struct {
		name    string
		handler http.Handler
		plain   bool
		want    string
	}{
		{"a web server", web, false, "not as AMT does"},
		{"no page", http.NotFoundHandler(), false, "not as AMT does"},
		{"Kerberos alone", basic, false, "does not offer digest authentication"},
		{"no TLS", web, true, "answers without TLS"},
		{"a password in a fault", echo, false, "no: [secret]"},
		{"a redirection", elsewhere, false, "307"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(c.handler)
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			if c.plain {
				s.Start()
			} else {
				s.StartTLS()
			}
			defer s.Close()
			_, address, _ := strings.Cut(s.URL, "://")
			_, err := amt.New((&desk{}).options()).Power(t.Context(), at(address))
			check(t, err, c.want, false)
		})
	}
}

// TestPin records the key of AMT at first sight, and refuses another before it sends anything.
func TestPin(t *testing.T) {
	d := newDesk(t, amttest.Options{})
	opt := d.options()
	opt.TLS = tlspin.Policy{Records: &rescue.MemRecords{}}
	driver := amt.New(opt)
	for range 2 {
		if _, err := driver.Power(t.Context(), d.target()); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.ChangeCertificate(); err != nil {
		t.Fatal(err)
	}
	n := len(d.Requests())
	_, err := driver.Power(t.Context(), d.target())
	check(t, err, "has changed", false)
	if len(d.Requests()) != n {
		t.Error("something was sent")
	}
}

// TestClientControl: power needs no consent, what is booted does.
func TestClientControl(t *testing.T) {
	d := newDesk(t, amttest.Options{ClientControl: true})
	driver := amt.New(d.options())
	for _, s := range []power.State{power.Off, power.On} {
		if err := driver.Turn(t.Context(), d.target(), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := driver.Next(t.Context(), d.target(), power.Disk); err != nil {
		t.Fatal(err)
	}
	check(t, driver.Next(t.Context(), d.target(), power.Network), "has to read out a code", false)
}

// TestNoPXE has a BIOS that cannot boot from the network.
func TestNoPXE(t *testing.T) {
	d := newDesk(t, amttest.Options{NoPXE: true})
	check(t, amt.New(d.options()).Next(t.Context(), d.target(), power.Network), "its BIOS does not offer it", false)
}

// TestUp leaves a host alone that came up by itself while it was entered, also when Leave is
// called again later and nobody says so any more.
func TestUp(t *testing.T) {
	d := newDesk(t, amttest.Options{})
	driver := amt.New(d.options())
	target := d.target()
	if err := driver.Enter(t.Context(), target, remediate.Image{URL: image}); err != nil {
		t.Fatal(err)
	}
	d.Reset() // out of the rescue system, into Windows
	n := len(d.did())
	target.Up = true
	for range 2 {
		if err := driver.Leave(t.Context(), target, remediate.Posture{}); err != nil {
			t.Fatal(err)
		}
		target.Up = false
	}
	if did := d.did()[n:]; len(did) > 0 {
		t.Errorf("Windows was up, and this was done: %q", did)
	}
}

// TestAttempts enters the same host in the next attempt: what is recorded is of one attempt.
func TestAttempts(t *testing.T) {
	d := newDesk(t, amttest.Options{})
	driver := amt.New(d.options())
	for attempt := 1; attempt <= 2; attempt++ {
		target := d.target()
		target.Attempt = attempt
		if err := driver.Enter(t.Context(), target, remediate.Image{URL: image}); err != nil {
			t.Fatal(err)
		}
		if err := driver.Leave(t.Context(), target, remediate.Posture{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, b := range d.State().Boots {
		got = append(got, b.Source)
	}
	if want := "https disk https disk"; strings.Join(got, " ") != want || d.left() != "" {
		t.Errorf("the host booted %q, %s", got, d.left())
	}
}

// TestIgnored has a BIOS that boots the disk whatever AMT told it: nothing can show that but the
// rescue system that does not report, and the host is put back.
func TestIgnored(t *testing.T) {
	d := newDesk(t, amttest.Options{Faults: []amttest.Fault{{Kind: amttest.Ignored}}})
	driver := amt.New(d.options())
	if err := driver.Enter(t.Context(), d.target(), remediate.Image{URL: image}); err != nil {
		t.Fatal(err)
	}
	if err := driver.Leave(t.Context(), d.target(), remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	if s := d.State(); len(s.Boots) != 2 || s.Boots[0].Source != amttest.Disk || d.left() != "" {
		t.Errorf("the host booted %v, left %q", s.Boots, d.left())
	}
}

// TestOneAtATime calls AMT from several sides: their settings are not mixed.
func TestOneAtATime(t *testing.T) {
	d := newDesk(t, amttest.Options{})
	driver := amt.New(d.options())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := driver.Next(t.Context(), d.target(), power.Network); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	one := "order none, settings 0, role next single use, order " + amttest.SourcePXE
	if got := strings.Join(d.did(), ", "); got != strings.TrimSuffix(strings.Repeat(one+", ", 4), ", ") {
		t.Errorf("this was done: %s", got)
	}
}

// TestNothingStays ends calls in the middle: no goroutine is left of them.
func TestNothingStays(t *testing.T) {
	d := newDesk(t, amttest.Options{Faults: []amttest.Fault{{Kind: amttest.Hang, On: amttest.OpPull, Count: -1}}})
	driver := amt.New(d.options())
	before := runtime.NumGoroutine()
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := driver.Power(ctx, d.target()); err == nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AMT that does not answer: %v", err)
		}
		cancel()
	}
	d.Close()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines before, %d after", before, n)
	}
}

// TestRecordsDown has a state that cannot be written: a host whose start cannot be recorded is
// not started.
func TestRecordsDown(t *testing.T) {
	d := newDesk(t, amttest.Options{})
	opt := d.options()
	opt.Records = full{}
	err := amt.New(opt).Enter(t.Context(), d.target(), remediate.Image{URL: image})
	check(t, err, "cannot record that the host was started", false)
	if s := d.State(); s.On || len(s.Boots) > 0 {
		t.Errorf("the host was started: %v", s.Boots)
	}
	opt.Records = &d.records
	if err := amt.New(opt).Leave(t.Context(), d.target(), remediate.Posture{}); err != nil || d.left() != "" {
		t.Errorf("left %q: %v", d.left(), err)
	}
	if s := d.State(); len(s.Boots) != 1 || s.Boots[0].Source != drivertest.Disk {
		t.Errorf("the host booted %v", s.Boots)
	}
}

type full struct{}

func (full) Create(context.Context, string, []byte) error { return errors.New("no space left") }

func (full) Load(context.Context, string) ([]byte, error) { return nil, fs.ErrNotExist }
