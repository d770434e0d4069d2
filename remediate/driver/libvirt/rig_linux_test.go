package libvirt_test

import (
	"bytes"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/libvirt"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// TestDriver passes the suite over a real daemon's test driver, cut at every call. That driver
// keeps and defines domains as QEMU's does, and cannot hang a disk on one that runs: the line
// between does that.
func TestDriver(t *testing.T) {
	d := startDaemon(t)
	l := d.control(t, "test:///default") // the driver forgets all when nobody is connected
	n := 0
	drivertest.Run(t, func(t *testing.T) drivertest.Rig {
		removeAll(t, l) // what another rig left would take requests of its own
		n++
		return newRig(t, d, l, n)
	})
}

// removeAll removes every domain but the driver's own.
func removeAll(t *testing.T, l *lib.Libvirt) {
	t.Helper()
	all, _, err := l.ConnectListAllDomains(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, dom := range all {
		if dom.Name == "test" {
			continue
		}
		_ = l.DomainDestroy(dom) // it may be off
		if err := l.DomainUndefine(dom); err != nil {
			t.Fatal(err)
		}
	}
}

func newRig(t *testing.T, d *daemon, l *lib.Libvirt, n int) drivertest.Rig {
	t.Helper()
	name, helper := fmt.Sprintf("ws%d", n), fmt.Sprintf("helper%d", n)
	xml := func(name, devices string) string {
		return fmt.Sprintf(`<domain type='test'><name>%s</name><memory>65536</memory><os><type>hvm</type></os><devices>%s</devices></domain>`, name, devices)
	}
	file := fmt.Sprintf("/images/%d.img", n)
	dom := define(t, l, xml(name, fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/><boot order='1'/></disk>
<disk type='file' device='disk'><source file='/images/data%d.img'/><target dev='vdb' bus='virtio'/></disk>`, file, n)))
	start(t, l, dom)
	start(t, l, define(t, l, xml(helper, "<controller type='scsi' model='virtio-scsi'/>")))
	before := inactive(t, l, dom)
	p := newLine(t, d, helper, name)
	image := remediate.Image{URL: "http://192.0.2.1/i/" + name + "/rescue.iso"}
	p.image = image.URL
	return drivertest.Rig{
		Driver: swap.New(swap.Options{
			Way: "libvirt", Platform: libvirt.New(libvirt.Options{Helpers: []string{helper}}), Desk: desk{}, Records: &rescue.MemRecords{},
		}),
		Target: remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: name},
			Route: inventory.Route{Driver: "libvirt", Address: "test+unix:///default?name=" + name + "&socket=" + url.QueryEscape(p.socket)}},
		Image: image,
		Boots: p.booted, Actions: p.done, Requests: p.asked, Cut: p.order, Revive: p.revive, Hang: p.hang,
		Left: func() string {
			switch {
			case p.lent() != "":
				return "on the helper: " + p.lent()
			case inactive(t, l, dom) != before:
				return "another XML:\n" + inactive(t, l, dom)
			case state(t, l, dom) != lib.DomainRunning:
				return "a domain that is off"
			}
			return ""
		},
	}
}

// What is asked for, by its number in the protocol.
const (
	procCreate  = 9
	procXML     = 14
	procDestroy = 234
	procDefine  = 350
	procAttach  = 160
	procDetach  = 161
)

// A line is between driver and daemon. It counts requests, loses them as it is told, and hangs
// disks on the helper.
type line struct {
	d            *daemon
	socket       string
	helper, host string
	image        string // what a disk on the helper counts as

	mu       sync.Mutex
	requests []bool
	actions  int
	boots    []string
	disks    string // elements on the helper
	cut      int    // requests from now; -1: none
	loss     drivertest.Loss
	dead     bool
	hanging  bool
}

func newLine(t *testing.T, d *daemon, helper, host string) *line {
	t.Helper()
	p := &line{d: d, helper: helper, host: host, cut: -1, socket: filepath.Join(d.folder(t), "s")}
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
		answer, err := p.answer(server, request)
		if err != nil || loss != "" {
			return
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

// admit counts a request and says how it is lost; ok is false if it is never answered.
func (p *line) admit(request packet) (loss drivertest.Loss, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return drivertest.LostBefore, true
	}
	changes := request.changes()
	p.requests = append(p.requests, changes)
	if p.cut == 0 {
		loss = p.loss
		p.dead = loss == drivertest.Death
	}
	p.cut = max(p.cut-1, -1)
	return loss, !p.hanging
}

// answer has the request done, by the daemon or here.
func (p *line) answer(server net.Conn, request packet) (packet, error) {
	mine := request.domain() == p.helper
	if mine && (request.proc() == procAttach || request.proc() == procDetach) {
		return p.hangDisk(request)
	}
	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	answer, err := readPacket(server)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if request.changes() && answer.fine() {
		p.actions++
		if request.proc() == procCreate {
			p.boots = append(p.boots, drivertest.Disk)
		}
	}
	if mine && request.proc() == procXML && answer.fine() {
		text, _ := cutText(answer[packetHead:])
		answer = answer.with(appendText(nil, strings.Replace(text, "<devices>", "<devices>"+p.disks, 1)))
	}
	return answer, nil
}

// hangDisk does what QEMU does with a disk.
func (p *line) hangDisk(request packet) (packet, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, rest := cutText(request[packetHead:])
	element, _ := cutText(rest[lib.UUIDBuflen+4:])
	element = strings.TrimSpace(element)
	if err := xml.Unmarshal([]byte(element), new(struct{})); err != nil {
		return nil, err
	}
	if request.proc() == procAttach {
		if p.disks != "" {
			return nil, errors.New("a disk was attached twice")
		}
		p.disks = element
		p.boots = append(p.boots, p.image)
	} else {
		if p.disks != element {
			return nil, errors.New("another disk was detached than was attached")
		}
		p.disks = ""
	}
	p.actions++
	answer := request.with(nil)
	binary.BigEndian.PutUint32(answer[16:], 1) // a reply
	return answer, nil
}

func (p *line) order(n int, l drivertest.Loss) { p.mu.Lock(); p.cut, p.loss = n, l; p.mu.Unlock() }
func (p *line) revive()                        { p.mu.Lock(); p.dead = false; p.mu.Unlock() }
func (p *line) hang()                          { p.mu.Lock(); p.hanging = true; p.mu.Unlock() }
func (p *line) booted() []string               { p.mu.Lock(); defer p.mu.Unlock(); return p.boots }
func (p *line) done() int                      { p.mu.Lock(); defer p.mu.Unlock(); return p.actions }
func (p *line) asked() []bool                  { p.mu.Lock(); defer p.mu.Unlock(); return p.requests }
func (p *line) lent() string                   { p.mu.Lock(); defer p.mu.Unlock(); return p.disks }

// A packet of libvirt's protocol: its length, six numbers, and what is in it, as XDR.
type packet []byte

const packetHead = 4 + 6*4

func readPacket(r io.Reader) (packet, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head))
	copy(b, head)
	_, err := io.ReadFull(r, b[4:])
	return b, err
}

func (p packet) proc() uint32 { return binary.BigEndian.Uint32(p[12:]) }
func (p packet) fine() bool   { return binary.BigEndian.Uint32(p[24:]) == 0 }

func (p packet) changes() bool {
	switch p.proc() {
	case procCreate, procDestroy, procDefine, procAttach, procDetach:
		return true
	}
	return false
}

// domain is the domain that a request is about, where it begins with one.
func (p packet) domain() string {
	switch p.proc() {
	case procXML, procAttach, procDetach:
		name, _ := cutText(p[packetHead:])
		return name
	}
	return ""
}

// with returns the packet with another content.
func (p packet) with(content []byte) packet {
	b := append(bytes.Clone(p[:packetHead]), content...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func cutText(b []byte) (text string, rest []byte) {
	n := int(binary.BigEndian.Uint32(b))
	return string(b[4 : 4+n]), b[4+(n+3)/4*4:]
}

func appendText(b []byte, text string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return append(b, make([]byte, (4-len(text)%4)%4)...)
}
