package probe_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/probe"
)

var _ remediate.Prober = (*probe.Prober)(nil)

// listen serves every connection with serve and returns the address.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

// network connects to what listens in the place of a port of the host; all others refuse.
func network(ports map[string]string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		real, ok := ports[port]
		if !ok {
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		}
		return new(net.Dialer).DialContext(ctx, network, real)
	}
}

// The answers of Windows to what is asked, as far as they are looked at.
func answerSMB2(c net.Conn) {
	request := make([]byte, 112)
	if _, err := io.ReadFull(c, request); err != nil || string(request[4:8]) != "\xfeSMB" {
		return
	}
	head := append([]byte{0, 0, 0, 65 + 64}, request[4:4+64]...)
	head[4+16] = 1 // a response
	c.Write(append(head, make([]byte, 65)...))
}

func answerSMB1(c net.Conn) {
	io.ReadFull(c, make([]byte, 112))
	c.Write(append([]byte("\x00\x00\x00\x23\xffSMB\x72\x00\x00\x00\x00\x88\x01\x48"), make([]byte, 25)...))
}

func answerRDP(c net.Conn) {
	request := make([]byte, 19)
	if _, err := io.ReadFull(c, request); err != nil || request[5] != 0xe0 {
		return
	}
	c.Write([]byte("\x03\x00\x00\x13\x0e\xd0\x00\x00\x124\x00\x02\x1f\x08\x00\x02\x00\x00\x00"))
}

func answerHTTP(status int, server string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if server != "" {
			w.Header().Set("Server", server)
		}
		if r.URL.Path != "/wsman" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
	}
}

func web(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// webTLS has the certificate of httptest, which nobody trusts, as WinRM's is.
func webTLS(t *testing.T, h http.HandlerFunc) string {
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestSignsOfLife(t *testing.T) {
	const microsoft = "Microsoft-HTTPAPI/2.0"
	for _, test := range []struct{ name, port, at, want string }{
		{"WinRM", "5985", web(t, answerHTTP(405, microsoft)), "WinRM answered at %s (Microsoft-HTTPAPI/2.0)"},
		{"WinRM wants a login", "5985", web(t, answerHTTP(401, microsoft)), "WinRM answered at %s (Microsoft-HTTPAPI/2.0)"},
		{"WinRM is stopped, Windows is not", "5985", web(t, answerHTTP(503, microsoft)), "WinRM answered at %s (Microsoft-HTTPAPI/2.0)"},
		{"behind TLS", "5986", webTLS(t, answerHTTP(405, microsoft)), "WinRM answered at %s (Microsoft-HTTPAPI/2.0)"},
		{"does not say what it is", "5985", web(t, answerHTTP(405, "")), "WinRM answered at %s (status 405)"},
		{"SMB 2", "445", listen(t, answerSMB2), "SMB answered at %s (SMB 2)"},
		{"SMB 1", "445", listen(t, answerSMB1), "SMB answered at %s (SMB 1)"},
		{"RDP", "3389", listen(t, answerRDP), "RDP answered at %s (X.224)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := fmt.Sprintf(test.want, test.at)
			for name, h := range map[string]inventory.Host{
				"all ports": {Name: "PC1"},
				"its port":  {Name: "PC1", Address: "pc1.corp.example:" + test.port},
				"IPv6":      {Name: "PC1", Address: "fe80::1"},
			} {
				p := probe.New(probe.Options{Dial: network(map[string]string{test.port: test.at})})
				if got, err := p.Probe(t.Context(), h); err != nil || got != want {
					t.Errorf("%s: %q, %v; want %q", name, got, err, want)
				}
			}
		})
	}
}

// A port of no known service is spoken to as WinRM, over the real network of this process.
func TestOtherPort(t *testing.T) {
	at := web(t, answerHTTP(405, "lab"))
	got, err := probe.New(probe.Options{}).Probe(t.Context(), inventory.Host{Name: "PC1", Address: at})
	if want := "WinRM answered at " + at + " (lab)"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// What a server says of itself goes into reports: in one line, and not a long one.
func TestServerHeaderIsTamed(t *testing.T) {
	at := listen(t, func(c net.Conn) {
		bufio.NewReader(c).ReadString('\n')
		fmt.Fprintf(c, "HTTP/1.1 405 No\r\nServer: a\x80\u202e%s\r\n\r\n", strings.Repeat("b", 500))
	})
	got, err := probe.New(probe.Options{}).Probe(t.Context(), inventory.Host{Address: at})
	if want := "WinRM answered at " + at + " (a" + strings.Repeat("b", 79) + ")"; err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// None of these is Windows, whatever port it is met at.
func TestNoSignOfLife(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"says nothing and hangs up": func(c net.Conn) { c.Read(make([]byte, 1)) },
		"hangs up at once":          func(net.Conn) {},
		"resets":                    func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) },
		"garbage":                   func(c net.Conn) { c.Write([]byte(strings.Repeat("\x00\x01garbage ", 100))) },
		"zeros":                     func(c net.Conn) { c.Write(make([]byte, 4096)) },
		"SSH":                       func(c net.Conn) { c.Write([]byte("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")) },
		"echo":                      func(c net.Conn) { io.Copy(c, c) },
		"half an SMB response":      func(c net.Conn) { c.Write([]byte("\x00\x00\x00\x81\xfeSMB\x40\x00")) },
		"half an RDP response":      func(c net.Conn) { c.Write([]byte("\x03\x00\x00\x13\x0e\xd0")) },
		"half an HTTP response":     func(c net.Conn) { c.Write([]byte("HTTP/1.1 405 Not All")) },
		"HTTP of its own":           func(c net.Conn) { c.Write([]byte("HTTP/1.1 999 Request denied\r\n\r\n")) },
		"a gateway, 502":            func(c net.Conn) { c.Write([]byte("HTTP/1.1 502 Bad Gateway\r\nServer: squid\r\n\r\n")) },
		"a gateway, 504":            func(c net.Conn) { c.Write([]byte("HTTP/1.1 504 Gateway Timeout\r\n\r\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			at := listen(t, serve)
			p := probe.New(probe.Options{Dial: network(map[string]string{"5985": at, "5986": at, "445": at, "3389": at, "8080": at})})
			for _, address := range []string{"pc1", "pc1:8080"} {
				if got, err := p.Probe(t.Context(), inventory.Host{Name: "PC1", Address: address}); err != nil || got != "" {
					t.Errorf("%s: %q, %v; want nothing", address, got, err)
				}
			}
		})
	}
}

// A host that accepts and is silent, for ever, on all ports: a NAT does that for one that is off.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accepts := func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go io.Copy(io.Discard, far)
			return near, nil
		}
		begun := time.Now()
		got, err := probe.New(probe.Options{Dial: accepts}).Probe(t.Context(), inventory.Host{Name: "PC1"})
		if got != "" || err != nil || time.Since(begun) != probe.DefaultTimeout {
			t.Errorf("%q, %v after %s; want nothing after %s", got, err, time.Since(begun), probe.DefaultTimeout)
		}
	})
}

