package tlspin_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/tlspin"
)

// Memory keeps records. blind makes every Load miss, as if all came at once.
type memory struct {
	mu    sync.Mutex
	m     map[string][]byte
	blind int
	err   error
}

func (r *memory) Create(_ context.Context, key string, value []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m[key] != nil {
		return fmt.Errorf("%s: %w", key, fs.ErrExist)
	}
	r.m[key] = value
	return r.err
}

func (r *memory) Load(_ context.Context, key string) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m[key] == nil || r.blind > 0 {
		r.blind--
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return r.m[key], nil
}

// serve answers handshakes at an address with whatever certificate is current.
func serve(t *testing.T) (addr string, use func(*tls.Certificate)) {
	t.Helper()
	var mu sync.Mutex
	var cert *tls.Certificate
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		return cert, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.(*tls.Conn).Handshake(); c.Close() })
		}
	})
	return l.Addr().String(), func(c *tls.Certificate) { mu.Lock(); cert = c; mu.Unlock() }
}

func newCert(t *testing.T) *tls.Certificate {
	t.Helper()
	c, err := redfishtest.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func dial(t *testing.T, p tlspin.Policy, addr string) error {
	t.Helper()
	conf, err := p.Config(t.Context(), addr)
	if err != nil {
		return err
	}
	d := tls.Dialer{Config: conf, NetDialer: &net.Dialer{}}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err == nil {
		c.Close()
	}
	return err
}

func TestPin(t *testing.T) {
	addr, use := serve(t)
	rec := &memory{m: map[string][]byte{}}
	p := tlspin.Policy{Records: rec, Forget: "run unpin"}
	first, second := newCert(t), newCert(t)

	use(first)
	for range 2 {
		if err := dial(t, p, addr); err != nil {
			t.Fatal(err)
		}
	}
	use(second)
	var changed *tlspin.ChangedError
	if err := dial(t, p, addr); !errors.As(err, &changed) {
		t.Fatalf("another key: %v", err)
	}
	for _, want := range []string{changed.Old, changed.New, addr, "run unpin"} {
		if want == "" || !strings.Contains(changed.Error(), want) {
			t.Errorf("%q does not say %q", changed, want)
		}
	}
	use(first)
	if err := dial(t, p, addr); err != nil {
		t.Errorf("a refusal changed the record: %v", err)
	}
}

// TestPinRace has two see a controller for the first time at once: the first record counts.
func TestPinRace(t *testing.T) {
	addr, use := serve(t)
	rec := &memory{m: map[string][]byte{}}
	use(newCert(t))
	if err := dial(t, tlspin.Policy{Records: rec}, addr); err != nil {
		t.Fatal(err)
	}
	rec.blind = 1
	if err := dial(t, tlspin.Policy{Records: rec}, addr); err != nil {
		t.Errorf("the same key, seen at once: %v", err)
	}
	use(newCert(t))
	rec.blind = 1
	var changed *tlspin.ChangedError
	if err := dial(t, tlspin.Policy{Records: rec}, addr); !errors.As(err, &changed) {
		t.Errorf("another key, seen at once: %v", err)
	}
}

func TestPinNotRecorded(t *testing.T) {
	addr, use := serve(t)
	use(newCert(t))
	full := errors.New("disk full")
	if err := dial(t, tlspin.Policy{Records: &memory{m: map[string][]byte{}, err: full}}, addr); !errors.Is(err, full) {
		t.Errorf("trusted a key that could not be recorded: %v", err)
	}
	if err := dial(t, tlspin.Policy{}, addr); err == nil {
		t.Error("pinned without records")
	}
	rec := &memory{m: map[string][]byte{tlspin.Key(addr): []byte("{}")}}
	if err := dial(t, tlspin.Policy{Records: rec}, addr); err == nil {
		t.Error("an empty record trusts everything")
	}
}

func TestVerify(t *testing.T) {
	addr, use := serve(t)
	cert := newCert(t)
	use(cert)
	if err := dial(t, tlspin.Policy{Mode: tlspin.Verify}, addr); err == nil {
		t.Error("the system's roots trust a self-signed certificate")
	}
	if err := dial(t, tlspin.Policy{Mode: tlspin.Insecure}, addr); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600)
	roots, err := tlspin.LoadRoots(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := dial(t, tlspin.Policy{Mode: tlspin.Verify, Roots: roots}, addr); err != nil {
		t.Error(err)
	}
	os.WriteFile(file, []byte("not PEM"), 0o600)
	if _, err := tlspin.LoadRoots(file); err == nil {
		t.Error("a file without a certificate was taken")
	}
}

func TestParseMode(t *testing.T) {
	for name, want := range map[string]tlspin.Mode{"": tlspin.Pin, "pin": tlspin.Pin, "verify": tlspin.Verify, "insecure": tlspin.Insecure, "no": ""} {
		got, err := tlspin.ParseMode(name)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}
