package ipmitest

import (
	"context"
	"net"
	"slices"
	"sync"

	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"

	"unbrick/remediate/lab/testenv/faults"
)

// What a client asks for.
const (
	OpOpen    = "open session"
	OpRAKP1   = "RAKP 1"  // user and first random number
	OpRAKP3   = "RAKP 3"  // proof of the password
	OpCommand = "command" // of a session: nobody but its ends can see which
	OpChange  = "change"  // a command that was done and is there to change something; no fault is on it
	OpOther   = "other"
)

// A Kind is a way in which a BMC fails.
type Kind string

// The kinds of a fault.
const (
	LostRequest Kind = "lost request" // never arrives
	LostReply   Kind = "lost reply"   // done, and the answer never arrives
	Refuse      Kind = "refuse"       // a command is answered with Code, not done
)

// A Fault is one order to fail. An empty On matches everything.
type Fault struct {
	Kind  Kind
	On    string
	Code  byte // of Refuse: a completion code
	Skip  int  // matching requests let through before
	Count int  // requests hit; 0 means 1, below 0 means all from then on
}

// Order adds a fault. One request meets one fault at most, the first that matches.
func (b *BMC) Order(f Fault) {
	b.conn.faults.Order(f, f.Skip, f.Count)
}

// Heal takes back every fault that was ordered.
func (b *BMC) Heal() {
	b.conn.faults.Heal()
	b.conn.mu.Lock()
	defer b.conn.mu.Unlock()
	b.conn.mute = false
}

// Requests returns what clients asked for so far, in order.
func (b *BMC) Requests() []string {
	b.conn.mu.Lock()
	defer b.conn.mu.Unlock()
	return slices.Clone(b.conn.requests)
}

// A wire is the BMC's socket. It loses what was ordered to be lost: a client sends a request
// and waits, so the next answer is that of the last request.
type wire struct {
	net.PacketConn
	mu       sync.Mutex
	faults   faults.Book[Fault]
	requests []string
	mute     bool // the answer of the last request is to be lost
	code     byte // of the refusal that the last request is to get
}

func (w *wire) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, addr, err := w.PacketConn.ReadFrom(p)
		if err != nil || w.admit(opOf(p[:n])) {
			return n, addr, err
		}
	}
}

func opOf(p []byte) string {
	if len(p) < 6 || p[3] != 0x07 || p[4] != 0x06 { // RMCP class IPMI, format RMCP+
		return OpOther
	}
	switch types.PayloadType(p[5] & 0x3f) {
	case types.PayloadTypeRmcpOpenSessionRequest:
		return OpOpen
	case types.PayloadTypeRAKPMessage1:
		return OpRAKP1
	case types.PayloadTypeRAKPMessage3:
		return OpRAKP3
	case types.PayloadTypeIPMI:
		return OpCommand
	}
	return OpOther
}

// admit notes a request and says whether it arrives.
func (w *wire) admit(op string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, op)
	w.mute, w.code = false, 0
	f, _ := w.faults.Meet(func(f Fault) bool { return f.On == "" || f.On == op })
	switch f.Kind {
	case LostRequest:
		return false
	case LostReply:
		w.mute = true
	case Refuse:
		w.code = f.Code
	}
	return true
}

func (w *wire) WriteTo(p []byte, addr net.Addr) (int, error) {
	w.mu.Lock()
	lose := w.mute
	w.mu.Unlock()
	if lose {
		return len(p), nil
	}
	return w.PacketConn.WriteTo(p, addr)
}

// refuse answers commands with the code that was ordered.
func (w *wire) refuse(next handlers.Handler) handlers.Handler {
	return handlers.HandlerFunc(func(ctx context.Context, h *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
		w.mu.Lock()
		code := w.code
		switch h.Command.ID {
		case types.CommandChassisControl.ID, types.CommandSetSystemBootOptions.ID, types.CommandCloseSession.ID:
			w.requests[len(w.requests)-1] = OpChange
		}
		w.mu.Unlock()
		if code != 0 {
			return nil, types.CompletionCode(code), nil
		}
		return next.Handle(ctx, h, req)
	})
}
