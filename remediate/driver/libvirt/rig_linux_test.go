package libvirt_test

import (
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
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
	"unbrick/remediate/driver/libvirt/libvirttest"
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
	p := newLine(t, d, helper)
	image := remediate.Image{URL: "http://192.0.2.1/i/" + name + "/rescue.iso"}
	p.image = image.URL
	return drivertest.Rig{
		Driver: swap.New(swap.Options{
			Way: "libvirt", Platform: libvirt.New(libvirt.Options{Helpers: []string{helper}}), Desk: desk{}, Records: &rescue.MemRecords{},
		}),
		Target: remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: name},
			Route: inventory.Route{Driver: "libvirt", Address: "test+unix:///default?name=" + name + "&socket=" + url.QueryEscape(p.socket)}},
		Image: image,
		Boots: p.booted, Actions: p.done, Requests: p.Requests, Cut: p.order, Revive: p.Revive, Hang: p.Hang,
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

// A line is between driver and daemon. It hangs disks on the helper.
type line struct {
	*libvirttest.Line
	socket string
	helper string
	image  string // what a disk on the helper counts as

	mu      sync.Mutex
	actions int
	boots   []string
	disks   string // elements on the helper
}

func newLine(t *testing.T, d *daemon, helper string) *line {
	t.Helper()
	p := &line{helper: helper, socket: filepath.Join(d.folder(t), "s")}
	var err error
	if p.Line, err = libvirttest.NewLine(d.Daemon, p.socket, changes, p.answer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// answer has the request done, by the daemon or here.
func (p *line) answer(request packet, ask func() (packet, error)) (packet, error) {
	mine := domain(request) == p.helper
	if mine && (request.Proc() == procAttach || request.Proc() == procDetach) {
		return p.hangDisk(request)
	}
	answer, err := ask()
	if err != nil || !answer.Fine() {
		return answer, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if changes(request) {
		p.actions++
		if request.Proc() == procCreate {
			p.boots = append(p.boots, drivertest.Disk)
		}
	}
	if mine && request.Proc() == procXML {
		text, _ := cutText(answer[libvirttest.PacketHead:])
		answer = answer.With(appendText(nil, strings.Replace(text, "<devices>", "<devices>"+p.disks, 1)))
	}
	return answer, nil
}

// hangDisk does what QEMU does with a disk.
func (p *line) hangDisk(request packet) (packet, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, rest := cutText(request[libvirttest.PacketHead:])
	element, _ := cutText(rest[lib.UUIDBuflen+4:])
	element = strings.TrimSpace(element)
	if err := xml.Unmarshal([]byte(element), new(struct{})); err != nil {
		return nil, err
	}
	if request.Proc() == procAttach {
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
	return request.Reply(), nil
}

func (p *line) order(n int, l drivertest.Loss) {
	p.Cut(n, l == drivertest.LostBefore, l == drivertest.Death)
}
func (p *line) booted() []string { p.mu.Lock(); defer p.mu.Unlock(); return p.boots }
func (p *line) done() int        { p.mu.Lock(); defer p.mu.Unlock(); return p.actions }
func (p *line) lent() string     { p.mu.Lock(); defer p.mu.Unlock(); return p.disks }

type packet = libvirttest.Packet

func changes(p packet) bool {
	switch p.Proc() {
	case procCreate, procDestroy, procDefine, procAttach, procDetach:
		return true
	}
	return false
}

// domain is the domain that a request is about, where it begins with one.
func domain(p packet) string {
	switch p.Proc() {
	case procXML, procAttach, procDetach:
		name, _ := cutText(p[libvirttest.PacketHead:])
		return name
	}
	return ""
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
