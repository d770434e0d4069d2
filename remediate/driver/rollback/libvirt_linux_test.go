package rollback_test

import (
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/libvirt/libvirttest"
	"unbrick/remediate/driver/rollback"
)

// TestLibvirt passes the suite over a real daemon's test driver, cut at every call. That driver
// keeps domains and snapshots as QEMU's does, and no disks.
func TestLibvirt(t *testing.T) {
	d := startDaemon(t)
	l := control(t, d, "test:///default") // the driver forgets all when nobody is connected
	var last *lib.Domain
	drivertest.RunRepairer(t, func(t *testing.T) drivertest.Patient {
		if last != nil {
			remove(t, l, *last)
		}
		dom, err := l.DomainDefineXML(`<domain type='test'><name>ws1</name><memory>65536</memory><os><type>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/ws1.qcow2'/><target dev='vda' bus='virtio'/></disk></devices></domain>`)
		if err != nil {
			t.Fatal(err)
		}
		last = &dom
		snapshot(t, l, dom, "nightly")
		p := newLine(t, d)
		m := machine{platform: rollback.Libvirt(), address: "test+unix:///default?name=ws1&socket=" + url.QueryEscape(p.socket),
			start:     func() { _ = l.DomainCreate(dom) }, // it may be on
			snapshots: func() ([]string, string) { return names(t, l, dom) },
			backs:     func() int { return p.fine(procRevert) }, starts: func() int { return p.fine(procCreate) }}
		m.start()
		patient := m.patient(t, "libvirt-rollback")
		patient.Requests, patient.Cut, patient.Revive, patient.Hang = p.Requests, p.order, p.Revive, p.Hang
		return patient
	})
	remove(t, l, *last)
}

// What is asked for, by its number in libvirt's protocol.
const (
	procCreate   = 9
	procSnapshot = 185
	procRevert   = 192
	procDestroy  = 234
)

// A line is between driver and daemon. It counts what went well.
type line struct {
	*libvirttest.Line
	socket string

	mu   sync.Mutex
	well map[uint32]int // by procedure
}

func newLine(t *testing.T, d *libvirttest.Daemon) *line {
	t.Helper()
	p := &line{well: map[uint32]int{}, socket: filepath.Join(folder(t, d), "s")}
	var err error
	if p.Line, err = libvirttest.NewLine(d, p.socket, changes, p.answer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func (p *line) answer(request libvirttest.Packet, ask func() (libvirttest.Packet, error)) (libvirttest.Packet, error) {
	answer, err := ask()
	if err == nil && answer.Fine() {
		p.mu.Lock()
		p.well[request.Proc()]++
		p.mu.Unlock()
	}
	return answer, err
}

func changes(p libvirttest.Packet) bool {
	switch p.Proc() {
	case procCreate, procSnapshot, procRevert, procDestroy:
		return true
	}
	return false
}

func (p *line) order(n int, l drivertest.Loss) {
	p.Cut(n, l == drivertest.LostBefore, l == drivertest.Death)
}
func (p *line) fine(proc uint32) int { p.mu.Lock(); defer p.mu.Unlock(); return p.well[proc] }
