package rollback_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/libvirt/libvirttest"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
)

// bootSector is an operating system: it says a word on the serial line, and halts, or resets the
// machine.
func bootSector(word string, resets bool) []byte {
	b := make([]byte, 512)
	copy(b, []byte{0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x20, 0x7c, // ds=0, si=message
		0xac, 0x84, 0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5}) // each letter to port 3f8
	end := []byte{0xf4, 0xeb, 0xfd} // hlt
	if resets {
		end = append([]byte{0xb0, 0xfe, 0xe6, 0x64}, end...) // by the keyboard controller
	}
	copy(b[0x12:], end)
	copy(b[0x20:], word+"\n")
	b[510], b[511] = 0x55, 0xaa
	return b
}

// A guest is a domain with a disk that boots.
type guest struct {
	d                  *libvirttest.Daemon
	l                  *lib.Libvirt
	dom                lib.Domain
	name, disk, serial string
}

func newGuest(t *testing.T, uuid string) *guest {
	t.Helper()
	testenv.Need(t, "qemu-img")
	d := startDaemon(t)
	g := &guest{d: d, l: control(t, d, "qemu:///session"), name: "ws" + uuid[len(uuid)-2:]}
	dir := folder(t, d)
	g.disk, g.serial = filepath.Join(dir, "disk.qcow2"), filepath.Join(dir, "serial.log")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", g.disk, "1M")
	if err := d.Give(g.disk); err != nil {
		t.Fatal(err)
	}
	g.dom = define(t, g.l, fmt.Sprintf(`<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><on_reboot>restart</on_reboot><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
<serial type='file'><source path='%s'/></serial><video><model type='none'/></video><memballoon model='none'/></devices></domain>`, g.name, uuid, g.disk, g.serial))
	return g
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// write makes a boot sector the content of the disk; its snapshots stay.
func (g *guest) write(t *testing.T, sector []byte) {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, append(sector, make([]byte, 1<<20-len(sector))...), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", raw, g.disk)
}

func (g *guest) start(t *testing.T) {
	t.Helper()
	if err := g.l.DomainCreate(g.dom); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) stop(t *testing.T) {
	t.Helper()
	if err := g.l.DomainDestroyFlags(g.dom, lib.DomainDestroyGraceful); err != nil {
		t.Fatal(err)
	}
}

// says waits until the serial line has the word n times since it was opened.
func (g *guest) says(t *testing.T, word string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		b, _ := os.ReadFile(g.serial)
		if bytes.Count(b, []byte(word)) >= n {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the guest does not say %q %d times: %q", word, n, b)
		case <-time.After(50 * time.Millisecond): // QEMU writes it to a file, and tells nobody
		}
	}
}

func (g *guest) driver(before time.Time) (*rollback.Driver, remediate.Target) {
	d := rollback.New(rollback.Options{Way: "libvirt-rollback", Platform: rollback.Libvirt(), Records: &rescue.MemRecords{},
		Before: before, Allowed: true, Every: 50 * time.Millisecond})
	return d, remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: g.name, Tier: inventory.Normal},
		Route: inventory.Route{Driver: "libvirt-rollback", Address: "qemu+unix:///session?name=" + g.name + "&socket=" + url.QueryEscape(g.d.Socket)}}
}

