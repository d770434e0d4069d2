package vm_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
)

// stepsPlaybook is about a bad driver, as the template in the library, with the file of the
// lab's hosts for the driver.
const stepsPlaybook = `name: lab-driver
title: A bad driver, its service, a torn hive and a forgotten Safe Mode
steps:
  - hives: {}
  - registry:
      hive: SYSTEM
      key: CurrentControlSet\Services\csagent
      value: Start
      type: REG_DWORD
      when: {one-of: [0, 1]}
      with: &DRIVER
      set: 4
  - remove: &DRIVER
  - safeboot: {}
`

// TestSteps has the agent, in the rescue image, change a registry value, restore a torn hive
// and clear the Safe Mode flag, on NTFS as Windows left it and on the EFI system partition. All
// of it is read from outside afterwards, by programs that nobody here wrote.
func TestSteps(t *testing.T) {
	needs(t)
	testenv.Need(t, "xorriso", "grub-mkimage", "ntfsrecover", "ntfscat", "hivexget", "mmd", "mcopy", "/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed",
		"/usr/lib/grub/i386-pc/boot_hybrid.img")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	driver := "{directory: System32/drivers/CrowdStrike, glob: C-00000291*.sys, header: AA AA AA AA, written: {from: 2024-07-19T04:09:00Z, until: 2024-07-19T05:27:00Z}}"
	pb, err := playbooks.Parse("lab", []byte(strings.ReplaceAll(stepsPlaybook, "&DRIVER", driver)))
	if err != nil {
		t.Fatal(err)
	}
	server := startServer(t, ctx, nil)
	m := newMachine(t, vm.Disk{Volume: ntfstest.Crashed(t, 2, hives(t)...)})
	bcd := filepath.Join(t.TempDir(), "BCD")
	if err := errors.Join(os.WriteFile(bcd, hivetest.BCD(hivetest.OtherLoader), 0o600), os.WriteFile(bcd+".LOG", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	fat := m.DiskImage() + "@@1M"
	ntfstest.Run(t, "mmd", "-i", fat, "::/EFI/Microsoft", "::/EFI/Microsoft/Boot")
	ntfstest.Run(t, "mcopy", "-i", fat, bcd, bcd+".LOG", "::/EFI/Microsoft/Boot/")
	bmc, err := redfishtest.Start(redfishtest.Options{User: "root", Password: "calvin", UUID: uuid, Serial: serial, Host: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bmc.Close)
	m.Attach(bmc)
	target := remediate.Target{Run: "r1", Attempt: 1, Route: inventory.Route{Driver: "redfish", Address: bmc.URL()},
		Host: inventory.Host{Name: "WS-0001", Serial: serial, UUID: uuid, MAC: []string{mac}, Address: m.Address()}}
	d := newDriver()
	img, err := server.Image(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Enter(ctx, target, img); err != nil {
		t.Fatal(err)
	}
	report, err := server.Repair(ctx, target, pb)
	m.Stop()
	if err != nil || report.Proof() != nil {
		t.Errorf("%+v: %v, proof %v", report, err, report.Proof())
	}
	if len(report.Removed()) != 1 || len(report.Changed()) != 4 { // a hive, two control sets, a boot entry
		t.Errorf("removed %+v, changed %+v", report.Removed(), report.Changed())
	}

	system := partition(t, m.DiskImage())
	b, err := ntfstest.Cat(system, "Windows/System32/config/SYSTEM")
	if err != nil || hive.Dirty([]byte(b)) {
		t.Fatal("SYSTEM is dirty, or ", err)
	}
	name := filepath.Join(t.TempDir(), "SYSTEM")
	if err := os.WriteFile(name, []byte(b), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"ControlSet001", "ControlSet002"} {
		if start := strings.TrimSpace(ntfstest.Run(t, "hivexget", name, set+`\Services\csagent`, "Start")); start != "4" {
			t.Errorf("Start is %s in %s", start, set)
		}
	}
	if text := ntfstest.Run(t, "hivexget", name, `ControlSet001\Control`, "SystemStartOptions"); !strings.HasPrefix(text, "written as the host crashed") {
		t.Errorf("what the log had is lost: %q", text)
	}
	ntfstest.Run(t, "mcopy", "-n", "-o", "-i", fat, "::/EFI/Microsoft/Boot/BCD", bcd)
	elements := `Objects\` + hivetest.OtherLoader + `\Elements\`
	ntfstest.Run(t, "hivexget", bcd, elements+"12000004", "Element")
	if out, err := exec.Command("hivexget", bcd, elements+"25000080", "Element").CombinedOutput(); err == nil {
		t.Errorf("the Safe Mode flag is still there: %s", out)
	}
}

// hives are the files of windows with real hives in the place of placeholders. SYSTEM was torn
// in the middle of a write, which its log has.
func hives(t *testing.T) []ntfstest.File {
	t.Helper()
	old := hivetest.System(map[string]uint32{"csagent": 1, "ntfs": 0})
	h, err := hive.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	e, err := h.Edit(time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC))
	if err == nil {
		err = e.Set(`ControlSet001\Control`, "SystemStartOptions", hive.String, hivetest.UTF16("written as the host crashed\x00"))
	}
	if err != nil {
		t.Fatal(err)
	}
	next, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w, err := hive.Plan(old, next, make([]byte, 32<<10))
	if err != nil {
		t.Fatal(err)
	}
	torn := append([]byte(nil), w.Begun...)
	clear(torn[4096+512 : 4096+1024])
	const config = "Windows/System32/config/"
	return append(windows()[1:],
		ntfstest.File{Name: config + "SYSTEM", Content: string(torn)},
		ntfstest.File{Name: config + "SYSTEM.LOG1", Content: string(w.Log)},
		ntfstest.File{Name: config + "SYSTEM.LOG2", Content: strings.Repeat("\x00", 8<<10)},
		ntfstest.File{Name: config + "SOFTWARE", Content: string(hivetest.Build(hivetest.Key{Name: "ROOT"}))})
}

// partition returns a copy of the system volume of a disk of the lab, which is the third.
func partition(t *testing.T, disk string) string {
	t.Helper()
	out := ntfstest.Run(t, "sfdisk", "--dump", disk)
	var start string
	for line := range strings.Lines(out) {
		if i := strings.Index(line, "start="); i >= 0 && strings.Contains(line, "EBD0A0A2") {
			start = strings.Trim(strings.Split(line[i+6:], ",")[0], " ")
			break
		}
	}
	name := filepath.Join(t.TempDir(), "system.img")
	ntfstest.Run(t, "dd", "if="+disk, "of="+name, "bs=512", "skip="+start, "conv=sparse", "status=none")
	return name
}
