package libvirt_test

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/libvirt"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// newDriver returns the driver, and the target of a domain on the daemon.
func newDriver(d *daemon, uri, domain string, change func(*swap.Options)) (*swap.Driver, remediate.Target) {
	o := swap.Options{Way: "libvirt", Platform: libvirt.New(libvirt.Options{}), Desk: desk{}, Records: &rescue.MemRecords{}}
	if change != nil {
		change(&o)
	}
	scheme, path, _ := strings.Cut(uri, "://")
	return swap.New(o), remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: domain}, Route: inventory.Route{
		Driver: "libvirt", Address: scheme + "+unix://" + path + "?name=" + url.QueryEscape(domain) + "&socket=" + url.QueryEscape(d.Socket)}}
}

// Every refusal says what to do instead, and comes before anything is changed.
func TestRefusals(t *testing.T) {
	d := startDaemon(t)
	const uri = "test:///default"
	l := d.control(t, uri)
	disk := func(file, more string) string {
		return fmt.Sprintf(`<disk type='file' device='disk'><source file='%s'/><target dev='vda' bus='virtio'/>%s</disk>`, file, more)
	}
	domain := func(name, devices string) string {
		return fmt.Sprintf(`<domain type='test'><name>%s</name><memory>65536</memory><os><type>hvm</type></os><devices>%s</devices></domain>`, name, devices)
	}
	start(t, l, define(t, l, domain("unbrick-helper", "")))
	define(t, l, domain("twin", disk("/images/twice.img", "")))
	for name, c := range map[string]struct {
		devices string
		change  func(t *testing.T, l *lib.Libvirt, dom lib.Domain)
		want    string
	}{
		"shared":          {disk("/images/1.img", "<shareable/>"), nil, "shared with other domains"},
		"read-only":       {disk("/images/1.img", "<readonly/>"), nil, "read-only"},
		"thrown away":     {disk("/images/1.img", "<transient/>"), nil, "thrown away"},
		"no disk":         {"", nil, "no disk of its own"},
		"a CD alone":      {`<disk type='file' device='cdrom'><source file='/images/cd.iso'/><target dev='hda' bus='ide'/></disk>`, nil, "no disk of its own"},
		"another has it":  {disk("/images/twice.img", ""), nil, "domain twin has /images/twice.img too"},
		"nothing in it":   {`<disk type='vhostuser' device='disk'><driver name='qemu'/><source type='unix' path='/run/v'/><target dev='vda' bus='virtio'/></disk>`, nil, `of type "vhostuser"`},
		"saved to a file": {disk("/images/1.img", ""), save, "virsh managedsave-remove"},
	} {
		t.Run(name, func(t *testing.T) {
			dom := define(t, l, domain("ws1", c.devices))
			start(t, l, dom)
			stood := remediate.Posture{Power: "on"}
			if c.change != nil {
				c.change(t, l, dom)
				stood.Power = "off"
			}
			before := inactive(t, l, dom)
			driver, target := newDriver(d, uri, "ws1", nil)
			for what, err := range map[string]error{
				"observe": func() error { _, err := driver.Observe(t.Context(), target); return err }(),
				"enter":   driver.Enter(t.Context(), target, remediate.Image{}),
			} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v, want %q", what, err, c.want)
				}
			}
			if inactive(t, l, dom) != before {
				t.Error("the domain was changed")
			}
			if err := driver.Leave(t.Context(), target, stood); err != nil {
				t.Errorf("what was not touched cannot be left: %v", err)
			}
		})
	}
}

func save(t *testing.T, l *lib.Libvirt, dom lib.Domain) {
	t.Helper()
	if err := l.DomainManagedSave(dom, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.DomainManagedSaveRemove(dom, 0) })
}

// Where there is nothing to swap, or nothing to hang it on, the error says which.
func TestNotThere(t *testing.T) {
	d := startDaemon(t)
	const uri = "test:///default"
	l := d.control(t, uri)
	driver, target := newDriver(d, uri, "nobody", nil)
	if _, err := driver.Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), `no domain "nobody": was it moved`) {
		t.Error(err)
	}
	dom, err := l.DomainCreateXML(`<domain type='test'><name>brief</name><memory>65536</memory><os><type>hvm</type></os></domain>`, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.DomainDestroy(dom) })
	driver, target = newDriver(d, uri, "brief", nil)
	if _, err := driver.Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), "it is transient") {
		t.Error(err)
	}
	driver, target = newDriver(d, uri, "test", nil) // the one that is there from the start
	if _, err := driver.Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), "no helper for libvirt 6695eb01-f6a4-8304-79aa-97f2502e193f runs") {
		t.Error(err)
	}
	start(t, l, define(t, l, `<domain type='test'><name>unbrick-helper</name><memory>65536</memory><os><type>hvm</type></os><devices/></domain>`))
	target.Route.Address = strings.Replace(target.Route.Address, "name=test", "name=6695eb01-f6a4-8304-79aa-97f2502e193f", 1)
	p, err := driver.Observe(t.Context(), target)
	if err != nil || p.Power != "on" || p.Detail["volume"] != "/guest/diskimage1 as vda of test" {
		t.Errorf("by its UUID: %v, %v", p, err)
	}
}

// TestSnapshot makes one inside a qcow2 image.
func TestSnapshot(t *testing.T) {
	testenv.Need(t, "qemu-img")
	d := startDaemon(t)
	l := d.control(t, "qemu:///session")
	dir := d.folder(t)
	start(t, l, define(t, l, machine("unbrick-helper", "7b0c1f3e-0000-4000-8000-0000000000fd", "", "<controller type='scsi' model='virtio-scsi'/>")))
	file := filepath.Join(dir, "c.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-f", "qcow2", file, "1M").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := d.Give(file); err != nil {
		t.Fatal(err)
	}
	dom := define(t, l, machine("ws7", "7b0c1f3e-0000-4000-8000-000000000007", "", fmt.Sprintf(
		`<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>`, file)))
	before := inactive(t, l, dom)
	records := &rescue.MemRecords{}
	driver, target := newDriver(d, "qemu:///session", "ws7", func(o *swap.Options) { o.Snapshot, o.Records = true, records })
	if err := driver.Enter(t.Context(), target, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	if err := driver.Leave(t.Context(), target, remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	all, err := swap.NewJournal(records).All(t.Context())
	if err != nil || len(all) != 1 || !all[0].Ended || !all[0].Snapshot {
		t.Fatalf("the journal has %+v, %v", all, err)
	}
	snapshot, err := l.DomainSnapshotLookupByName(dom, all[0].Mark, 0)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "snapshot", "-U", "-l", file).CombinedOutput(); err != nil || !strings.Contains(string(out), all[0].Mark) {
		t.Errorf("%v: %s", err, out)
	}
	found := func(want bool) {
		t.Helper()
		if has, err := swap.HasSnapshot(t.Context(), libvirt.New(libvirt.Options{}), all[0]); err != nil || has != want {
			t.Errorf("the snapshot is found: %v, %v; want %v", has, err, want)
		}
	}
	found(true)
	if err := l.DomainSnapshotDelete(snapshot, 0); err != nil {
		t.Errorf("what the journal names cannot be removed: %v", err)
	}
	found(false)
	if after := inactive(t, l, dom); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}
