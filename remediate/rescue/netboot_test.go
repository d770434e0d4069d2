package rescue_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/wire"
)

// netFolder is what image build makes for network boot, as far as a server looks at it.
func netFolder() fstest.MapFS {
	site := []byte("0707 cpio header " + wire.Placeholder + strings.Repeat(" ", wire.ConfigSize-len(wire.Placeholder)) + " trailer")
	return fstest.MapFS{
		"site.img": {Data: site}, "vmlinuz": {Data: []byte("kernel")}, "grub/grub.cfg": {Data: []byte("menuentry")},
	}
}

// TestNetboot says what a host gets that loads its image from the network.
func TestNetboot(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.Netboot = netFolder() })
	url := strings.TrimSuffix(l.imageURL(), "rescue.iso") + "netboot/"
	resp, got := get(t, "GET", url+"site.img", "")
	at := bytes.Index(got, []byte(wire.Magic))
	if at < 0 || len(got) != len(netFolder()["site.img"].Data) || !bytes.HasSuffix(got, []byte(" trailer")) {
		t.Fatalf("%d bytes, the configuration at %d", len(got), at)
	}
	cfg, err := wire.ParseConfig(got[at : at+wire.ConfigSize])
	if err != nil || cfg.URL != l.s.AgentURL() || cfg.Pin != l.s.Pin() || cfg.Token != rescue.Token(l.s, l.target) {
		t.Errorf("configuration: %v, %v", cfg, err)
	}
	if resp.Header.Get("Etag") != "" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("what is one host's may be kept: %v", resp.Header)
	}
	if f := l.s.Fetched(l.target); f.First.IsZero() || !strings.Contains(f.String(), "netboot/site.img") {
		t.Errorf("fetched: %s", f)
	}
	for name, want := range map[string]string{"vmlinuz": "kernel", "grub/grub.cfg": "menuentry"} {
		resp, got := get(t, "GET", url+name, "")
		if string(got) != want || resp.Header.Get("Etag") == "" {
			t.Errorf("%s: %q, %v", name, got, resp.Header)
		}
		req, _ := http.NewRequestWithContext(t.Context(), "GET", url+name, nil)
		req.Header.Set("If-None-Match", resp.Header.Get("Etag"))
		again, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("%s, asked for again: %s", name, again.Status)
		}
	}
	other := l.target
	other.Attempt = 2
	if _, err := l.s.Image(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	token := rescue.Token(l.s, other)
	if _, got := get(t, "GET", strings.Replace(url, rescue.Token(l.s, l.target), token, 1)+"site.img", ""); !bytes.Contains(got, []byte(token)) {
		t.Error("another attempt has not its own configuration")
	}
}

func TestNetbootRefuses(t *testing.T) {
	l := newLab(t, func(l *lab) { l.cfg.Netboot = netFolder() })
	image := l.imageURL()
	token := rescue.Token(l.s, l.target)
	for _, url := range []string{
		strings.Replace(image, token, strings.Repeat("a", len(token)), 1) + "/../netboot/vmlinuz",
		strings.Replace(strings.Replace(image, token, strings.Repeat("a", len(token)), 1), "rescue.iso", "netboot/vmlinuz", 1),
		strings.Replace(image, "rescue.iso", "netboot/none", 1),
		strings.Replace(image, "rescue.iso", "netboot/", 1),
		strings.Replace(image, "rescue.iso", "netboot", 1),
		strings.Replace(image, "rescue.iso", "netboot/grub", 1),
		strings.Replace(image, "rescue.iso", "netboot/grub/../vmlinuz", 1),
		strings.Replace(image, "rescue.iso", "vmlinuz", 1),
	} {
		if resp, got := get(t, "GET", url, ""); resp.StatusCode != http.StatusNotFound || bytes.Contains(got, []byte("kernel")) {
			t.Errorf("%s: %s, %q", url, resp.Status, got)
		}
	}
	without := newLab(t, nil)
	if resp, _ := get(t, "GET", strings.Replace(without.imageURL(), "rescue.iso", "netboot/vmlinuz", 1), ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("an image without files for network boot: %s", resp.Status)
	}
}

// TestNetbootDamaged starts over a folder that no host could use.
func TestNetbootDamaged(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"no site.img":      func(f fstest.MapFS) { delete(f, "site.img") },
		"no room":          func(f fstest.MapFS) { f["site.img"] = &fstest.MapFile{Data: []byte(wire.Placeholder)} },
		"an empty archive": func(f fstest.MapFS) { f["site.img"] = &fstest.MapFile{} },
	} {
		l := newLab(t, nil)
		cfg := l.cfg
		folder := netFolder()
		change(folder)
		cfg.Dir, cfg.Netboot, cfg.AgentListen, cfg.ImageListen = t.TempDir(), folder, "127.0.0.1:0", "127.0.0.1:0"
		s, err := rescue.Start(context.Background(), cfg)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "network boot") {
			t.Errorf("%s: said %v", name, err)
		}
	}
}
