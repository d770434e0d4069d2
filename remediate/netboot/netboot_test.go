package netboot_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/remediate/netboot"
)

const (
	mac   = "52:54:00:00:00:01"
	other = "52:54:00:00:00:02"
)

// images serves the images of hosts, as a rescue server does.
type images struct {
	url     string
	mu      sync.Mutex
	busy    int  // requests that are answered 503
	gone    bool // nobody is known any more
	asked   []string
	fetched atomic.Int64 // bodies sent
}

// content is a file that is the same for all hosts: one block more than a window of any size.
func content(name string) []byte { return bytes.Repeat([]byte(name+" "), 20000/len(name)) }

func startImages(t testing.TB) *images {
	i := &images{}
	s := httptest.NewServer(i)
	t.Cleanup(s.Close)
	i.url = s.URL
	return i
}

// image is the URL of the image of a host.
func (i *images) image(token string) string { return i.url + "/i/" + token + "/rescue.iso" }

func (i *images) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.asked = append(i.asked, r.Method+" "+r.URL.Path)
	busy, gone := i.busy > 0, i.gone
	i.busy--
	i.mu.Unlock()
	parts := strings.SplitN(r.URL.Path, "/", 4) // "", i, token, name
	switch {
	case busy:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	case gone || len(parts) < 4:
		http.NotFound(w, r)
	case parts[3] == "netboot/site.img" || parts[3] == "rescue.iso":
		i.fetched.Add(1)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("of "+parts[2]))
	default:
		name := strings.TrimPrefix(parts[3], "netboot/")
		w.Header().Set("ETag", `"`+name+`"`)
		if r.Header.Get("If-None-Match") == "" {
			i.fetched.Add(1)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content(name)))
	}
}

// start starts a server on loopback, with ports of its own.
func start(t testing.TB, change func(*netboot.Config)) *netboot.Server {
	t.Helper()
	cfg := netboot.Config{
		Dir: filepath.Join(t.TempDir(), "hosts"), Address: "127.0.0.1",
		DHCP: "127.0.0.1:0", PXE: "127.0.0.1:0", TFTP: "127.0.0.1:0", HTTP: "127.0.0.1:0",
		Retransmit: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := netboot.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) { return l.t.Output().Write(b) }

func allow(t testing.TB, s *netboot.Server, mac, image string) {
	t.Helper()
	if err := s.Allow([]string{mac}, image); err != nil {
		t.Fatal(err)
	}
}

// TestAllowed says what is kept of the hosts that are allowed, and that it outlives a process.
func TestAllowed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hosts")
	first := start(t, func(c *netboot.Config) { c.Dir = dir })
	const token = "kgvdmnqmzxsecrettokenofonehost32"
	if err := first.Allow([]string{"52-54-00-00-00-0A", other}, "http://10.0.0.1/i/"+token+"/rescue.iso"); err != nil {
		t.Fatal(err)
	}
	first.Close() // as much as a process that is killed leaves: nothing is written here
	second := start(t, func(c *netboot.Config) { c.Dir = dir })
	for _, m := range []string{"52:54:00:00:00:0a", other} {
		if got := second.Image([]string{m}); !strings.Contains(got, token) {
			t.Errorf("after a new start %s has the image %q", m, got)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v; want a file for each MAC", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 || strings.Contains(e.Name(), token[:8]) {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	for range 2 {
		if err := second.Forget([]string{"52:54:00:00:00:0A", other}); err != nil {
			t.Fatal(err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 || second.Image([]string{other}) != "" {
		t.Errorf("after Forget: %v, %v", entries, err)
	}
}

// TestAddress says that an address is of the host that asked for it last, also for the next
// process.
func TestAddress(t *testing.T) {
	dir, i := t.TempDir(), startImages(t)
	s := start(t, func(c *netboot.Config) { c.Dir = dir })
	allow(t, s, mac, i.image("one"))
	allow(t, s, other, i.image("two"))
	for range 3 {
		s.Tie(mac, "127.0.0.1")
		s.Tie(other, "127.0.0.1")
		if _, got, err := get(t, s.Web()+"site.img", ""); got != "of two" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	s.Close()
	s = start(t, func(c *netboot.Config) { c.Dir = dir })
	if _, got, err := get(t, s.Web()+"site.img", ""); got != "of two" {
		t.Errorf("after a new start: %q, %v", got, err)
	}
	if err := s.Forget([]string{other}); err != nil {
		t.Fatal(err)
	}
	if _, got, err := get(t, s.Web()+"site.img", ""); err == nil {
		t.Errorf("after the host was forgotten: %q", got)
	}
}

func TestAllowRefuses(t *testing.T) {
	s := start(t, nil)
	const secret = "kgvdmnqm"
	for name, c := range map[string]struct {
		macs  []string
		image string
	}{
		"no MAC":          {nil, "http://10.0.0.1/i/t/rescue.iso"},
		"not a MAC":       {[]string{"../../etc/passwd"}, "http://10.0.0.1/i/t/rescue.iso"},
		"InfiniBand":      {[]string{"00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01"}, "http://10.0.0.1/i/t/rescue.iso"},
		"a file":          {[]string{mac}, "file:///i/" + secret + "/rescue.iso"},
		"no folder":       {[]string{mac}, "http://10.0.0.1/rescue.iso"},
		"with a query":    {[]string{mac}, "http://10.0.0.1/i/t/rescue.iso?token=" + secret},
		"no URL":          {[]string{mac}, "http://[" + secret},
		"nothing":         {[]string{mac}, ""},
		"one of two good": {[]string{mac, "x"}, "http://10.0.0.1/i/t/rescue.iso"},
	} {
		err := s.Allow(c.macs, c.image)
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: said %v", name, err)
		}
	}
	if s.Image([]string{mac}) != "" {
		t.Error("a host is allowed all the same")
	}
}

// TestDamagedFile starts over files that are not as they were written.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"52-54-00-00-00-01.json": "{",
		"52-54-00-00-00-02.json": `{"mac":"52:54:00:00:00:03","image":"http://10.0.0.1/i/t/rescue.iso"}`, // of another
		".new-1":                 "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, func(c *netboot.Config) { c.Dir = dir })
	if got := s.Image([]string{mac, other, "52:54:00:00:00:03"}); got != "" {
		t.Errorf("a damaged file allows %q", got)
	}
	allow(t, s, mac, "http://10.0.0.1/i/t/rescue.iso") // and does not stand in the way
}

func TestStartRefuses(t *testing.T) {
	held, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for want, change := range map[string]func(*netboot.Config){
		"a directory":          func(c *netboot.Config) { c.Dir = "" },
		"not an IPv4 address":  func(c *netboot.Config) { c.Address = "::1" },
		"the network card":     func(c *netboot.Config) { c.Address, c.Interface = "", "no-such-card" },
		"not a range":          func(c *netboot.Config) { c.Lend = "127.0.0.9" },
		"not all in the":       func(c *netboot.Config) { c.Lend = "10.1.2.3-10.1.2.4" },
		"cannot listen for TF": func(c *netboot.Config) { c.TFTP = held.LocalAddr().String() },
		"cannot listen for HT": func(c *netboot.Config) { c.HTTP = "192.0.2.1:80" },
	} {
		cfg := netboot.Config{Dir: t.TempDir(), Address: "127.0.0.1", DHCP: "127.0.0.1:0", PXE: "127.0.0.1:0", TFTP: "127.0.0.1:0", HTTP: "127.0.0.1:0"}
		change(&cfg)
		s, err := netboot.Start(context.Background(), cfg)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("said %v; want %q", err, want)
		}
	}
}

func get(t *testing.T, url, ranges string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}
