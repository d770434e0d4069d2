//go:build linux

package linux

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"unbrick/remediate/rescue/wire"
)

// TestFindStick has several FAT file systems side by side: the stick's is known by label and
// serial number, and nothing of the rescue image's own is taken for the host's.
func TestFindStick(t *testing.T) {
	dir := t.TempDir()
	write := func(name, label string, serial uint32) {
		t.Helper()
		b := make([]byte, 512)
		binary.LittleEndian.PutUint32(b[39:], serial)
		copy(b[43:], label+"FAT16   ")
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sda1", "SYSTEM     ", 0x1a2b3c4d)
	write("sdb1", wire.StickVolume, 0x11111111)
	write("sdb2", "UNBRICK    ", 0x1a2b3c4d)
	if got := findStick(dir, dir, 0x1a2b3c4d); got != "" {
		t.Errorf("found %s, which is another", got)
	}
	write("sdc3", wire.StickVolume, 0x1a2b3c4d)
	if got := findStick(dir, dir, 0x1a2b3c4d); got != filepath.Join(dir, "sdc3") {
		t.Errorf("found %q", got)
	}
	for name, host := range map[string]bool{"sda1": true, "sdb1": false, "sdb2": false, "sdc3": false} {
		if s, err := readSignature(filepath.Join(dir, name)); err != nil || (s == fatSignature) != host {
			t.Errorf("%s: signature %q, %v", name, s, err)
		}
	}
}
