package netboot_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"unbrick/remediate"
	"unbrick/remediate/power"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
)

const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.ms.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"
)

// A machine is a host in QEMU with one network card and one disk.
type machine struct {
	name, mac, tap, disk, vars string
	uefi                       bool

	mu    sync.Mutex
	next  power.Source
	boots []power.Source
	kill  context.CancelFunc
	done  chan struct{} // closed while it is off
	lines []string      // of its serial console
	grown chan struct{} // closed when there are more, and then replaced
}

// newMachine makes a host that is off, whose Windows crashed in the incident.
func newMachine(t *testing.T, name, mac, tap string, uefi bool) *machine {
	t.Helper()
	m := &machine{name: name, mac: mac, tap: tap, uefi: uefi, next: power.Disk, kill: func() {}, done: make(chan struct{}), grown: make(chan struct{})}
	close(m.done)
	m.disk = ntfstest.Disk(t, ntfstest.Crashed(t, 2, windowsFiles()...))
	if uefi {
		b, err := os.ReadFile(ovmfVars)
		if err != nil {
			t.Fatal(err)
		}
		m.vars = filepath.Join(t.TempDir(), "vars.fd")
		if err := os.WriteFile(m.vars, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(m.off)
	return m
}

// args returns the command line of QEMU. Under Secure Boot the card has no ROM: QEMU's own is
// iPXE, which is not signed, and would take the boot.
func (m *machine) args(from power.Source) []string {
	disk, nic := "bootindex=0", ""
	if from == power.Network {
		disk, nic = "bootindex=1", ",bootindex=0"
	}
	args := []string{"-cpu", "qemu64,+rdrand", "-smp", "1", "-m", "768", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-smbios", "type=1,manufacturer=Contoso,product=PC,serial=" + m.name,
		"-drive", "if=none,id=disk,format=raw,cache=unsafe,file=" + m.disk, "-device", "virtio-blk-pci,drive=disk," + disk,
		"-netdev", "tap,id=net,script=no,downscript=no,ifname=" + m.tap}
	if !m.uefi {
		return append(args, "-machine", "q35,accel=tcg,graphics=off", "-device", "virtio-net-pci,netdev=net,mac="+m.mac+nic)
	}
	return append(args, "-machine", "q35,smm=on,accel=tcg", "-global", "driver=cfi.pflash01,property=secure,value=on",
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+ovmfCode, "-drive", "if=pflash,unit=1,format=raw,file="+m.vars,
		"-device", "virtio-net-pci,netdev=net,romfile=,mac="+m.mac+nic)
}

// boot switches the machine on.
func (m *machine) boot(from power.Source) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, kill := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, "qemu-system-x86_64", m.args(from)...)
	out, err := c.StdoutPipe()
	if err == nil {
		c.Stderr = c.Stdout
		err = c.Start()
	}
	if err != nil {
		kill()
		return err
	}
	m.boots = append(m.boots, from)
	m.kill, m.done = kill, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		for s := bufio.NewScanner(out); s.Scan(); {
			m.say(s.Text())
		}
		_ = c.Wait()
	}(m.done)
	return nil
}

func (m *machine) say(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lines = append(m.lines, line)
	close(m.grown)
	m.grown = make(chan struct{})
}

// off takes the power away, and returns when the machine is off.
func (m *machine) off() {
	m.mu.Lock()
	kill, done := m.kill, m.done
	m.mu.Unlock()
	kill()
	<-done
}

func (m *machine) booted() []power.Source {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.boots)
}

// tail returns the last lines of the console.
func (m *machine) tail() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.lines[max(0, len(m.lines)-30):], "\n")
}

// await returns when the console has said a text, some time.
func (m *machine) await(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	for {
		m.mu.Lock()
		has := slices.ContainsFunc(m.lines, func(l string) bool { return strings.Contains(l, text) })
		grown := m.grown
		m.mu.Unlock()
		if has {
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			t.Fatalf("%s never said %q; its console:\n%s", m.name, text, m.tail())
		}
	}
}

// A rack is the controller of machines, by their names.
type rack map[string]*machine

func (r rack) Power(_ context.Context, t remediate.Target) (power.State, error) {
	m := r[t.Host.Name]
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.done:
		return power.Off, nil
	default:
		return power.On, nil
	}
}

func (r rack) Turn(ctx context.Context, t remediate.Target, s power.State) error {
	m := r[t.Host.Name]
	if s == power.Off {
		m.off()
		return nil
	}
	if now, _ := r.Power(ctx, t); now == power.On {
		return nil
	}
	m.mu.Lock()
	from := m.next
	m.next = power.Disk
	m.mu.Unlock()
	return m.boot(from)
}

func (r rack) Next(_ context.Context, t remediate.Target, from power.Source) error {
	m := r[t.Host.Name]
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next = from
	return nil
}

// network makes a bridge with an address of ours and these cards on it.
func network(t *testing.T, taps ...string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	addr, _ := netlink.ParseAddr(gateway + "/24")
	err = errors.Join(netlink.LinkSetUp(lo), netlink.LinkAdd(bridge), netlink.AddrAdd(bridge, addr))
	for _, name := range taps {
		tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TAP}
		err = errors.Join(err, netlink.LinkAdd(tap), netlink.LinkSetMaster(tap, bridge), netlink.LinkSetUp(tap))
	}
	if err := errors.Join(err, netlink.LinkSetUp(bridge)); err != nil {
		t.Fatal(err)
	}
}

// sniff listens on the card of a machine, and returns what was sent to that machine about
// booting: answers to its DHCP requests that speak of it, and everything but DHCP.
func sniff(t *testing.T, m *machine) (heard func() []string) {
	t.Helper()
	link, err := netlink.LinkByName(m.tap)
	if err != nil {
		t.Fatal(err)
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, all)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), m.tap)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func() (got []string) {
		answers := 0
		buf := make([]byte, 2048)
		for f.SetReadDeadline(time.Now().Add(time.Second)) == nil {
			n, err := f.Read(buf)
			if err != nil {
				break
			}
			what, dhcp := aboutBooting(buf[:n], m.mac)
			if dhcp {
				answers++
			}
			if what != "" {
				got = append(got, what)
			}
		}
		if answers == 0 {
			t.Error("nothing at all was heard: the sniffer is deaf")
		}
		return got
	}
}

// aboutBooting says what a frame has to do with how a host boots, and whether it is a DHCP
// answer to that host.
func aboutBooting(frame []byte, mac string) (what string, answer bool) {
	if len(frame) < 42 || frame[12] != 8 || frame[13] != 0 {
		return "", false // not IPv4
	}
	header := int(frame[14]&15) * 4
	protocol, udp := frame[23], frame[14+header:]
	port := int(udp[0])<<8 | int(udp[1])
	to := fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", frame[0], frame[1], frame[2], frame[3], frame[4], frame[5])
	if protocol != 17 || port != 67 && to == mac {
		if to != mac {
			return "", false
		}
		return fmt.Sprintf("protocol %d, port %d", protocol, port), false
	}
	p, err := dhcpv4.FromBytes(udp[8:])
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || p.ClientHWAddr.String() != mac {
		return "", false
	}
	if p.ClassIdentifier() != "" || p.BootFileName != "" {
		return "DHCP: " + p.Summary(), true
	}
	return "", true
}
