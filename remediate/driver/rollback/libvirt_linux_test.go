package rollback_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
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
		patient.Requests, patient.Cut, patient.Revive, patient.Hang = p.asked, p.order, p.revive, p.hang
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

// A line is between driver and daemon. It counts requests, and loses them as it is told.
type line struct {
	d      *libvirttest.Daemon
	socket string

	mu       sync.Mutex
	requests []bool
	well     map[uint32]int // what went well, by procedure
	cut      int            // requests from now; -1: none
	loss     drivertest.Loss
	dead     bool
	hanging  bool
}

func newLine(t *testing.T, d *libvirttest.Daemon) *line {
	t.Helper()
	p := &line{d: d, cut: -1, well: map[uint32]int{}, socket: filepath.Join(folder(t, d), "s")}
	ls, err := net.Listen("unix", p.socket)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ls.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() { ls.Close(); all.Wait() })
	return p
}

// serve answers one connection until either end closes it or the line is cut.
func (p *line) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.d.Socket)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		request, err := readPacket(client)
		if err != nil {
			return
		}
		loss, ok := p.admit(request)
		if !ok {
			_, _ = io.Copy(io.Discard, client) // until the other end gives up
			return
		}
		if loss == drivertest.LostBefore {
			return
		}
		if _, err := server.Write(request); err != nil {
			return
		}
		answer, err := readPacket(server)
		if err != nil {
			return
		}
		if binary.BigEndian.Uint32(answer[24:]) == 0 {
			p.mu.Lock()
			p.well[proc(request)]++
			p.mu.Unlock()
		}
		if loss != "" {
			return
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

// admit counts a request and says how it is lost; ok is false if it is never answered.
func (p *line) admit(request []byte) (loss drivertest.Loss, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return drivertest.LostBefore, true
	}
	changes := false
	switch proc(request) {
	case procCreate, procSnapshot, procRevert, procDestroy:
		changes = true
	}
	p.requests = append(p.requests, changes)
	if p.cut == 0 {
		loss = p.loss
		p.dead = loss == drivertest.Death
	}
	p.cut = max(p.cut-1, -1)
	return loss, !p.hanging
}

// readPacket reads one of libvirt's protocol: its length, six numbers, and what is in it.
func readPacket(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 28 {
		return nil, fmt.Errorf("a packet of %d bytes", n)
	}
	b := make([]byte, n)
	copy(b, head)
	_, err := io.ReadFull(r, b[4:])
	return b, err
}

func proc(packet []byte) uint32 { return binary.BigEndian.Uint32(packet[12:]) }

func (p *line) order(n int, l drivertest.Loss) { p.mu.Lock(); p.cut, p.loss = n, l; p.mu.Unlock() }
func (p *line) revive()                        { p.mu.Lock(); p.dead = false; p.mu.Unlock() }
func (p *line) hang()                          { p.mu.Lock(); p.hanging = true; p.mu.Unlock() }
func (p *line) asked() []bool                  { p.mu.Lock(); defer p.mu.Unlock(); return p.requests }
func (p *line) fine(proc uint32) int           { p.mu.Lock(); defer p.mu.Unlock(); return p.well[proc] }
