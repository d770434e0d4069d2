package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// maxPerHost is how many files one host is sent at the same time: its loaders ask for one
	// after the other, and give up one while it is sent.
	maxPerHost = 4
	// tftpTries is how often a window is sent without an answer before the host is given up.
	tftpTries = 8
)

// serveTFTP starts a transfer for each request of a host that is allowed. Requests that are
// too many get no answer: the host asks again.
func (s *Server) serveTFTP(conn net.PacketConn) {
	going := transfers{by: map[netip.AddrPort]bool{}, of: map[netip.Addr]int{}}
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFrom(buf)
		if s.ctx.Err() != nil {
			return
		}
		peer, ok := from.(*net.UDPAddr)
		if err != nil || !ok {
			s.log.Debug("cannot read a TFTP packet", "err", err)
			s.breathe()
			continue
		}
		r, ok := parseRequest(buf[:n])
		if !ok {
			continue
		}
		addr := netip.AddrPortFrom(peer.AddrPort().Addr().Unmap(), peer.AddrPort().Port())
		h, ok := s.hosts.at(addr.Addr())
		if !ok || !going.begin(addr) {
			s.log.Debug("no answer to a TFTP request", "from", addr, "known", ok)
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			going.end(addr)
			s.log.Warn("too many files are sent at the same time: a host has to ask again", "from", addr, "limit", cap(s.slots))
			continue
		}
		s.wg.Go(func() {
			defer func() { <-s.slots }()
			defer going.end(addr)
			s.transfer(conn.LocalAddr(), addr, h, r)
		})
	}
}

// Transfers are those under way: a host repeats a request that it thinks was lost.
type transfers struct {
	mu sync.Mutex
	by map[netip.AddrPort]bool
	of map[netip.Addr]int
}

func (t *transfers) begin(a netip.AddrPort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by[a] || t.of[a.Addr()] >= maxPerHost {
		return false
	}
	t.by[a] = true
	t.of[a.Addr()]++
	return true
}

func (t *transfers) end(a netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.by, a)
	if t.of[a.Addr()]--; t.of[a.Addr()] == 0 {
		delete(t.of, a.Addr())
	}
}

// transfer answers one request, from a port of its own.
func (s *Server) transfer(local net.Addr, to netip.AddrPort, h host, r request) {
	log := s.log.With("mac", h.MAC, "from", to, "file", r.name)
	from := &net.UDPAddr{IP: local.(*net.UDPAddr).IP}
	conn, err := net.DialUDP("udp4", from, net.UDPAddrFromAddrPort(to))
	if err != nil {
		log.Error("cannot send a file", "err", err)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(s.ctx, func() { conn.Close() })()
	name, ok := fileName(r.name)
	if !ok { // loaders look for many a file that is not there
		log.Debug("no such file for network boot")
		_, _ = conn.Write(errorPacket(codeNotFound, "no such file"))
		return
	}
	file, err := s.files.get(s.ctx, h.Image, name)
	if err != nil {
		log.Warn("cannot send a file", "err", err)
		_, _ = conn.Write(errorPacket(codeNotDefined, err.Error()))
		return
	}
	start := time.Now()
	t := agree(r, len(file), s.cfg.Retransmit)
	if err := send(conn, file, t); err != nil {
		log.Info("file not sent to its end", "err", err)
		return
	}
	log.Info("file sent", "bytes", len(file), "block", t.block, "window", t.window, "elapsed", time.Since(start).Round(time.Millisecond))
}

// errEnded means that the host wants no more, as one does that only asked for the size.
var errEnded = errors.New("the host ended it")

// send sends a file in windows of blocks, each when the one before was acknowledged.
func send(conn *net.UDPConn, file []byte, t terms) error {
	w := window{conn: conn, terms: t}
	if len(t.oack) > 0 {
		if _, err := w.exchange([][]byte{oackPacket(t.oack)}, 0); err != nil {
			return err
		}
	}
	last := len(file)/t.block + 1
	for next := 1; next <= last; {
		var packets [][]byte
		for n := next; n <= last && n < next+t.window; n++ {
			packets = append(packets, dataPacket(file, t.block, n))
		}
		got, err := w.exchange(packets, next)
		if err != nil {
			return fmt.Errorf("block %d of %d: %w", next, last, err)
		}
		next += got
	}
	return nil
}

// A window sends some packets at a time.
type window struct {
	conn *net.UDPConn
	terms
	buf [defaultBlock]byte
}

// exchange sends packets, the first of which has number first, until at least one of them is
// acknowledged, and returns how many are. An acknowledgment of what came before is an old one:
// to answer it would double all that follows.
func (w *window) exchange(packets [][]byte, first int) (got int, err error) {
	for range tftpTries {
		for _, p := range packets {
			if _, err := w.conn.Write(p); err != nil {
				return 0, err
			}
		}
		got, err = w.await(len(packets), first)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return got, err
		}
	}
	return 0, err
}

// await waits for the acknowledgment of one of n packets, for as long as the timeout.
func (w *window) await(n, first int) (got int, err error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	for {
		m, err := w.conn.Read(w.buf[:])
		if err != nil {
			return 0, err
		}
		ack, ok, ended := parseAck(w.buf[:m])
		if ended {
			return 0, fmt.Errorf("%w: %s", errEnded, errorText(w.buf[:m]))
		}
		if d := int(ack - uint16(first)); ok && d < n {
			return d + 1, nil
		}
	}
}
