package power

import (
	"context"
	"sync"
)

// A Limit lets some calls to one address through at a time: controllers choke on more, and a
// chassis manages many hosts.
type Limit struct {
	max   int
	mu    sync.Mutex
	gates map[string]*gate // by address, of calls under way
}

type gate struct {
	users int // calls that hold it or wait
	slots chan struct{}
}

// NewLimit returns a Limit of max calls at a time to each address.
func NewLimit(max int) *Limit { return &Limit{max: max, gates: map[string]*gate{}} }

// Enter waits for a place at addr, and returns how to give it back.
func (l *Limit) Enter(ctx context.Context, addr string) (leave func(), err error) {
	l.mu.Lock()
	g := l.gates[addr]
	if g == nil {
		g = &gate{slots: make(chan struct{}, l.max)}
		l.gates[addr] = g
	}
	g.users++
	l.mu.Unlock()

	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if g.users--; g.users == 0 {
			delete(l.gates, addr)
		}
	}
	select {
	case g.slots <- struct{}{}:
		return func() { <-g.slots; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}