// A packet filter swallows connections to three ports; the fourth answers, and nobody waits.
func TestOneAnswerIsEnough(t *testing.T) {
	at := listen(t, answerRDP)
	begun := time.Now()
	p := probe.New(probe.Options{Timeout: time.Hour, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasSuffix(address, ":3389") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, at)
	}})
	if got, err := p.Probe(t.Context(), inventory.Host{Name: "PC1"}); err != nil || !strings.HasPrefix(got, "RDP answered") {
		t.Errorf("%q, %v after %s", got, err, time.Since(begun))
	}
}

func notAddress(s string) string {
	return fmt.Sprintf("cannot look for signs of life of %s: %q is not an address; it is a name or an IP address, with :port if it is not a standard one", s, s)
}

func TestBlind(t *testing.T) {
	failing := func(err error) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
	}
	unknown := &net.DNSError{Err: "no such host", Name: "pc1", Server: "10.0.0.1:53", IsNotFound: true}
	for _, test := range []struct {
		name, address string
		dial          error
		want          string // empty: it looked, and saw nothing
	}{
		{"name not known", "pc1", unknown, "cannot look for signs of life of pc1: dial tcp: lookup pc1 on 10.0.0.1:53: no such host; give the host an address in the inventory"},
		{"name server silent", "pc1:445", &net.DNSError{Err: "i/o timeout", Name: "pc1", IsTimeout: true}, "cannot look for signs of life of pc1: dial tcp: lookup pc1: i/o timeout"},
		{"no network", "10.1.2.3", syscall.ENETUNREACH, "cannot look for signs of life of 10.1.2.3: dial tcp: " + syscall.ENETUNREACH.Error()},
		{"too many files", "10.1.2.3", syscall.EMFILE, "cannot look for signs of life of 10.1.2.3: dial tcp: " + syscall.EMFILE.Error()},
		{"refused", "pc1", syscall.ECONNREFUSED, ""},
		{"nobody at the address", "pc1", syscall.EHOSTUNREACH, ""},
		{"a URL", "http://pc1/", nil, notAddress("http://pc1/")},
		{"a URL with a port", "http://pc1:5985", nil, notAddress("http://pc1:5985")},
		{"not a port", "pc1:winrm", nil, notAddress("pc1:winrm")},
		{"port 0", "pc1:0", nil, notAddress("pc1:0")},
		{"no host", ":5985", nil, notAddress(":5985")},
		{"nothing", "", nil, notAddress("")},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := probe.New(probe.Options{Dial: failing(test.dial)})
			got, err := p.Probe(t.Context(), inventory.Host{Address: test.address})
			var blind *probe.BlindError
			switch {
			case got != "":
				t.Errorf("evidence %q", got)
			case test.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case test.want != "" && (!errors.As(err, &blind) || err.Error() != test.want):
				t.Errorf("error %v\n want %s", err, test.want)
			}
		})
	}
}

// Who could look at one port has looked.
func TestPartlyBlind(t *testing.T) {
	p := probe.New(probe.Options{Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		if strings.HasSuffix(address, ":445") {
			return nil, syscall.ECONNREFUSED
		}
		return nil, syscall.EMFILE
	}})
	if got, err := p.Probe(t.Context(), inventory.Host{Name: "PC1"}); got != "" || err != nil {
		t.Errorf("%q, %v; want nothing", got, err)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	at := listen(t, func(c net.Conn) { cancel(); io.Copy(io.Discard, c) })
	p := probe.New(probe.Options{Timeout: time.Hour, Dial: network(map[string]string{"445": at})})
	var blind *probe.BlindError
	if got, err := p.Probe(ctx, inventory.Host{Name: "PC1"}); got != "" || !errors.As(err, &blind) || !errors.Is(err, context.Canceled) {
		t.Errorf("%q, %v; want a *BlindError for context.Canceled: it did not look long enough", got, err)
	}
}
