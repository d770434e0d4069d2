package redfish_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/power"
	"unbrick/remediate/tlspin"
)

// TestErrors makes every failure that a person has to understand at night.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name  string
		opt   redfishtest.Options
		also  func(*rack, *remediate.Target, *redfish.Options)
		enter bool   // at Enter, else at Observe
		want  string // in the error
		retry bool   // whether it may pass by itself
	}{
		{name: "wrong password", want: "credentials were refused", also: func(_ *rack, _ *remediate.Target, o *redfish.Options) {
			o.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
				return "root", secret.New("wrong horse"), nil
			}
		}},
		{name: "no password", want: "file does not exist", also: func(_ *rack, _ *remediate.Target, o *redfish.Options) {
			o.Login = func(context.Context, remediate.Target) (string, secret.Value, error) {
				return "", secret.Value{}, fs.ErrNotExist
			}
		}},
		{name: "another host", want: "belongs to another host", also: func(_ *rack, t *remediate.Target, _ *redfish.Options) {
			t.Host.Serial = "SN2"
		}},
		{name: "nobody there", want: "cannot reach BMC", retry: true, also: func(r *rack, _ *remediate.Target, _ *redfish.Options) {
			r.Close()
		}},
		{name: "no such name", want: "cannot find BMC", also: func(_ *rack, t *remediate.Target, o *redfish.Options) {
			t.Route.Address = "bmc1.invalid"
		}},
		{name: "unknown authority", want: "With tls: pin", also: func(_ *rack, _ *remediate.Target, o *redfish.Options) {
			o.TLS = tlspin.Policy{Mode: tlspin.Verify}
		}},
		{name: "no licence", enter: true, want: "needs a licence", opt: redfishtest.Options{Model: redfishtest.ILO5(), Unlicensed: true}},
		{name: "no slots", want: "it may need a licence", opt: redfishtest.Options{Model: without(redfishtest.XCC(), func(m *redfishtest.Model) { m.Slots = nil })}},
		{name: "browser slots", want: "it may need a licence", opt: redfishtest.Options{Model: without(redfishtest.XCC(), func(m *redfishtest.Model) { m.Slots = m.Slots[:6] })}},
		{name: "slots that refuse", enter: true, want: "does not take the image", opt: redfishtest.Options{Model: without(redfishtest.CiscoUCS(), func(m *redfishtest.Model) { m.Slots = m.Slots[:1] })}},
		{name: "no boot from discs", want: "cannot boot virtual media once", opt: redfishtest.Options{Model: without(redfishtest.Generic(), func(m *redfishtest.Model) { m.Targets = []string{"None", "Pxe", "Hdd"} })}},
		{name: "image not there", enter: true, retry: true, want: "Unable to locate the image", opt: redfishtest.Options{FetchOnInsert: true}},
		{name: "busy", want: "503", retry: true, opt: redfishtest.Options{Faults: []redfishtest.Fault{{Kind: redfishtest.Busy, On: redfishtest.OpSystem}}}},
		{name: "session gone", want: "401", retry: true, opt: redfishtest.Options{Faults: []redfishtest.Fault{{Kind: redfishtest.Unauthorized, On: redfishtest.OpSystem}}}},
		{name: "bad address", want: "want https", also: func(_ *rack, t *remediate.Target, _ *redfish.Options) { t.Route.Address = "http://10.0.0.1" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRack(t, c.opt)
			target, opt := r.target(), options()
			if c.also != nil {
				c.also(r, &target, &opt)
			}
			d := redfish.New(opt)
			_, err := d.Observe(t.Context(), target)
			if c.enter {
				if err != nil {
					t.Fatal(err)
				}
				err = d.Enter(t.Context(), target, remediate.Image{URL: "http://127.0.0.1:1/i/abc/rescue.iso"})
			}
			check(t, err, c.want, c.retry)
			if n := r.State().Sessions; n != 0 {
				t.Errorf("%d sessions left", n)
			}
		})
	}
}

