//go:build linux

package diskimage_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate/lab/testenv"
)

// mount mounts an NTFS image by ntfs-3g, as the fixer does. The function it returns unmounts
// it and waits for the daemon, which writes after umount has returned.
func mount(t *testing.T, img, options string) (dir string, unmount func()) {
	t.Helper()
	testenv.Need(t, "ntfs-3g", "/dev/fuse")
	if os.Geteuid() != 0 {
		testenv.Missing(t, "root, to mount")
	}
	dir = t.TempDir()
	daemon := exec.Command("ntfs-3g", "-o", "no_detach,streams_interface=none,noatime,"+options, img, dir)
	var out bytes.Buffer
	daemon.Stdout, daemon.Stderr = &out, &out
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	for !mounted(dir) {
		select {
		case err := <-ended:
			t.Fatalf("ntfs-3g: %v\n%s", err, &out)
		case <-time.After(2 * time.Millisecond): // no event tells that a mount is there
		}
	}
	done := false
	unmount = func() {
		if done {
			return
		}
		done = true
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
		<-ended
	}
	t.Cleanup(unmount)
	return dir, unmount
}

func mounted(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == 0x65735546 // FUSE
}

func openMount(t *testing.T, dir string) *playbooks.Directory {
	t.Helper()
	v, err := playbooks.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDirOverNTFS3G(t *testing.T) {
	volumetest.Run(t, func(t *testing.T, files []volumetest.File) playbooks.Volume {
		dir, _ := mount(t, ntfs(t, 16*mib, files), "rw")
		v := openMount(t, dir)
		t.Cleanup(func() { v.Close() })
		return v
	})
}

// The whole job on a real file system: the faulty files go, and what was there else is read
// afterwards, from outside, byte for byte.
func TestApplyOverNTFS3G(t *testing.T) {
	files := patient()
	img := ntfs(t, 16*mib, files)
	dir, unmount := mount(t, img, "rw")
	v := openMount(t, dir)
	keep, err := playbooks.NewDirKeeper(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	found, err := library(t).Apply(v, keep)
	if err := errors.Join(err, v.Close()); err != nil {
		t.Fatal(err)
	}
	unmount()
	r := playbooks.Result{Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult("v", found, nil)}}
	if len(r.Removed()) != 2 || len(r.Left()) != 0 || r.Verdict() != playbooks.Both {
		t.Errorf("%+v", r)
	}
	gone := map[string]bool{}
	for _, f := range r.Removed() {
		gone[f.Path] = true
	}
	after := open(t, img)
	outside, err := after.Volume(after.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := fs.ReadFile(outside, f.Path)
		switch {
		case gone[f.Path] && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("%s is still on the disk: %v", f.Path, err)
		case !gone[f.Path] && (err != nil || !bytes.Equal(b, f.Content)):
			t.Errorf("%s is not what it was: %v", f.Path, err)
		}
	}
	again, err := diskimage.Try(library(t), img)
	if err != nil || again.Verdict() != playbooks.Good {
		t.Errorf("%+v, %v", again, err)
	}
}

// A mount that fell back to read-only, as ntfs-3g does with exit code 0 on a volume that
// Windows left dirty, is an error and not a success.
func TestApplyOverReadOnlyMount(t *testing.T) {
	dir, unmount := mount(t, ntfs(t, 16*mib, patient()), "ro")
	v := openMount(t, dir)
	keep, err := playbooks.NewDirKeeper(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	found, err := library(t).Apply(v, keep)
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("got %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	unmount()
	r := playbooks.Result{Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult("v", found, err)}}
	if len(r.Removed()) != 0 || len(r.Left()) != 2 {
		t.Errorf("%+v", r)
	}
}
