package powertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/lab/testenv/faults"
	"unbrick/remediate/power"
)

// A Fake is a power.Switch of hosts that are not there, known by their names. A host that was
// never set is on. The zero value is ready for use, by several at once.
type Fake struct {
	// Started, if not nil, is told what a host boots whenever it starts, without a lock held.
	Started func(host string, from power.Source)
	// OnlyOff has Next refused while the power is on, as some controllers do.
	OnlyOff bool

	mu     sync.Mutex
	hosts  map[string]*State
	faults faults.Book[Fault]
	ops    []Op
}

var _ power.Switch = (*Fake)(nil)

// A State is how a host stands, and what it did.
type State struct {
	Power power.State
	Next  power.Source   // what the next start boots
	Boots []power.Source // what it booted, in order
}

// An Op is one call of one method.
type Op string

// The ops.
const (
	Power   Op = "power"
	TurnOn  Op = "turn on"
	TurnOff Op = "turn off"
	Next    Op = "next"
)

// A Kind is a way in which a Fake fails.
type Kind string

// The kinds of a fault.
const (
	LostRequest Kind = "lost request" // not done, RetryError
	LostReply   Kind = "lost reply"   // done, RetryError
	Denied      Kind = "denied"       // not done, plain error: the credentials are wrong
	Hang        Kind = "hang"         // not done, returns when the context ends
)

// A Fault is one order to fail. Empty fields match everything.
type Fault struct {
	Kind  Kind
	Host  string
	Op    Op
	Skip  int // matching ops let through before
	Count int // ops hit; 0 means 1, below 0 means all from then on
}

// Order adds a fault. One op meets one fault at most, the first that matches.
func (f *Fake) Order(x Fault) { f.faults.Order(x, x.Skip, x.Count) }

// Heal takes back every fault that was ordered.
func (f *Fake) Heal() { f.faults.Heal() }

// Ops returns the calls so far, in order.
func (f *Fake) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ops)
}

// Set changes how a host stands.
func (f *Fake) Set(host string, change func(*State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.host(host))
}

// State returns how a host stands.
func (f *Fake) State(host string) State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := *f.host(host)
	s.Boots = slices.Clone(s.Boots)
	return s
}

// Crash has a host reset itself, which uses up what its next start was to boot. A host that is
// off stays so.
func (f *Fake) Crash(host string) {
	f.mu.Lock()
	h := f.host(host)
	on := h.Power == power.On
	var from power.Source
	if on {
		from = h.start()
	}
	f.mu.Unlock()
	if on && f.Started != nil {
		f.Started(host, from)
	}
}

// host returns a host's state. The caller holds mu.
func (f *Fake) host(name string) *State {
	h := f.hosts[name]
	if h == nil {
		if f.hosts == nil {
			f.hosts = map[string]*State{}
		}
		h = &State{Power: power.On, Next: power.Disk}
		f.hosts[name] = h
	}
	return h
}

func (h *State) start() power.Source {
	from := h.Next
	h.Power, h.Next, h.Boots = power.On, power.Disk, append(h.Boots, from)
	return from
}

// Power implements power.Switch.
func (f *Fake) Power(ctx context.Context, t remediate.Target) (s power.State, err error) {
	err = f.do(ctx, t, Power, func(h *State) error { s = h.Power; return nil })
	if err != nil {
		return power.Unknown, err
	}
	return s, nil
}

// Turn implements power.Switch.
func (f *Fake) Turn(ctx context.Context, t remediate.Target, s power.State) error {
	switch s {
	case power.Off:
		return f.do(ctx, t, TurnOff, func(h *State) error { h.Power = power.Off; return nil })
	case power.On:
		started, from := false, power.Disk
		err := f.do(ctx, t, TurnOn, func(h *State) error {
			if h.Power != power.On {
				started, from = true, h.start()
			}
			return nil
		})
		if started && f.Started != nil {
			f.Started(t.Host.Name, from)
		}
		return err
	}
	return fmt.Errorf("cannot turn a host %q", s)
}

// Next implements power.Switch.
func (f *Fake) Next(ctx context.Context, t remediate.Target, from power.Source) error {
	if from != power.Disk && from != power.Network {
		return fmt.Errorf("cannot start a host from %q", from)
	}
	return f.do(ctx, t, Next, func(h *State) error {
		if f.OnlyOff && h.Power != power.Off {
			return errors.New("the controller takes this only while the power is off")
		}
		h.Next = from
		return nil
	})
}

// do does one op, or fails as ordered.
func (f *Fake) do(ctx context.Context, t remediate.Target, op Op, change func(*State) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	f.ops = append(f.ops, op)
	kind := f.meet(t.Host.Name, op)
	var err error
	if kind == "" || kind == LostReply {
		err = change(f.host(t.Host.Name))
	}
	f.mu.Unlock()
	switch kind {
	case LostRequest, LostReply:
		return &remediate.RetryError{After: time.Millisecond, Err: fmt.Errorf("the controller does not answer: %s", kind)}
	case Denied:
		return errors.New("the controller refused the credentials")
	case Hang:
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// meet returns the kind of fault that op meets, if any. The caller holds mu.
func (f *Fake) meet(host string, op Op) Kind {
	x, _ := f.faults.Meet(func(x Fault) bool { return (x.Host == "" || x.Host == host) && (x.Op == "" || x.Op == op) })
	return x.Kind
}

// Target returns a target of that name, to be switched by a Fake that is known as "fake".
func Target(host string) remediate.Target {
	return remediate.Target{
		Run: "r1", Attempt: 1, Host: inventory.Host{Name: host},
		Route: inventory.Route{Driver: "fake", Address: host},
	}
}
