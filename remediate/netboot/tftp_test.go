package netboot_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pin/tftp/v3"

	"unbrick/remediate/netboot"
)

// patience is for what must come; nothing depends on how long it takes.
const patience = 20 * time.Second

// A loader speaks TFTP as a test wants it, packet by packet.
type loader struct {
	t    *testing.T
	conn *net.UDPConn
	port *net.UDPAddr // of the transfer, once it began
}

// newLoader returns one at an address of loopback.
func newLoader(t *testing.T, s *netboot.Server, ip string) *loader {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &loader{t, conn, s.TFTPAddr()}
}

// words makes a packet of an opcode and words that end in zero.
func words(op uint16, w ...string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, op), strings.Join(w, "\x00")+"\x00"...)
}

func read(w ...string) []byte { return words(1, append([]string{w[0], "octet"}, w[1:]...)...) }

func ack(n int) []byte { return []byte{0, 4, byte(n >> 8), byte(n)} }

func (l *loader) send(p []byte) {
	l.t.Helper()
	if _, err := l.conn.WriteToUDP(p, l.port); err != nil {
		l.t.Fatal(err)
	}
}

// next returns the next packet: its opcode, block number and the rest.
func (l *loader) next() (op, n int, rest []byte) {
	l.t.Helper()
	_ = l.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	m, from, err := l.conn.ReadFromUDP(buf)
	if err != nil || m < 2 {
		l.t.Fatalf("%d bytes, %v", m, err)
	}
	l.port = from
	op = int(binary.BigEndian.Uint16(buf))
	if op == 6 {
		return op, 0, buf[2:m]
	}
	return op, int(binary.BigEndian.Uint16(buf[2:])), buf[4:m]
}

// want fails the test unless the next packet is a block of that number.
func (l *loader) want(n int) []byte {
	l.t.Helper()
	op, got, b := l.next()
	if op != 3 || got != n {
		l.t.Fatalf("packet %d, %d %q; want block %d", op, got, b, n)
	}
	return b
}

// serve starts a server with one host that is allowed and has these addresses of loopback.
func serve(t *testing.T, change func(*netboot.Config)) (*netboot.Server, *images) {
	t.Helper()
	s, i := start(t, change), startImages(t)
	allow(t, s, mac, i.image("one"))
	s.Tie(mac, "127.0.0.9")
	return s, i
}

// TestTFTPClient loads files with a client that nobody here wrote, in blocks of all sizes.
func TestTFTPClient(t *testing.T) {
	s, i := serve(t, nil)
	s.Tie(mac, "127.0.0.1")
	for _, block := range []int{512, 1024, 1428, 1468, 8192, 65464} {
		for _, name := range netboot.Files() {
			want := content(name)
			if name == "site.img" {
				want = []byte("of one")
			}
			c, err := tftp.NewClient(s.TFTPAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			c.SetBlockSize(block)
			c.RequestTSize(true)
			w, err := c.Receive("/"+name, "octet")
			if err != nil {
				t.Fatal(err)
			}
			size, ok := w.(tftp.IncomingTransfer).Size()
			var got bytes.Buffer
			if _, err := w.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) || !ok || size != int64(len(want)) {
				t.Errorf("%s in blocks of %d: %d bytes, %v, said to be %d", name, block, got.Len(), err, size)
			}
		}
	}
	if n := i.fetched.Load(); n != int64(len(netboot.Files())-1+6) {
		t.Errorf("%d files were fetched: each once, and the host's own one each time", n)
	}
}

// TestTFTPTerms says what is agreed on, and what is not.
func TestTFTPTerms(t *testing.T) {
	s, _ := serve(t, nil)
	for _, c := range []struct {
		asked []string
		want  string // of the answer; empty: none, the first block comes at once
	}{
		{nil, ""},
		{[]string{"blksize", "1024"}, "blksize\x001024\x00"},
		{[]string{"BLKSIZE", "9000"}, "blksize\x001468\x00"},
		{[]string{"tsize", "0", "blksize", "1468", "windowsize", "4"}, fmt.Sprintf("tsize\x00%d\x00blksize\x001468\x00windowsize\x004\x00", len(content("vmlinuz")))},
		{[]string{"windowsize", "65535"}, "windowsize\x0016\x00"},
		{[]string{"timeout", "3"}, "timeout\x003\x00"},
		{[]string{"blksize", "7"}, ""},
		{[]string{"blksize", "99999", "timeout", "0", "tsize", "5", "multicast", ""}, ""},
		{[]string{"blksize", "600", "blksize", "700"}, "blksize\x00600\x00"},
		{[]string{"blksize"}, ""},
	} {
		l := newLoader(t, s, "127.0.0.9")
		l.send(read(append([]string{"vmlinuz"}, c.asked...)...))
		op, _, rest := l.next()
		if (op == 6) != (c.want != "") || op == 6 && string(rest) != c.want {
			t.Errorf("%q: packet %d, %q; want %q", c.asked, op, rest, c.want)
		}
		l.send(words(5, "\x00\x08no more")) // the transfer ends
	}
}