func without(m redfishtest.Model, change func(*redfishtest.Model)) redfishtest.Model {
	change(&m)
	return m
}

func check(t *testing.T, err error, want string, retry bool) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("error %v, want %q", err, want)
	}
	var r *remediate.RetryError
	if got := errors.As(err, &r); got != retry {
		t.Errorf("may pass by itself: %v, want %v: %v", got, retry, err)
	}
	if strings.Contains(err.Error(), password) || strings.Contains(err.Error(), "horse") {
		t.Errorf("a password is in the error: %v", err)
	}
}

// TestRetryAfter passes on how long a BMC asks to wait.
func TestRetryAfter(t *testing.T) {
	r := newRack(t, redfishtest.Options{Faults: []redfishtest.Fault{{Kind: redfishtest.Busy, Delay: 7 * time.Second, On: redfishtest.OpReset}}})
	err := redfish.New(options()).Enter(t.Context(), r.target(), remediate.Image{URL: image})
	var retry *remediate.RetryError
	if !errors.As(err, &retry) || retry.After != 7*time.Second {
		t.Errorf("%v: %+v", err, retry)
	}
}

// TestSessionsFull works without a session while others hold them all.
func TestSessionsFull(t *testing.T) {
	r := newRack(t, redfishtest.Options{Model: redfishtest.IDRAC9()})
	r.FillSessions()
	n := r.State().Sessions
	if _, err := redfish.New(options()).Observe(t.Context(), r.target()); err != nil {
		t.Fatal(err)
	}
	if r.State().Sessions != n {
		t.Errorf("%d sessions before, %d after", n, r.State().Sessions)
	}
}

// Records are pins in memory.
type records struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (r *records) Create(_ context.Context, key string, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m[key] != nil {
		return fs.ErrExist
	}
	r.m[key] = value
	return nil
}

func (r *records) Load(_ context.Context, key string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m[key] == nil {
		return nil, fs.ErrNotExist
	}
	return r.m[key], nil
}

// TestCertificateChange refuses a BMC with another key before it sees a credential.
func TestCertificateChange(t *testing.T) {
	r := newRack(t, redfishtest.Options{})
	o := options()
	o.TLS = tlspin.Policy{Records: &records{m: map[string][]byte{}}}
	d := redfish.New(o)
	if _, err := d.Observe(t.Context(), r.target()); err != nil {
		t.Fatal(err)
	}
	n := len(r.Requests())
	if err := r.ChangeCertificate(); err != nil {
		t.Fatal(err)
	}
	_, err := d.Observe(t.Context(), r.target())
	check(t, err, "has changed", false)
	if len(r.Requests()) != n {
		t.Errorf("a BMC with another key got %q", r.Requests()[n:])
	}
}

// TestNotRedfish calls what listens on a BMC's port and is none.
func TestNotRedfish(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) { // a service that repeats what it is sent
		b, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodGet {
			fmt.Fprint(w, `{"Links":{"Sessions":{"@odata.id":"/login"}}}`)
			return
		}
		http.Error(w, "cannot understand: "+string(b), http.StatusBadRequest)
	}
	elsewhere := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://192.0.2.1/redfish/v1/", http.StatusTemporaryRedirect)
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"404":        {http.NotFound, "not a Redfish service"},
		"a web page": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "not as a Redfish service"},
		"an echo":    {echo, "400"},
		"redirect":   {elsewhere, "another host"},
	} {
		s := httptest.NewTLSServer(c.handler)
		_, err := redfish.New(options()).Observe(t.Context(), at(s.URL))
		s.Close()
		t.Run(name, func(t *testing.T) { check(t, err, c.want, false) })
	}
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	_, err := redfish.New(options()).Observe(t.Context(), at(strings.Replace(s.URL, "http:", "https:", 1)))
	check(t, err, "without TLS", false)
}