// TestWholeWay: a guest of QEMU comes up, is kept, gets what makes it loop, goes back, and comes
// up; and its snapshot of the present is what it was when it looped. It does so by a snapshot of
// its disk, and by one with its memory, which is not gone on with.
func TestWholeWay(t *testing.T) {
	for n, c := range []struct{ memory bool }{{false}, {true}} {
		t.Run(fmt.Sprintf("memory %v", c.memory), func(t *testing.T) {
			t.Parallel() // most of it is waiting for the BIOS
			g := newGuest(t, fmt.Sprintf("7b0c1f3e-0000-4000-8000-0000000007%02d", n))
			g.write(t, bootSector("is up", false))
			if c.memory {
				g.start(t)
				g.says(t, "is up", 1)
			}
			snapshot(t, g.l, g.dom, "nightly")
			if c.memory {
				g.stop(t)
			}
			g.write(t, bootSector("STOP", true))
			g.start(t)
			g.says(t, "STOP", 2)

			d, target := g.driver(time.Now().Add(time.Second))
			p, err := d.Observe(t.Context(), target)
			if err != nil || p.Power != "on" || !strings.HasPrefix(p.Detail["snapshot"], "nightly of ") || (p.Detail["memory"] != "") != c.memory {
				t.Fatalf("%v, %v", p, err)
			}
			rep, err := d.Repair(t.Context(), target, nil)
			if err != nil || rep.Proof() != nil {
				t.Fatalf("%+v: %v, %v", rep, err, rep.Proof())
			}
			said := rep.Changed()[0].Why
			all, current := names(t, g.l, g.dom)
			mark, n := kept(all)
			if n != 1 || current != "nightly" || !strings.HasPrefix(said, "rolled back to nightly of ") || !strings.Contains(said, "virsh snapshot-delete 7b0c1f3e-0000-4000-8000-0000000007") || !strings.Contains(said, mark) {
				t.Errorf("%s; snapshots %q, now %s", said, all, current)
			}
			if err := d.Leave(t.Context(), target, p); err != nil {
				t.Fatal(err)
			}
			g.says(t, "is up", 1)

			// What was can be had again.
			g.stop(t)
			one, err := g.l.DomainSnapshotLookupByName(g.dom, mark, 0)
			if err == nil {
				err = g.l.DomainRevertToSnapshot(one, uint32(lib.DomainSnapshotRevertRunning))
			}
			if err != nil {
				t.Fatal(err)
			}
			g.says(t, "STOP", 1)
		})
	}
}

// TestLibvirtRefuses: machines of a real libvirt that must not go back, each told what to do.
func TestLibvirtRefuses(t *testing.T) {
	for n, c := range []struct {
		want   string
		change func(t *testing.T, g *guest)
	}{
		{"it is kept outside the image (external)", func(t *testing.T, g *guest) {
			_, err := g.l.DomainSnapshotCreateXML(g.dom, "<domainsnapshot><name>backup</name></domainsnapshot>", uint32(lib.DomainSnapshotCreateDiskOnly))
			if err != nil {
				t.Fatal(err)
			}
		}},
		{"the domain had other disks then: [\"vda on ", func(t *testing.T, g *guest) {
			other := filepath.Join(filepath.Dir(g.disk), "b.qcow2")
			run(t, "qemu-img", "create", "-q", "-f", "qcow2", other, "1M")
			g.redefine(t, "<serial ", fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='%s'/><target dev='vdb' bus='virtio'/></disk><serial `, other))
		}},
		{"disk vdb is shared with other domains", func(t *testing.T, g *guest) {
			g.redefine(t, "<serial ", fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vdb' bus='virtio'/><shareable/></disk><serial `, g.serial))
		}},
		{"its memory was saved", func(t *testing.T, g *guest) {
			g.start(t)
			if err := g.l.DomainManagedSave(g.dom, 0); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, fmt.Sprintf("7b0c1f3e-0000-4000-8000-0000000008%02d", 10+n))
			snapshot(t, g.l, g.dom, "nightly")
			c.change(t, g)
			d, target := g.driver(time.Now().Add(2 * time.Second))
			if _, err := d.Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "\n") {
				t.Errorf("want %q and what to do, got %v", c.want, err)
			}
			if _, n := kept(first(names(t, g.l, g.dom))); n > 0 {
				t.Error("it was touched")
			}
		})
	}
}

func first(all []string, _ string) []string { return all }

// redefine changes how the domain is defined.
func (g *guest) redefine(t *testing.T, old, new string) {
	t.Helper()
	text, err := g.l.DomainGetXMLDesc(g.dom, lib.DomainXMLInactive)
	if err != nil || !strings.Contains(text, old) {
		t.Fatalf("no %q in %s, %v", old, text, err)
	}
	if _, err := g.l.DomainDefineXML(strings.Replace(text, old, new, 1)); err != nil {
		t.Fatal(err)
	}
}
