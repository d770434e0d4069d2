//go:build linux

package linux_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/lab/testenv"
)

// crash makes a volume that Windows formatted, used and dismounted, as a library that reads
// NTFS ships it for its own tests, look as if Windows had crashed: its journal is wound back
// to a moment at which ten actions had been committed and not yet written. The records are
// Windows's own; the restart pages and, for 2.0, the place of the newest pages are patched.
func crash(t *testing.T, major uint16) string {
	dir := t.TempDir()
	testenv.Need(t, "go", "wimcapture", "wimapply")
	module := strings.TrimSpace(run(t, "go", "list", "-m", "-f", "{{.Dir}}", "www.velocidex.com/golang/go-ntfs"))
	b, err := os.ReadFile(filepath.Join(module, "parser", "test_data", "test.ntfs.dd"))
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "windows.img")
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	populate(t, image, nil)
	if b, err = os.ReadFile(image); err != nil {
		t.Fatal(err)
	}
	windBack(t, b, major)
	if err := os.WriteFile(image, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return image
}

// windBack patches the journal of that very image.
func windBack(t *testing.T, image []byte, major uint16) {
	t.Helper()
	const (
		journal    = 0x154800 // offset of $LogFile
		page       = 4096
		newest     = 98 // the page that the journal now ends in
		lastLSN    = 0x10c549
		checkpoint = 0x10c472
		oldest     = 0x10c3ab
	)
	le := binary.LittleEndian
	log := image[journal:]
	// Copies of the newest pages, each with its own place, where a log of that version has them.
	unit, minor, copies := uint64(page), uint16(1), 4
	if major == 2 {
		unit, minor, copies = 512, 0, 34
	}
	for at := 2; at < copies; at++ {
		p := log[at*page : (at+1)*page]
		if at > 3 {
			copy(p, bytes.Repeat([]byte{0xff}, page))
			continue
		}
		from := newest - 3 + at
		copy(p, log[from*page:])
		le.PutUint64(p[8:], uint64(from)*unit)
	}
	for at := range 2 {
		p := log[at*page:]
		if string(p[:4]) != "RSTR" {
			t.Fatal("the image is not the one that this test knows")
		}
		le.PutUint16(p[26:], minor)
		le.PutUint16(p[28:], major)
		area := p[48:]
		le.PutUint64(area, lastLSN)
		le.PutUint16(area[12:], 0)
		le.PutUint16(area[14:], le.Uint16(area[14:])&^volumeClean)
		le.PutUint32(area[32:], 40)
		le.PutUint64(area[64:], oldest)
		le.PutUint64(area[72:], checkpoint)
	}
}

// populate puts the faulty file, the good one and more into an NTFS volume.
func populate(t *testing.T, image string, more map[string]string) {
	t.Helper()
	dir := t.TempDir()
	tree, wim := filepath.Join(dir, "tree"), filepath.Join(dir, "tree.wim")
	for name, content := range map[string]string{faulty: strings.Repeat("\x00", 5000), good: "good"} {
		p := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "wimcapture", tree, wim, "--compress=none", "--quiet")
	run(t, "wimapply", wim, "1", image, "--quiet")
	for name, content := range more { // wimcapture leaves hiberfil.sys out by itself
		p := filepath.Join(dir, "file")
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "ntfscp", "-q", image, p, name)
	}
}

// cat reads a file from an image by ntfscat, which nobody here wrote.
func cat(image, name string) (string, error) {
	out, err := exec.Command("ntfscat", "-f", image, name).Output()
	return string(out), err
}
