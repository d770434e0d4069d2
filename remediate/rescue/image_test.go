package rescue_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

func get(t testing.TB, method, url, ranges string) (*http.Response, []byte) {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), method, url, nil)
	if ranges != "" {
		req.Header.Set("Range", ranges)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func (l *lab) imageURL() string {
	img, err := l.s.Image(l.t.Context(), l.target)
	if err != nil {
		l.t.Fatal(err)
	}
	return img.URL
}

func readBase(t *testing.T, b rescue.Base) []byte {
	t.Helper()
	all, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestImage(t *testing.T) {
	l := newLab(t, nil)
	url := l.imageURL()
	if strings.Contains(url, "?") || !strings.HasSuffix(url, ".iso") || len(url) > 100 || url != l.imageURL() {
		t.Errorf("a BMC may refuse %s", url)
	}
	base := readBase(t, l.cfg.Base)
	resp, got := get(t, "GET", url, "")
	window := l.cfg.Base.ConfigOffset
	if len(got) != len(base) || !bytes.Equal(got[:window], base[:window]) || !bytes.Equal(got[window+wire.ConfigSize:], base[window+wire.ConfigSize:]) {
		t.Error("the image differs from its base outside of the configuration")
	}
	cfg, err := wire.ParseConfig(got[window : window+wire.ConfigSize])
	if err != nil || cfg.URL != l.s.AgentURL() || cfg.Pin != l.s.Pin() || cfg.Token != rescue.Token(l.s, l.target) {
		t.Errorf("configuration: %v, %v", cfg, err)
	}
	for _, h := range []string{"Etag", "Last-Modified", "Expires"} {
		if resp.Header.Get(h) != "" {
			t.Errorf("header %s would let a cache keep the image", h)
		}
	}
	if resp.Header.Get("Accept-Ranges") != "bytes" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", resp.Header)
	}
	head, body := get(t, "HEAD", url, "")
	if head.ContentLength != l.cfg.Base.Size || len(body) != 0 {
		t.Errorf("HEAD: %d bytes, %d in the body", head.ContentLength, len(body))
	}
	other := l.target
	other.Attempt = 2
	if img, err := l.s.Image(t.Context(), other); err != nil || img.URL == url {
		t.Errorf("another attempt has the same image, or none: %v", err)
	}
}

// Every range is that of the whole, whichever way it lies to the configuration.
func TestImageRanges(t *testing.T) {
	l := newLab(t, nil)
	url := l.imageURL()
	_, whole := get(t, "GET", url, "")
	at, end := int(l.cfg.Base.ConfigOffset), int(l.cfg.Base.ConfigOffset+wire.ConfigSize)
	size := len(whole)
	for _, r := range [][2]int{{0, 10}, {at - 5, at + 5}, {at, end}, {at + 1, at + 3}, {end - 3, end + 3}, {at - 7, end + 7}, {end, size}, {size - 1, size}, {0, size}} {
		resp, got := get(t, "GET", url, fmt.Sprintf("bytes=%d-%d", r[0], r[1]-1))
		if resp.StatusCode != http.StatusPartialContent || !bytes.Equal(got, whole[r[0]:r[1]]) {
			t.Errorf("range %v: %s, %d bytes", r, resp.Status, len(got))
		}
	}
	if resp, _ := get(t, "GET", url, fmt.Sprintf("bytes=%d-", size)); resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("beyond the end: %s", resp.Status)
	}
	resp, body := get(t, "GET", url, fmt.Sprintf("bytes=0-9,%d-%d", at-2, at+19))
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || resp.StatusCode != http.StatusPartialContent {
		t.Fatalf("two ranges: %s, %v", resp.Status, err)
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for _, want := range [][]byte{whole[:10], whole[at-2 : at+20]} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(p); !bytes.Equal(got, want) {
			t.Errorf("part: %q, want %q", got, want)
		}
	}
}

func TestImageRefusals(t *testing.T) {
	l := newLab(t, nil)
	url := l.imageURL()
	for _, bad := range []string{"/", "/i/", "/i//rescue.iso", "/i/" + strings.Repeat("a", 32) + "/rescue.iso", strings.TrimPrefix(url, l.s.ImageURL()) + "/x", "/i/../rescue.iso"} {
		if resp, _ := get(t, "GET", l.s.ImageURL()+bad, ""); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", bad, resp.Status)
		}
	}
	if resp, _ := get(t, "DELETE", url, ""); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %s", resp.Status)
	}
}

// big is a base that no socket buffer takes whole.
func big() rescue.Base {
	const size, offset = 64 << 20, 1 << 20
	img := make([]byte, size)
	copy(img[offset:], bytes.Repeat([]byte{' '}, wire.ConfigSize))
	copy(img[offset:], wire.Placeholder)
	return rescue.Base{ReaderAt: bytes.NewReader(img), Size: size, ConfigOffset: offset}
}

