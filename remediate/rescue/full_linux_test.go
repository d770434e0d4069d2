package rescue_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"unbrick/remediate/lab/testenv"
)

// The disk under the quarantine is full: nothing is removed until there is room.
func TestQuarantineDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rescue")
	quarantine := filepath.Join(dir, "quarantine")
	if err := os.MkdirAll(quarantine, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", quarantine, "tmpfs", 0, "size=64k,mode=0700"); err != nil {
		testenv.Missing(t, "the right to mount a file system (root)")
	}
	t.Cleanup(func() { syscall.Unmount(quarantine, 0) })
	filler := filepath.Join(quarantine, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); err == nil {
		t.Fatal("the disk is not full")
	}
	l := newLab(t, func(l *lab) { l.cfg.Dir = dir })
	waited := make(chan bool, 1)
	go func() {
		l.logs.wait("no space left")
		waited <- l.has(bad)
		os.Remove(filler)
	}()
	rep, err, _ := l.repair()
	if err != nil || len(rep.Result.Removed()) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
	if !<-waited {
		t.Error("removed before there was a copy")
	}
}
