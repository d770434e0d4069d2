package vm_test

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/vm"
)

// What the host says of itself.
const (
	serial = "SN0001"
	uuid   = "4c4c4544-0042-3510-8052-b4c04f4e3132"
	mac    = "52:54:00:12:34:56"
)

// patience is for a whole boot in an emulator on a machine that is busy otherwise.
const patience = 4 * time.Minute

// needs is what a disk is built with, and what runs it.
func needs(t *testing.T) {
	t.Helper()
	testenv.Need(t, "qemu-system-x86_64", "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/lib/shim/shimx64.efi.signed",
		"/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed", "mkfs.vfat", "mcopy", "sfdisk",
		"mkntfs", "ntfs-3g", "wimcapture", "wimapply", "apt-get", "dpkg-deb", "depmod")
}

// shared is where the tests keep what they build once.
var shared string

func TestMain(m *testing.M) {
	var err error
	if shared, err = os.MkdirTemp("", "unbrick-vm-"); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	os.RemoveAll(shared)
	os.Exit(code)
}

// system is built by the first test that needs it.
var system = sync.OnceValues(func() (*vm.System, error) {
	return vm.BuildSystem(context.Background(), vm.SystemOptions{Dir: shared})
})

// newMachine returns a host that is off and goes away with the test.
func newMachine(t *testing.T, d vm.Disk) *vm.Machine {
	t.Helper()
	sys, err := system()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	m, err := vm.New(t.Context(), vm.Options{
		Dir: dir, Name: "WS-0001", Serial: serial, UUID: uuid, MAC: mac,
		System: sys, Disk: d, Accel: os.Getenv("UNBRICK_ACCEL"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "console.log")); t.Failed() && err == nil {
			t.Logf("the console:\n%s", b)
		}
	})
	return m
}
