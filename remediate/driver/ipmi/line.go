package ipmi

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// A line is the socket of one login. It stands between the library and the network for three
// things that the library leaves out: it lets go of a read when the call's context ends, it
// takes names and IPv6 addresses, and it drops datagrams that are not the answer to the last
// request: late ones, and those that are not from the other end of the session.
type line struct {
	net.Conn
	seal   seal
	due    atomic.Uint32 // the payload type of the answer, with its flags
	status atomic.Uint32 // of the last answer to a login's step

	mu   sync.Mutex
	over bool // no read may wait
}

// dial opens a line that ends with ctx.
func dial(ctx context.Context, addr string) (l *line, free func(), err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", addr)
	if err != nil {
		return nil, nil, err
	}
	l = &line{Conn: conn}
	stop := context.AfterFunc(ctx, func() { l.wait(false) })
	return l, func() { stop(); conn.Close() }, nil
}

// Dial implements the library's dialer, which gives a line to its one client.
func (l *line) Dial(string, string) (net.Conn, error) { return l, nil }

// wait says whether reads may wait.
func (l *line) wait(may bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over = !may; l.over {
		l.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func (l *line) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		t = time.Unix(1, 0)
	}
	return l.Conn.SetReadDeadline(t)
}

func (l *line) Write(p []byte) (int, error) {
	if kind, ok := kindOf(p); ok {
		l.seal.overhear(p)
		switch types.PayloadType(kind) {
		case types.PayloadTypeRmcpOpenSessionRequest, types.PayloadTypeRAKPMessage1, types.PayloadTypeRAKPMessage3:
			kind++ // an answer's type follows that of its request
		}
		l.due.Store(uint32(kind))
	}
	return l.Conn.Write(p)
}

func (l *line) Read(p []byte) (int, error) {
	for {
		n, err := l.Conn.Read(p)
		if err != nil {
			return n, err
		}
		kind, ok := kindOf(p[:n])
		if !ok || uint32(kind) != l.due.Load() {
			continue
		}
		if types.PayloadType(kind&0x3f) == types.PayloadTypeIPMI {
			if !l.seal.genuine(p[:n]) {
				continue
			}
		} else if l.seal.overhear(p[:n]); n > statusAt {
			l.status.Store(uint32(p[statusAt]))
		}
		return n, nil
	}
}

// refused returns the status that the BMC gave with the answer that err is about. An answer
// that refuses may end after its status, as from ipmi_sim, and the library wants all of it.
func (l *line) refused(err error) error {
	if s := types.RmcpStatusCode(l.status.Load()); err != nil && s != types.RmcpStatusCodeNoErrors {
		return types.NewRmcpStatusError(s)
	}
	return err
}

// kindOf returns the payload type of an RMCP+ datagram, with the bits for encrypted and
// authenticated (IPMI 2.0, table 13-8).
func kindOf(p []byte) (byte, bool) {
	if len(p) < 6 || p[3]&0x1f != 0x07 || p[4] != 0x06 {
		return 0, false
	}
	return p[5], true
}