// TestTFTPLoss loses what can be lost, both ways.
func TestTFTPLoss(t *testing.T) {
	s, _ := serve(t, nil)
	l := newLoader(t, s, "127.0.0.9")
	ask := read("vmlinuz", "blksize", "1024", "windowsize", "4")
	l.send(ask)
	l.send(ask) // it thinks that the first was lost
	for range 2 {
		if op, _, _ := l.next(); op != 6 { // the answer comes again while nobody acknowledges it
			t.Fatalf("packet %d; want what was agreed on", op)
		}
	}
	file := content("vmlinuz")
	var got []byte
	l.send(ack(0))
	for n := 1; n <= 2; n++ {
		got = append(got, l.want(n)...)
	}
	l.want(3) // lost on its way
	l.want(4)
	l.send(ack(2))
	for n := 3; n <= 6; n++ { // goes on behind what was acknowledged
		got = append(got, l.want(n)...)
	}
	l.send(ack(2)) // an old one: nothing comes for it
	for n := 3; n <= 6; n++ {
		l.want(n) // but when nothing else comes
	}
	l.send([]byte{0, 9})     // nonsense
	l.send([]byte{0, 4, 99}) // too short
	l.send(ack(77))          // of what was never sent
	for last := 6; ; {
		l.send(ack(last))
		blocks := min(4, len(file)/1024+1-last)
		for range blocks {
			last++
			b := l.want(last)
			got = append(got, b...)
		}
		if last == len(file)/1024+1 {
			l.send(ack(last))
			break
		}
	}
	if !bytes.Equal(got, file) {
		t.Errorf("got %d bytes, want %d", len(got), len(file))
	}
}

// TestTFTPSilence gives up a host that says no more: its place is free again.
func TestTFTPSilence(t *testing.T) {
	s, _ := serve(t, func(c *netboot.Config) { c.Retransmit, c.MaxTransfers = time.Millisecond, 1 })
	quiet := newLoader(t, s, "127.0.0.9")
	quiet.send(read("vmlinuz"))
	quiet.want(1)
	l := newLoader(t, s, "127.0.0.9")
	for deadline := time.Now().Add(patience); ; { // requests while there is no place are not answered
		l.send(read("initrd.img"))
		_ = l.conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if _, _, err := l.conn.ReadFromUDP(make([]byte, 2048)); err == nil {
			return
		} else if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestTFTPStorm asks for more at once than a host may have: the rest is not answered.
func TestTFTPStorm(t *testing.T) {
	s, i := serve(t, func(c *netboot.Config) { c.Retransmit = time.Hour })
	var all []*loader
	for range 20 {
		l := newLoader(t, s, "127.0.0.9")
		l.send(read("vmlinuz"))
		all = append(all, l)
	}
	// Requests are read in order: when this one is answered, those before it were seen.
	last := newLoader(t, s, "127.0.0.8")
	allow(t, s, other, i.image("two"))
	s.Tie(other, "127.0.0.8")
	last.send(read("vmlinuz"))
	last.want(1)
	answered := 0
	for _, l := range all {
		_ = l.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, _, err := l.conn.ReadFromUDP(make([]byte, 2048)); err == nil {
			answered++
		}
	}
	if answered == 0 || answered > 4 {
		t.Errorf("%d of 20 requests of one host were answered at once", answered)
	}
}

// TestTFTPStranger sends nothing to a stranger, and to a host nothing but its files. The
// stranger asks first: had it an answer, that would be there when the host has one.
func TestTFTPStranger(t *testing.T) {
	s, i := serve(t, nil)
	stranger, l := newLoader(t, s, "127.0.0.10"), newLoader(t, s, "127.0.0.9")
	for _, p := range [][]byte{read("shimx64.efi"), read("../etc/passwd"), words(2, "x", "octet"), nil, {0}, []byte("\x00\x01nothing else")} {
		stranger.send(p)
	}
	for _, name := range []string{"../netboot/vmlinuz", `..\..\Windows\win.ini`, "/etc/passwd", "rescue.iso", "grub/../../rescue.iso", "grub", "", ".", "vmlinuz\x00", "SITE.IMG", "%2e%2e/rescue.iso"} {
		l.port = s.TFTPAddr()
		l.send(read(name))
		if name == "" || strings.Contains(name, "\x00") {
			continue // not a request at all
		}
		if op, code, _ := l.next(); op != 5 || code != 1 {
			t.Errorf("%q: packet %d, %d; want: not found", name, op, code)
		}
		l = newLoader(t, s, "127.0.0.9")
	}
	for _, p := range [][]byte{words(2, "vmlinuz", "octet"), words(1, "vmlinuz", "netascii"), words(1, "vmlinuz"), []byte("\x00\x01vmlinuz\x00octet")} {
		l.send(p) // no answer either: a write, text, and what is cut off
	}
	l.send(read(`\\grub//grub.cfg`))
	l.want(1)
	_ = stranger.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, _, err := stranger.conn.ReadFromUDP(make([]byte, 2048)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stranger got %d bytes, %v", n, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !slices.Equal(i.asked, []string{"GET /i/one/netboot/grub/grub.cfg"}) {
		t.Errorf("the image server was asked for %q", i.asked)
	}
}

// TestImageServer says what a host is told when the image server is busy, or knows it no more.
func TestImageServer(t *testing.T) {
	s, i := serve(t, nil)
	l := newLoader(t, s, "127.0.0.9")
	i.mu.Lock()
	i.busy = 1
	i.mu.Unlock()
	l.send(read("vmlinuz"))
	l.want(1)
	i.mu.Lock()
	i.gone = true
	i.mu.Unlock()
	l = newLoader(t, s, "127.0.0.9")
	l.send(read("vmlinuz")) // is kept, and not given out all the same
	if op, _, text := l.next(); op != 5 || strings.Contains(string(text), "one") {
		t.Errorf("packet %d, %q", op, text)
	}
}

// TestClose ends what is under way.
func TestClose(t *testing.T) {
	s, _ := serve(t, func(c *netboot.Config) { c.Retransmit = time.Hour })
	l := newLoader(t, s, "127.0.0.9")
	l.send(read("vmlinuz"))
	l.want(1)
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Close waits for a host")
	}
}

// FuzzFileName holds the law that whatever is asked for, nothing is read but the files.
func FuzzFileName(f *testing.F) {
	for _, name := range append(netboot.Files(), "", "/", "..", `..\vmlinuz`, "//grub/./grub.cfg", "grub/../vmlinuz", "vmlinuz\x00.iso") {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, asked string) {
		name, ok := netboot.FileName(asked)
		if ok && (!slices.Contains(netboot.Files(), name) || strings.Contains(asked, "..")) {
			t.Errorf("%q is %q", asked, name)
		}
	})
}

