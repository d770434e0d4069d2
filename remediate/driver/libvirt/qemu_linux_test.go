package libvirt_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/libvirt"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// machine is the XML of a domain that QEMU can run in very little.
func machine(name, uuid, inside, devices string) string {
	return fmt.Sprintf(`<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory>16384</memory>
<os><type arch='x86_64' machine='q35'>hvm</type>%s</os><devices>%s<memballoon model='none'/></devices></domain>`, name, uuid, inside, devices)
}

func emptyDisk(t *testing.T, d *daemon, dir, name string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Give(name); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestQEMU swaps disks of domains that QEMU runs, in each of the ways in which libvirt says
// what to boot, and compares their XML, passwords and all, to the letter.
func TestQEMU(t *testing.T) {
	d := startDaemon(t)
	l := d.control(t, "qemu:///session")
	dir := d.folder(t)
	helper := define(t, l, machine("unbrick-helper", "7b0c1f3e-0000-4000-8000-0000000000ff", "", "<controller type='scsi' model='virtio-scsi'/>"))
	start(t, l, helper)
	a, b := emptyDisk(t, d, dir, "a.img"), emptyDisk(t, d, dir, "b.img")
	disk := func(file, dev, bus, more string) string {
		return fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='%s'/><target dev='%s' bus='%s'/>%s</disk>`, file, dev, bus, more)
	}
	vnc := "<graphics type='vnc' passwd='secret'/>"
	for n, c := range map[string]struct{ inside, devices string }{
		"the disk says that it boots":   {"", disk(a, "vda", "virtio", "<serial>WD-1</serial><boot order='1'/>") + disk(b, "vdb", "virtio", "") + vnc},
		"the system says what it boots": {"<boot dev='hd'/>", disk(b, "sdb", "sata", "") + disk(a, "sda", "sata", "<serial>WD-2</serial><address type='drive' controller='0' bus='0' target='0' unit='3'/>") + vnc},
		"two disks boot in order":       {"", disk(b, "vdb", "virtio", "<boot order='10'/>") + disk(a, "vda", "virtio", "<boot order='2'/>")},
		"there is no other disk":        {"<boot dev='cdrom'/><boot dev='hd'/><bootmenu enable='no'/>", disk(a, "vda", "virtio", "")},
	} {
		t.Run(n, func(t *testing.T) {
			dom := define(t, l, machine("ws1", "7b0c1f3e-0000-4000-8000-000000000001", c.inside, c.devices))
			start(t, l, dom)
			before, helperBefore := inactive(t, l, dom), inactive(t, l, helper)
			driver := swap.New(swap.Options{Way: "libvirt", Platform: libvirt.New(libvirt.Options{}), Desk: desk{}, Records: &rescue.MemRecords{}})
			target := remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "ws1"},
				Route: inventory.Route{Driver: "libvirt", Address: "qemu+unix:///session?name=ws1&socket=" + url.QueryEscape(d.Socket)}}
			posture, err := driver.Observe(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			if err := driver.Enter(t.Context(), target, remediate.Image{}); err != nil {
				t.Fatal("enter: ", err)
			}
			live, err := l.DomainGetXMLDesc(helper, 0)
			if err != nil || !strings.Contains(live, a) || strings.Contains(inactive(t, l, dom), a) {
				t.Errorf("the disk hangs on the helper: %v, %v", strings.Contains(live, a), err)
			}
			if s := state(t, l, dom); s != lib.DomainShutoff {
				t.Errorf("the domain is in state %d", s)
			}
			if err := driver.Leave(t.Context(), target, posture); err != nil {
				t.Fatal("leave: ", err)
			}
			if after := inactive(t, l, dom); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
			if s := state(t, l, dom); s != lib.DomainRunning {
				t.Errorf("the domain is in state %d", s)
			}
			if live, err := l.DomainGetXMLDesc(helper, 0); err != nil || strings.Contains(live, a) || inactive(t, l, helper) != helperBefore {
				t.Errorf("the helper is not as it was: %v", err)
			}
		})
	}
}

// A disk that is being copied is not taken from under the copy.
func TestBlockJob(t *testing.T) {
	d := startDaemon(t)
	l := d.control(t, "qemu:///session")
	dir := d.folder(t)
	start(t, l, define(t, l, machine("unbrick-helper", "7b0c1f3e-0000-4000-8000-0000000000fc", "", "<controller type='scsi' model='virtio-scsi'/>")))
	dom := define(t, l, machine("ws9", "7b0c1f3e-0000-4000-8000-000000000009", "", fmt.Sprintf(
		`<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>`, emptyDisk(t, d, dir, "d.img"))))
	start(t, l, dom)
	driver, target := newDriver(d, "qemu:///session", "ws9", nil)
	if _, err := driver.Observe(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	copyTo := fmt.Sprintf("<disk type='file'><source file='%s'/><driver type='raw'/></disk>", filepath.Join(dir, "copy.img"))
	if err := l.DomainBlockCopy(dom, "vda", copyTo, nil, lib.DomainBlockCopyTransientJob); err != nil {
		t.Fatal(err)
	}
	if _, err := driver.Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), "a block job is at work on disk vda") {
		t.Errorf("while it is copied: %v", err)
	}
	if err := driver.Enter(t.Context(), target, remediate.Image{}); err == nil || state(t, l, dom) != lib.DomainRunning {
		t.Errorf("while it is copied: %v, state %d", err, state(t, l, dom))
	}
}

// A disk is not put back while a domain has it that was a helper once and is not named as one
// any more; when it is named again, it is.
func TestForgottenHelper(t *testing.T) {
	d := startDaemon(t)
	l := d.control(t, "qemu:///session")
	dir := d.folder(t)
	start(t, l, define(t, l, machine("unbrick-helper", "7b0c1f3e-0000-4000-8000-0000000000fb", "", "<controller type='scsi' model='virtio-scsi'/>")))
	dom := define(t, l, machine("ws8", "7b0c1f3e-0000-4000-8000-000000000008", "", fmt.Sprintf(
		`<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>`, emptyDisk(t, d, dir, "e.img"))))
	before, records := inactive(t, l, dom), &rescue.MemRecords{}
	driver, target := newDriver(d, "qemu:///session", "ws8", func(o *swap.Options) { o.Records = records })
	if err := driver.Enter(t.Context(), target, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	other, _ := newDriver(d, "qemu:///session", "ws8", func(o *swap.Options) {
		o.Records, o.Platform = records, libvirt.New(libvirt.Options{Helpers: []string{"another"}})
	})
	if err := other.Leave(t.Context(), target, remediate.Posture{}); err == nil || !strings.Contains(err.Error(), "domain unbrick-helper has ") {
		t.Errorf("put back twice: %v", err)
	}
	if s := state(t, l, dom); s != lib.DomainShutoff {
		t.Errorf("the domain is in state %d", s)
	}
	if err := driver.Leave(t.Context(), target, remediate.Posture{}); err != nil || inactive(t, l, dom) != before {
		t.Errorf("put back: %v", err)
	}
}
