// Package powertest is for those who write a power.Switch, and for those who use one.
//
// [Run] is the suite that every Switch passes. [Fake] is a Switch of hosts that are not there,
// with faults to order.
package powertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/power"
)

// A Rig is one host that is on, a switch that reaches it, and what the suite needs to know of
// it.
type Rig struct {
	Switch power.Switch
	Target remediate.Target
	Denied power.Switch     // the same one with a wrong password
	Dead   remediate.Target // of which nobody answers

	Boots   func() []power.Source // what the host booted since it was made
	Actions func() int            // how often anything was done to it
	Left    func() string         // what is left behind on its controller, or nothing
	// Requests returns the switch's requests so far: true where one is there to change
	// something, if only a session.
	Requests func() []bool
	// Cut orders a loss at the n-th request from now; 0 is the next.
	Cut    func(n int, l Loss)
	Revive func() // ends a Death
	Hang   func() // from now on, no request is answered
	// Few leaves out what the variants of a peer have in common, when one of them has had it
	// all: every loss but Death, and that of requests that only read.
	Few bool
}

// A Loss is how a call is cut off.
type Loss string

// The losses.
const (
	LostBefore Loss = "lost before it was done" // one request
	LostAfter  Loss = "lost after it was done"  // one answer
	Death      Loss = "done, and then nothing"  // one answer and every later request: the caller was killed
)

// The sentences of the contract, for those who broke them.
const (
	powerRule    = "Power returns how the host stands, and changes nothing."
	turnRule     = "Turn switches the host, and returns when the controller shows it. A host that stands so already is left alone."
	nextRule     = "Next sets what the next start boots: the network at the next start alone."
	cutRule      = "Every method may be cut off anywhere and called again by another process."
	deadlineRule = "Every method returns soon after its context ends."
	deniedRule   = "A wrong password is told apart from no answer: the one is for a person, the other may pass."
)

// maxCalls is how often the suite calls a method that was cut off once.
const maxCalls = 4

// A call is one call of one method, and how the host stands before.
type call struct {
	name string
	off  bool
	do   func(context.Context, power.Switch, remediate.Target) error
}

func turn(s power.State) func(context.Context, power.Switch, remediate.Target) error {
	return func(ctx context.Context, w power.Switch, t remediate.Target) error { return w.Turn(ctx, t, s) }
}

func next(from power.Source) func(context.Context, power.Switch, remediate.Target) error {
	return func(ctx context.Context, w power.Switch, t remediate.Target) error { return w.Next(ctx, t, from) }
}

var calls = [...]call{
	{"Power", false, func(ctx context.Context, w power.Switch, t remediate.Target) error {
		s, err := w.Power(ctx, t)
		if err == nil && s != power.On {
			err = fmt.Errorf("the host is on, and Power said %s", s)
		}
		return err
	}},
	{"Turn off", false, turn(power.Off)},
	{"Turn on", true, turn(power.On)},
	{"Next network", true, next(power.Network)},
	{"Next disk", true, next(power.Disk)},
}

// Run makes sure that the switch of the rigs that make returns keeps its contract.
func Run(t *testing.T, make func(t *testing.T) Rig) {
	s := suite{make}
	t.Run("Power", s.power)
	t.Run("Turn", s.turn)
	t.Run("Next", s.next)
	for _, c := range calls {
		t.Run("Cut "+c.name, func(t *testing.T) { s.cutEverywhere(t, c) })
	}
	t.Run("Deadline", s.deadline)
	t.Run("Denied", s.denied)
}

type suite struct{ make func(t *testing.T) Rig }

func (s suite) power(t *testing.T) {
	r := s.make(t)
	n := r.Actions()
	for range 2 {
		r.stands(t, power.On, powerRule)
	}
	if r.Actions() != n {
		t.Errorf("%s\nBut %d things were done to the host", powerRule, r.Actions()-n)
	}
	r.nothingLeft(t, powerRule)
}

// turn switches off and on, each twice.
func (s suite) turn(t *testing.T) {
	r := s.make(t)
	for _, to := range []power.State{power.On, power.Off, power.On} {
		for range 2 {
			r.must(t, turnRule, r.Switch.Turn(t.Context(), r.Target, to))
			r.stands(t, to, turnRule)
		}
	}
	r.booted(t, turnRule, power.Disk)
	r.nothingLeft(t, turnRule)
	if err := r.Switch.Turn(t.Context(), r.Target, power.Unknown); err == nil {
		t.Errorf("a host was turned %q", power.Unknown)
	}
}

// next starts a host from the network once, and takes back what was to be so.
func (s suite) next(t *testing.T) {
	r := s.make(t)
	w, ctx := r.Switch, t.Context()
	restart := func(sources ...power.Source) {
		r.must(t, turnRule, w.Turn(ctx, r.Target, power.Off))
		for _, from := range sources {
			r.must(t, nextRule, w.Next(ctx, r.Target, from))
		}
		r.must(t, turnRule, w.Turn(ctx, r.Target, power.On))
	}
	restart(power.Network, power.Network)
	restart()
	restart(power.Network, power.Disk)
	restart(power.Disk)
	r.booted(t, nextRule, power.Network, power.Disk, power.Disk, power.Disk)
	r.nothingLeft(t, nextRule)
	r.must(t, turnRule, w.Turn(ctx, r.Target, power.Off))
	if err := w.Next(ctx, r.Target, "floppy"); err == nil {
		t.Error("a host is to start from a floppy")
	}
}

