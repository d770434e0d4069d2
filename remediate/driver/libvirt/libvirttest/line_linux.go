package libvirttest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// A Packet is one of libvirt's protocol: its length, six numbers, and what is in it, as XDR
// (libvirt.org/internals/rpc.html).
type Packet []byte

// PacketHead is how many bytes stand before what is in a packet.
const PacketHead = 4 + 6*4

func readPacket(r io.Reader) (Packet, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < PacketHead {
		return nil, fmt.Errorf("a packet of %d bytes", n)
	}
	b := make([]byte, n)
	copy(b, head)
	_, err := io.ReadFull(r, b[4:])
	return b, err
}

// Proc is what a packet is about, by its number in the protocol.
func (p Packet) Proc() uint32 { return binary.BigEndian.Uint32(p[12:]) }

// Fine says that an answer is no error.
func (p Packet) Fine() bool { return binary.BigEndian.Uint32(p[24:]) == 0 }

// With returns the packet with another content.
func (p Packet) With(content []byte) Packet {
	b := append(bytes.Clone(p[:PacketHead]), content...)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

// Reply returns what answers a request: well, and with nothing in it.
func (p Packet) Reply() Packet {
	b := p.With(nil)
	binary.BigEndian.PutUint32(b[16:], 1)
	return b
}

// A Line is between a driver and a daemon. It counts requests, and loses them as it is told. It
// is safe for concurrent use. Close it.
type Line struct {
	socket  string // of the daemon
	changes func(Packet) bool
	answer  func(request Packet, ask func() (Packet, error)) (Packet, error)

	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	requests []bool
	cut      int // requests from now; -1: none
	loss     loss
	dead     bool
	hanging  bool
}

// A loss is what becomes of a request.
type loss struct{ lost, before, forever bool }

// NewLine listens at a socket. Changes says whether a request is there to change something. Answer
// returns the answer, which ask gets from the daemon; it may be called by several at once.
func NewLine(d *Daemon, socket string, changes func(Packet) bool, answer func(request Packet, ask func() (Packet, error)) (Packet, error)) (*Line, error) {
	l := &Line{socket: d.Socket, changes: changes, answer: answer, cut: -1}
	var err error
	if l.listener, err = net.Listen("unix", socket); err != nil {
		return nil, err
	}
	l.running.Go(func() {
		for {
			c, err := l.listener.Accept()
			if err != nil {
				return
			}
			l.running.Go(func() { l.serve(c) })
		}
	})
	return l, nil
}

// Close waits until the last connection has ended: the other end hangs up.
func (l *Line) Close() {
	l.listener.Close()
	l.running.Wait()
}

// serve answers one connection until either end closes it or the line is cut.
func (l *Line) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", l.socket)
	if err != nil {
		return
	}
	defer server.Close()
	for {
		request, err := readPacket(client)
		if err != nil {
			return
		}
		what, hanging := l.admit(request)
		if hanging {
			_, _ = io.Copy(io.Discard, client) // until the other end gives up
			return
		}
		if what.before {
			return
		}
		answer, err := l.answer(request, func() (Packet, error) {
			if _, err := server.Write(request); err != nil {
				return nil, err
			}
			return readPacket(server)
		})
		if err != nil || what.lost {
			return
		}
		if _, err := client.Write(answer); err != nil {
			return
		}
	}
}

// admit counts a request and says how it is lost, or that it is never answered.
func (l *Line) admit(request Packet) (what loss, hanging bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return loss{lost: true, before: true}, false
	}
	l.requests = append(l.requests, l.changes(request))
	if l.cut == 0 {
		what = l.loss
		l.dead = what.forever
	}
	l.cut = max(l.cut-1, -1)
	return what, l.hanging
}

// Requests returns those so far: true where one was there to change something.
func (l *Line) Requests() []bool { l.mu.Lock(); defer l.mu.Unlock(); return l.requests }

// Cut has the n-th request from now lost, 0 is the next: before it is done, or its answer. After
// one that is lost forever no other comes through, until Revive.
func (l *Line) Cut(n int, before, forever bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.loss = n, loss{true, before, forever}
}

// Revive ends what is forever.
func (l *Line) Revive() { l.mu.Lock(); l.dead = false; l.mu.Unlock() }

// Hang has no request answered from now on.
func (l *Line) Hang() { l.mu.Lock(); l.hanging = true; l.mu.Unlock() }