// TestAnotherHost: a BMC that contradicts the inventory in one thing is another host's, whatever
// else agrees, and nothing is done by it.
func TestAnotherHost(t *testing.T) {
	for name, h := range map[string]inventory.Host{
		"our serial, another UUID": {Serial: "SN1", UUID: "4c4c4544-0035-1000-8000-b1c04f4e9999"},
		"our UUID, another serial": {Serial: "SN2", UUID: "4c4c4544-0035-1000-8000-b1c04f4e3132"},
	} {
		r := newRack(t, redfishtest.Options{})
		target := r.target()
		h.Name = "h1"
		target.Host = h
		d := redfish.New(options())
		_, err := d.Observe(t.Context(), target)
		for what, err := range map[string]error{
			"observe": err, "enter": d.Enter(t.Context(), target, remediate.Image{URL: image}), "leave": d.Leave(t.Context(), target, remediate.Posture{}),
			"off": d.Turn(t.Context(), target, power.Off), "network": d.Next(t.Context(), target, power.Network),
		} {
			if err == nil || !strings.Contains(err.Error(), "belongs to another host: it has the") {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		if did := r.did(); len(did) > 0 {
			t.Errorf("%s: did %q", name, did)
		}
	}
}

// TestSeveralSystems picks the host's own among those of a chassis, also where all have one UUID.
func TestSeveralSystems(t *testing.T) {
	const shared = "4c4c4544-0035-1000-8000-b1c04f4e3132"
	a := redfishtest.New(redfishtest.Options{User: "root", Password: password, Serial: "SN1", UUID: shared, Model: without(redfishtest.Generic(), func(m *redfishtest.Model) { m.SystemID = "1" })})
	b := redfishtest.New(redfishtest.Options{User: "root", Password: password, Serial: "SN2", UUID: shared, Model: without(redfishtest.Generic(), func(m *redfishtest.Model) { m.SystemID = "2"; m.NoSessions = true })})
	chassis := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/redfish/v1/Systems":
			fmt.Fprint(w, `{"Members":[{"@odata.id":"/redfish/v1/Systems/1"},{"@odata.id":"/redfish/v1/Systems/2"}]}`)
		case strings.HasPrefix(r.URL.Path, "/redfish/v1/Systems/1"):
			a.Handler().ServeHTTP(w, r)
		default:
			b.Handler().ServeHTTP(w, r)
		}
	}
	s := httptest.NewTLSServer(http.HandlerFunc(chassis))
	defer s.Close()
	d := redfish.New(options())
	for _, c := range []struct{ serial, uuid, path, want string }{
		{"SN2", "", "", ""},
		{"SN3", "", "", "manages 2 systems"},
		{"SN3", shared, "", "none is this host"},
		{"", "", "", "manages 2 systems"},
		{"", shared, "", "/redfish/v1/Systems/1 and /redfish/v1/Systems/2 agree"},
		{"", "", "/redfish/v1/Systems/1", ""},
		{"", shared, "/redfish/v1/Systems/1", ""},
		{"SN2", "", "/redfish/v1/Systems/1", "belongs to another host"},
		{"SN2", shared, "/redfish/v1/Systems/1", "belongs to another host"},
	} {
		target := at(s.URL + c.path)
		target.Host.Serial, target.Host.UUID = c.serial, c.uuid
		_, err := d.Observe(t.Context(), target)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("serial %q, UUID %q, path %q: %v, want %q", c.serial, c.uuid, c.path, err, c.want)
		}
	}
	target := at(s.URL)
	target.Host.Serial, target.Host.UUID = "SN2", shared
	if err := d.Turn(t.Context(), target, power.Off); err != nil {
		t.Fatal(err)
	}
	if one, two := a.State().Power, b.State().Power; one != "On" || two != "Off" {
		t.Errorf("after the second was switched off the first is %s and it is %s", one, two)
	}
}

// TestSilentPort connects to what accepts and says nothing, not even TLS.
func TestSilentPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = redfish.New(options()).Observe(ctx, at("https://"+l.Addr().String()))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
