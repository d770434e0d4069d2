package vm_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"unbrick/remediate/lab/vm"
)

// TestDisk reads back what was built, by a library that did not build it, and then by
// ntfscat, which shares nothing with that library.
func TestDisk(t *testing.T) {
	needs(t)
	sys, err := system()
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := (vm.Disk{Faulty: true, Good: true}).Build(t.Context(), disk, sys); err != nil {
		t.Fatal(err)
	}
	files, err := vm.ReadVolume(disk)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 11 {
		t.Errorf("the volume has %d files, want 11: %v", len(files), files)
	}
	for name, written := range map[string]time.Time{
		vm.FaultyFile: time.Date(2024, 7, 19, 4, 9, 17, 123456700, time.UTC),
		vm.GoodFile:   time.Date(2024, 7, 19, 5, 27, 41, 123456700, time.UTC),
	} {
		f := files[name]
		if !f.ModTime.Equal(written) || f.Size != 40816 {
			t.Errorf("%s: %d bytes, last write %v, want 40816 bytes, %v", name, f.Size, f.ModTime, written)
		}
		if want := catSum(t, disk, name); f.SHA256 != want {
			t.Errorf("%s: ReadVolume says %s, ntfscat %s", name, f.SHA256, want)
		}
	}
}

// catSum returns the SHA-256 of a file on the volume as ntfscat reads it.
func catSum(t *testing.T, disk, name string) string {
	t.Helper()
	volume := filepath.Join(t.TempDir(), "volume.img")
	in, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	const start, size = 81 << 20, 96 << 20
	b := make([]byte, size)
	if _, err := in.ReadAt(b, start); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(volume, b, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("ntfscat", "-f", volume, name)
	h := sha256.New()
	cmd.Stdout, cmd.Stderr = io.Writer(h), os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
