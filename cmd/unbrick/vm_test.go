package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/lab"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/vm"
)

// TestRealHost is the whole thread on a computer: a host in QEMU with Secure Boot on loops
// because of a file on its NTFS volume; unbrick run repairs it over Redfish virtual media; it
// comes up; and its volume, read from outside, has lost exactly that file.
func TestRealHost(t *testing.T) {
	testenv.Need(t, "qemu-system-x86_64", "mkntfs", "ntfs-3g", "wimapply", "sfdisk", "mcopy", "xorriso", "grub-mkimage", "depmod",
		"apt-get", "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/lib/shim/shimx64.efi.signed")
	l := startTestLab(t, lab.Options{Hosts: 2, Plain: true, VM: true, Say: func(line string) { t.Log(line) }})
	host := l.Real()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := host.Await(ctx, "STOP", 1); err != nil {
		t.Fatalf("the host does not loop: %v", err)
	}
	before := filepath.Join(t.TempDir(), "before.img") // nothing has written to the disk yet
	if out, err := exec.Command("cp", "--sparse=always", host.DiskImage(), before).CombinedOutput(); err != nil {
		t.Fatalf("cannot copy the disk: %v: %s", err, out)
	}
	started := time.Now()
	s := unbrick(t, runOn(l)...)
	if code := s.run(t); code != exitDone {
		t.Fatalf("exit code %d:\n%s%s", code, s.stdout.String(), s.stderr.String())
	}
	t.Logf("repaired in %s", time.Since(started).Round(time.Second))
	checkVerdicts(t, l)
	if left := l.Leftovers(); len(left) > 0 {
		t.Errorf("not put back:\n%s", strings.Join(left, "\n"))
	}
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	compareVolumes(t, before, host.DiskImage())
}

// compareVolumes says whether after differs from before by the faulty file alone.
func compareVolumes(t *testing.T, before, after string) {
	t.Helper()
	was, err := vm.ReadVolume(before)
	if err != nil {
		t.Fatal(err)
	}
	is, err := vm.ReadVolume(after)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := was[vm.FaultyFile]; !ok {
		t.Fatal("the faulty file was not there to begin with")
	}
	delete(was, vm.FaultyFile)
	for name, f := range was {
		if is[name] != f {
			t.Errorf("%s was %+v and is %+v", name, f, is[name])
		}
	}
	for name := range is {
		if _, ok := was[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
}
