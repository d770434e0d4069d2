//go:build linux

package bitlocker_test

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// The kernel stops a write where the limit of file size is, in the middle of a line, as a full
// disk does. The release fails, nothing of it stays, and with room again all goes on.
func TestLedgerOnAFullDisk(t *testing.T) {
	// In a process of its own: the limit is of all files, also of those that go test writes.
	const alone = "UNBRICK_TEST_FULL_DISK"
	if os.Getenv(alone) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLedgerOnAFullDisk$")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	record(t, l, "PC1", "PC2")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var room syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &room); err != nil {
		t.Fatal(err)
	}
	for _, more := range []uint64{0, 1, 100} {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(before.Size()) + more, Max: room.Max}); err != nil {
			t.Fatal(err)
		}
		err := l.Record(t.Context(), release("PC3"))
		if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &room); e != nil {
			t.Fatal(e)
		}
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("with room for %d bytes: error %v, want EFBIG", more, err)
		}
		if after, err := os.Stat(path); err != nil || after.Size() != before.Size() {
			t.Errorf("with room for %d bytes: %d bytes stay (%v)", more, after.Size()-before.Size(), err)
		}
	}
	record(t, l, "PC3")
	if n, _ := verify(t, path); n != 3 {
		t.Errorf("%d records, want 3", n)
	}
}
