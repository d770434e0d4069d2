package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker/keytest"
	"unbrick/remediate/lab"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/vm"
)

// TestRealHosts is the whole thread on computers: two hosts in QEMU with Secure Boot on, one
// with a BitLocker volume, loop because of a file on their NTFS volumes; unbrick run repairs
// them over Redfish virtual media; they come up; and their volumes, read from outside, have
// lost exactly that file. One key was released, and no console shows a digit of it.
func TestRealHosts(t *testing.T) {
	testenv.Need(t, "qemu-system-x86_64", "mkntfs", "ntfs-3g", "wimapply", "sfdisk", "mcopy", "xorriso", "grub-mkimage", "depmod",
		"apt-get", "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/lib/shim/shimx64.efi.signed")
	l := startTestLab(t, lab.Options{Hosts: 1, Plain: true, VM: true, Say: func(line string) { t.Log(line) }})
	before := map[string]string{}
	for name, host := range l.Real() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := host.Await(ctx, "STOP", 1); err != nil {
			t.Fatalf("%s does not loop: %v", name, err)
		}
		before[name] = copyDisk(t, host.DiskImage())
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
	for name, host := range l.Real() {
		if err := host.Close(); err != nil {
			t.Fatal(err)
		}
		compareVolumes(t, before[name], host.DiskImage())
		console, err := os.ReadFile(filepath.Join(l.Dir, "vm", name, "console.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range labKeys(t, l) {
			if keytest.Leaks(k, string(console)) {
				t.Errorf("the console of %s shows a recovery key", name)
			}
		}
	}
	ledger, err := os.ReadFile(filepath.Join(l.Dir, "unbrick.ledger"))
	if err != nil || strings.Count(string(ledger), `"actor":"agent of VM-00002"`) != 1 || strings.Contains(string(ledger), "VM-00001") {
		t.Errorf("the ledger should have one release, for VM-00002 (%v):\n%s", err, ledger)
	}
}

// copyDisk copies a disk that nothing has written to yet, with what would be its TPM.
func copyDisk(t *testing.T, disk string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "before.img")
	for _, ending := range []string{"", ".tpm"} {
		if _, err := os.Stat(disk + ending); err != nil {
			continue
		}
		if out, err := exec.Command("cp", "--sparse=always", disk+ending, to+ending).CombinedOutput(); err != nil {
			t.Fatalf("cannot copy the disk: %v: %s", err, out)
		}
	}
	return to
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