func TestTooManyStreams(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.MaxStreams, l.cfg.Base = 1, big() })
	url := l.imageURL()
	slow, err := http.Get(url) // and does not read it
	if err != nil {
		t.Fatal(err)
	}
	resp, _ := get(t, "GET", url, "bytes=0-0")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s, %v", resp.Status, resp.Header)
	}
	if head, _ := get(t, "HEAD", url, ""); head.StatusCode != http.StatusOK {
		t.Errorf("HEAD takes no stream: %s", head.Status)
	}
	slow.Body.Close()
	for {
		if resp, _ := get(t, "GET", url, "bytes=0-0"); resp.StatusCode == http.StatusPartialContent {
			break // the stream that was cut off is free again
		}
	}
}

func TestMissing(t *testing.T) {
	for _, tt := range []struct {
		name  string
		host  func(l *lab)
		words []string
	}{
		{"never fetched", func(l *lab) { l.imageURL() }, []string{"did not call home", "never fetched"}},
		{"only asked for its size", func(l *lab) { get(l.t, "HEAD", l.imageURL(), "") }, []string{"never fetched"}},
		{"part", func(l *lab) { get(l.t, "GET", l.imageURL(), "bytes=0-81919") }, []string{"did not call home", "81920 of the 327680 bytes", "127.0.0.1"}},
		{"all", func(l *lab) { get(l.t, "GET", l.imageURL(), "") }, []string{"fetched whole", "no hello", "https://"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t, nil)
			tt.host(l)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			defer cancel()
			_, err := l.s.Repair(ctx, l.target, l.pb)
			wantErr(t, err, tt.words...)
			if final(err) {
				t.Error("another route may do")
			}
		})
	}
	t.Run("hello", func(t *testing.T) {
		l := newLab(t, nil)
		r := newRaw(t, l, l.boot())
		ctx, cancel := context.WithCancel(t.Context())
		ctx, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		defer cancel()
		done := make(chan error, 1)
		go func() { _, err := l.s.Repair(ctx, l.target, l.pb); done <- err }()
		for {
			if code, _ := r.do("POST", "/v1/hello", r.hello()); code == 200 {
				break
			}
		}
		newRaw(t, l, r.cfg).do("POST", "/v1/hello", r.hello())
		wantErr(t, <-done, "called home but did not report", "hello at")
	})
}

func TestFetched(t *testing.T) {
	l := newLab(t, nil)
	url := l.imageURL()
	if f := l.s.Fetched(l.target); !f.First.IsZero() {
		t.Errorf("before: %v", f)
	}
	get(t, "GET", url, "bytes=0-2047")
	get(t, "GET", url, "bytes=0-2047")
	if f := l.s.Fetched(l.target); f.Bytes != 2048 || f.From != "127.0.0.1" || f.First.IsZero() {
		t.Errorf("a block twice: %+v", f)
	}
}

func TestConfigFromImage(t *testing.T) {
	cfg := wire.Config{URL: "https://127.0.0.1:1", Pin: "ab", Token: "t"}
	window, err := cfg.Window()
	if err != nil {
		t.Fatal(err)
	}
	noise := []byte(wire.Magic + wire.Placeholder + "{{" + wire.Magic)
	for _, pad := range []int{0, 1, 4*wire.ConfigSize - 3, 4*wire.ConfigSize + 1, 1 << 20} {
		img := append(bytes.Repeat(append(noise, 'x'), pad/len(noise)+1)[:pad:pad], window...)
		got, err := agent.ConfigFromImage(io.MultiReader(bytes.NewReader(img), strings.NewReader("the rest")))
		if err != nil || got != cfg {
			t.Errorf("after %d bytes: %v, %v", pad, got, err)
		}
	}
	_, err = agent.ConfigFromImage(bytes.NewReader(readBase(t, rescue.StubImage())))
	wantErr(t, err, "base image")
	_, err = agent.ConfigFromImage(bytes.NewReader(append(noise, window[:100]...)))
	wantErr(t, err, "no configuration")
}

func TestOpenBase(t *testing.T) {
	write := func(b []byte) string {
		name := filepath.Join(t.TempDir(), "rescue.iso")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	stub := readBase(t, rescue.StubImage())
	long := append([]byte(strings.Repeat("x", 1<<20-20)+wire.Placeholder+"x"), stub...) // the words alone lie across the buffer's end
	b, closer, err := rescue.OpenBase(write(long))
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	if want := int64(len(long)-len(stub)) + rescue.StubImage().ConfigOffset; b.ConfigOffset != want || b.Size != int64(len(long)) {
		t.Errorf("found at %d of %d, want %d", b.ConfigOffset, b.Size, want)
	}
	for name, img := range map[string][]byte{"no room": stub[:1000], "more than one": append(bytes.Clone(stub), stub...), "image build": nil} {
		_, _, err := rescue.OpenBase(write(img))
		wantErr(t, err, name)
	}
	_, _, err = rescue.OpenBase(filepath.Join(t.TempDir(), "none"))
	wantErr(t, err, "image build")
}