// cutEverywhere makes a call once for each of its requests and each loss: of a request that
// only reads, all are the same.
func (s suite) cutEverywhere(t *testing.T, c call) {
	r := s.ready(t, c)
	n := len(r.Requests())
	r.must(t, cutRule, c.do(t.Context(), r.Switch, r.Target))
	for n, changes := range r.Requests()[n:] {
		var losses []Loss
		switch {
		case changes && r.Few:
			losses = []Loss{Death}
		case changes:
			losses = []Loss{LostBefore, LostAfter, Death}
		case !r.Few:
			losses = []Loss{LostAfter}
		}
		for _, l := range losses {
			s.cut(t, c, n, l)
		}
	}
}

// ready returns a rig whose host stands as a call needs it.
func (s suite) ready(t *testing.T, c call) Rig {
	r := s.make(t)
	if c.off {
		r.must(t, turnRule, r.Switch.Turn(t.Context(), r.Target, power.Off))
		if c.name == "Turn on" || c.name == "Next disk" {
			r.must(t, nextRule, r.Switch.Next(t.Context(), r.Target, power.Network))
		}
	}
	return r
}

// cut makes a call whose n-th request is lost, makes it again, and sees what the host does.
func (s suite) cut(t *testing.T, c call, n int, l Loss) {
	t.Helper()
	r := s.ready(t, c)
	what := fmt.Sprintf("%s\nRequest %d of %s: %s.", cutRule, n, c.name, l)
	r.Cut(n, l)
	r.persist(t, what, func(ctx context.Context) error { return c.do(ctx, r.Switch, r.Target) })
	r.nothingLeft(t, what)
	switch c.name {
	case "Power":
		r.booted(t, what)
	case "Turn off":
		r.stands(t, power.Off, what)
		r.booted(t, what)
	case "Turn on":
		r.stands(t, power.On, what)
		r.booted(t, what, power.Network) // once: it was not started twice
	default:
		r.must(t, turnRule, r.Switch.Turn(t.Context(), r.Target, power.On))
		want := power.Disk
		if c.name == "Next network" {
			want = power.Network
		}
		r.booted(t, what, want)
	}
}

// deadline makes every call of a controller that does not answer.
func (s suite) deadline(t *testing.T) {
	const limit = 100 * time.Millisecond
	for _, c := range calls {
		r := s.make(t)
		r.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		returned := make(chan error, 1)
		go func() { returned <- c.do(ctx, r.Switch, r.Target) }()
		select {
		case err := <-returned:
			if err == nil {
				t.Errorf("%s\n%s of a host that does not answer went well", deadlineRule, c.name)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s\n%s had %v and did not return in 20 s", deadlineRule, c.name, limit)
		}
		cancel()
	}
}

// denied makes every call with a wrong password, and of a peer that is not there.
func (s suite) denied(t *testing.T) {
	var retry *remediate.RetryError
	for _, c := range calls {
		r := s.make(t)
		n := r.Actions()
		if err := c.do(t.Context(), r.Denied, r.Target); err == nil || errors.As(err, &retry) {
			t.Errorf("%s\nBut %s with a wrong password said: %v", deniedRule, c.name, err)
		}
		if r.Actions() != n {
			t.Errorf("%s\n%s with a wrong password did %d things", deniedRule, c.name, r.Actions()-n)
		}
		if err := c.do(t.Context(), r.Switch, r.Dead); !errors.As(err, &retry) {
			t.Errorf("%s\nBut %s of a peer that is not there said: %v", deniedRule, c.name, err)
		}
	}
}

func (r Rig) stands(t *testing.T, want power.State, rule string) {
	t.Helper()
	s, err := r.Switch.Power(t.Context(), r.Target)
	r.must(t, rule, err)
	if s != want {
		t.Fatalf("%s\nBut the host is %s, and should be %s", rule, s, want)
	}
}

func (r Rig) must(t *testing.T, rule string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s\nBut: %v", rule, err)
	}
}

// persist calls again what failed, as the engine does, a few times and without waiting.
func (r Rig) persist(t *testing.T, rule string, do func(context.Context) error) {
	t.Helper()
	var errs []error
	for range maxCalls {
		err := do(t.Context())
		r.Revive()
		if err == nil {
			return
		}
		errs = append(errs, err)
	}
	t.Fatalf("%s\nBut after %d calls: %v", rule, maxCalls, errors.Join(errs...))
}

func (r Rig) booted(t *testing.T, rule string, want ...power.Source) {
	t.Helper()
	if boots := r.Boots(); !slices.Equal(boots, want) {
		t.Fatalf("%s\nBut the host booted %q, and should have booted %q", rule, boots, want)
	}
}

func (r Rig) nothingLeft(t *testing.T, rule string) {
	t.Helper()
	if left := r.Left(); left != "" {
		t.Errorf("%s\nBut this is left: %s", rule, left)
	}
}
