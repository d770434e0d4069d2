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
func (m *Memory) Order(f Fault) { m.faults.Order(f, f.Skip, f.Count) }

// Heal takes back every fault that was ordered.
func (m *Memory) Heal() { m.faults.Heal() }

// Pending returns the number of faults that have not happened, or not often enough.
func (m *Memory) Pending() int { return len(m.faults.Pending()) }

// meet returns the fault that op meets, if any.
func (m *Memory) meet(op Op) (Fault, bool) {
	return m.faults.Meet(func(f Fault) bool {
		return (f.Host == "" || f.Host == op.Host) && (f.Verb == "" || f.Verb == op.Verb) && (f.Stage == "" || f.Stage == op.Stage)
	})
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
