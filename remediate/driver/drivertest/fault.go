package drivertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"unbrick/remediate"
)

// A Kind is a way in which a World fails.
type Kind string

// The kinds of a fault.
const (
	LostRequest Kind = "lost request" // not done, plain error
	LostReply   Kind = "lost reply"   // done, plain error
	Busy        Kind = "busy"         // not done, RetryError after After
	Refused     Kind = "refused"      // not done, FinalError
	Hang        Kind = "hang"         // not done, nothing returns until the context ends
)

// Kinds lists every kind of fault.
func Kinds() []Kind { return []Kind{LostRequest, LostReply, Busy, Refused, Hang} }

// A Fault is one order to fail. Empty fields match everything.
type Fault struct {
	Kind  Kind
	Host  string
	Verb  Verb
	Stage remediate.Stage
	Skip  int           // matching ops let through before
	Count int           // ops hit; 0 means 1, below 0 means all from then on
	After time.Duration // of Busy
}

// Order adds a fault. One op meets one fault at most, the first that matches.
func (m *Memory) Order(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, f)
}

// Heal takes back every fault that was ordered.
func (m *Memory) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = nil
}

// Pending returns the number of faults that have not happened, or not often enough.
func (m *Memory) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.faults)
}

// meet returns the fault that op meets, if any. The caller holds mu.
func (m *Memory) meet(op Op) (Fault, bool) {
	for i := range m.faults {
		f := &m.faults[i]
		if f.Host != "" && f.Host != op.Host || f.Verb != "" && f.Verb != op.Verb || f.Stage != "" && f.Stage != op.Stage {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		hit := *f
		switch {
		case f.Count < 0:
		case f.Count <= 1:
			m.faults = append(m.faults[:i:i], m.faults[i+1:]...)
		default:
			f.Count--
		}
		return hit, true
	}
	return Fault{}, false
}

func (f Fault) fail(ctx context.Context) error {
	err := fmt.Errorf("cannot reach the host: %s", f.Kind)
	switch f.Kind {
	case Busy:
		return &remediate.RetryError{After: f.After, Err: errors.New("the controller is busy")}
	case Refused:
		return &remediate.FinalError{Err: err}
	case Hang:
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}
