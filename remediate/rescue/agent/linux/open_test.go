//go:build linux

package linux_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue/agent/linux"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
	"unbrick/remediate/rescue/wire"
)

const (
	driverDir = "Windows/System32/drivers/CrowdStrike/"
	faulty    = driverDir + "C-00000291-00000000-00000032.sys"
	good      = driverDir + "C-00000285-00000000-00000007.sys"
)

// windows is a volume with a faulty and a good file, and what else is given.
func windows(more ...ntfstest.File) []ntfstest.File {
	return append(more, ntfstest.File{Name: faulty, Content: strings.Repeat("\x00", 5000)}, ntfstest.File{Name: good, Content: "good"})
}

func needMount(t *testing.T) {
	testenv.Need(t, "ntfs-3g", "ntfsrecover", "ntfsfix", "ntfscat", "/dev/fuse")
	if os.Getuid() != 0 {
		testenv.Missing(t, "root, to mount")
	}
}

func sum(t *testing.T, name string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func ntfs(t *testing.T, image string) *linux.NTFS {
	return &linux.NTFS{Path: image, Mounts: filepath.Join(t.TempDir(), "mnt"), Note: t.Logf}
}

func TestOpen(t *testing.T) {
	v20 := &ntfstest.Restart{Major: 2, LSN: 0x100000}
	v11 := &ntfstest.Restart{Major: 1, Minor: 1, LSN: 0x100000}
	future := &ntfstest.Restart{Major: 3, LSN: 0x100000}
	saved := "hibr" + strings.Repeat("\x01", 8192)
	hibernated := []ntfstest.File{{Name: "hiberfil.sys", Content: saved}}
	otherCase := []ntfstest.File{{Name: "HiberFil.SYS", Content: saved}}
	givenUp := []ntfstest.File{{Name: "hiberfil.sys", Content: strings.Repeat("\x00", 8192)}}
	for name, c := range map[string]struct {
		more    []ntfstest.File
		log     *ntfstest.Restart
		dirty   bool // the flag by which Windows remembers to run chkdsk
		allow   wire.Allow
		refused func(error) bool // nil where it must open
	}{
		"clean":                {},
		"2.0 beyond replay":    {log: v20, refused: isJournal},
		"1.1 beyond replay":    {log: v11, refused: isJournal},
		"2.0, may be lost":     {log: v20, allow: wire.Allow{DropJournal: true}},
		"1.1, may be lost":     {log: v11, allow: wire.Allow{DropJournal: true}},
		"dirty flag":           {dirty: true},
		"session given up":     {more: givenUp},
		"hibernated":           {more: hibernated, refused: isHibernated},
		"HiberFil.SYS":         {more: otherCase, refused: isHibernated},
		"hibernated and 2.0":   {more: hibernated, log: v20, refused: isHibernated},
		"hibernated, allowed":  {more: hibernated, allow: wire.Allow{Hibernated: true}},
		"unknown journal":      {log: future, refused: isJournal},
		"unknown, may be lost": {log: future, allow: wire.Allow{DropJournal: true}},
	} {
		t.Run(name, func(t *testing.T) {
			needMount(t)
			image := ntfstest.Volume(t, windows(c.more...)...)
			if c.log != nil {
				ntfstest.SetLog(t, image, *c.log)
			}
			if c.dirty {
				ntfstest.Run(t, "ntfsfix", image)
			}
			before := sum(t, image)
			n := ntfs(t, image)
			v, closer, err := n.Open(t.Context(), true, c.allow)
			if c.refused != nil {
				if err == nil {
					closer.Close()
				}
				if !c.refused(err) {
					t.Fatalf("got %v", err)
				}
				if sum(t, image) != before {
					t.Error("a volume that was refused was changed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(v.Remove(faulty), closer.Close()); err != nil {
				t.Fatal(err)
			}
			checkRepaired(t, image)
			if c.dirty && !strings.Contains(ntfstest.Run(t, "ntfsinfo", "-m", "-f", image), "Volume Flags: 0x0001") {
				t.Error("the dirty flag is gone: Windows would not run chkdsk")
			}
		})
	}
}

// TestOpenReplays is the normal case: Windows crashed, with work in its journal.
func TestOpenReplays(t *testing.T) {
	for name, major := range map[string]uint16{"Windows 7": 1, "Windows 10": 2} {
		t.Run(name, func(t *testing.T) {
			needMount(t)
			image := ntfstest.Crashed(t, major, windows()...)
			if l := readLog(t, image); l.Clean || l.Major != int(major) {
				t.Fatalf("the test's own volume has a journal that is %s", l)
			}
			n := ntfs(t, image)
			v, closer, err := n.Open(t.Context(), true, wire.Allow{})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(v.Remove(faulty), closer.Close()); err != nil {
				t.Fatal(err)
			}
			if l := readLog(t, image); l.Empty || l.Major != 1 || !l.Clean {
				t.Errorf("the journal is %s now", l)
			}
			checkRepaired(t, image)
		})
	}
}

func readLog(t *testing.T, image string) linux.Log {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := linux.ReadLog(f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func isHibernated(err error) bool { return errors.Is(err, linux.ErrHibernated) }

func isJournal(err error) bool {
	var je *linux.JournalError
	return errors.As(err, &je)
}

// checkRepaired looks from outside: the faulty file gone, the good one untouched.
func checkRepaired(t *testing.T, image string) {
	t.Helper()
	if got, err := ntfstest.Cat(image, good); err != nil || got != "good" {
		t.Errorf("the good file reads %q, %v", got, err)
	}
	if got, err := ntfstest.Cat(image, faulty); err == nil {
		t.Errorf("the faulty file is still there, %d bytes", len(got))
	}
}

func TestOpenToReadChangesNothing(t *testing.T) {
	for name, log := range map[string]*ntfstest.Restart{
		"clean":       nil,
		"1.1 unclean": {Major: 1, Minor: 1, LSN: 1 << 20},
		"2.0 unclean": {Major: 2, LSN: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			needMount(t)
			image := ntfstest.Volume(t, windows(ntfstest.File{Name: "hiberfil.sys", Content: "hibr" + strings.Repeat("\x01", 8192)})...)
			if log != nil {
				ntfstest.SetLog(t, image, *log)
			}
			before := sum(t, image)
			v, closer, err := ntfs(t, image).Open(t.Context(), false, wire.Allow{Hibernated: true, DropJournal: true})
			if err != nil {
				t.Fatal(err)
			}
			b, err := fs.ReadFile(v, good)
			if err != nil || string(b) != "good" {
				t.Errorf("read %q, %v", b, err)
			}
			if err := v.Remove(faulty); err == nil {
				t.Error("removed a file from a volume opened to read")
			}
			if err := closer.Close(); err != nil {
				t.Fatal(err)
			}
			if sum(t, image) != before {
				t.Error("reading changed the volume")
			}
		})
	}
}

func TestOpenLeavesNothingBehind(t *testing.T) {
	needMount(t)
	image := ntfstest.Volume(t, windows()...)
	n := ntfs(t, image)
	_, closer, err := n.Open(t.Context(), true, wire.Allow{})
	if err != nil {
		t.Fatal(err)
	}
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(n.Mounts)
	if err != nil || len(entries) != 0 {
		t.Errorf("mount points left: %v, %v", entries, err)
	}
	// ntfs-3g holds a lock while it works: that the next can write shows that it has ended.
	if _, closer, err = n.Open(t.Context(), true, wire.Allow{}); err != nil {
		t.Fatal(err)
	}
	if err := closer.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenWhatIsNoVolume(t *testing.T) {
	needMount(t)
	image := ntfstest.Volume(t, windows()...)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"zeros": empty, "missing": empty + "x"} {
		if _, _, err := ntfs(t, path).Open(t.Context(), false, wire.Allow{}); err == nil || !strings.Contains(err.Error(), "cannot mount") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := sum(t, image)
	_, closer, err := ntfs(t, image).Open(ctx, true, wire.Allow{})
	if err == nil {
		closer.Close()
		t.Error("opened after its context had ended")
	}
	if sum(t, image) != before {
		t.Error("a volume that was not opened was changed")
	}
}