// FuzzParseRequest holds the law that blocks and windows stay within their limits.
func FuzzParseRequest(f *testing.F) {
	f.Add(read("vmlinuz", "blksize", "1468", "windowsize", "4", "tsize", "0"), 1000)
	f.Add([]byte("\x00\x01a\x00octet\x00blksize\x0065464\x00"), 0)
	f.Add([]byte{0, 1, 0, 0}, 1)
	f.Fuzz(func(t *testing.T, p []byte, size int) {
		name, block, window, ok := netboot.ParseRequest(p, size)
		if ok && (name == "" || block < 8 || block > 1468 || window < 1 || window > 16) {
			t.Errorf("%q: name %q, block %d, window %d", p, name, block, window)
		}
	})
}

// TestHTTP says what iPXE and UEFI HTTP boot get, and who gets nothing.
func TestHTTP(t *testing.T) {
	s, i := serve(t, nil)
	if _, _, err := get(t, s.Web()+"boot.ipxe", ""); !errors.Is(err, io.EOF) {
		t.Errorf("a stranger: %v; want a connection that ends", err)
	}
	s.Tie(mac, "127.0.0.1")
	for _, c := range []struct {
		path, ranges string
		code         int
		want         string
	}{
		{"boot.ipxe", "", 200, string(content("boot.ipxe"))},
		{"vmlinuz", "bytes=3-9", 206, string(content("vmlinuz")[3:10])},
		{"site.img", "", 200, "of one"},
		{"rescue.iso", "", 200, "of one"},
		{"rescue.iso", "bytes=3-5", 206, "one"},
		{"netboot/vmlinuz", "", 404, "404 page not found\n"},
		{"..%2f..%2fetc/passwd", "", 404, "404 page not found\n"},
	} {
		if code, got, err := get(t, s.Web()+c.path, c.ranges); code != c.code || got != c.want || err != nil {
			t.Errorf("%s %s: %d, %d bytes, %v; want %d, %d bytes", c.path, c.ranges, code, len(got), err, c.code, len(c.want))
		}
	}
	i.mu.Lock()
	i.gone = true
	i.mu.Unlock()
	for path, want := range map[string]int{"vmlinuz": 502, "rescue.iso": 404} {
		if code, _, _ := get(t, s.Web()+path, ""); code != want {
			t.Errorf("%s after its token is gone: %d", path, code)
		}
	}
}
