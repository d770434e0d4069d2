// Package drivertest is for those who write a driver, and for those who use one.
//
// [Run] is the suite that every driver passes that boots an image, and [RunRepairer] that of
// drivers that repair in place. [Fake] is a driver that works on hosts that
// are not there ([World]), with faults to order: the engine is tested on it.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"unbrick/remediate"
)

// A Rig is one host that is broken and on, a driver that reaches it, and what the suite needs
// to know of it.
type Rig struct {
	Driver remediate.Driver
	Target remediate.Target
	Image  remediate.Image

	Boots   func() []string // what the host booted since it was made: URL of an image, or Disk
	Actions func() int      // how often anything was done to it
	Left    func() string   // what is left behind on it and its controller, or nothing
	// Requests returns the driver's requests so far: true where one is there to change
	// something, if only a session.
	Requests func() []bool
	// Cut orders a loss at the n-th request from now; 0 is the next.
	Cut    func(n int, l Loss)
	Revive func() // ends a Death
	Hang   func() // from now on, no request is answered
	// Few leaves out what the variants of a peer have in common, when one of them has had it
	// all: the loss of requests that only read, and of single answers.
	Few bool
	// Refuses says that the peer can also be told to throttle and to refuse: the suite then
	// orders [Throttled] and [Forbidden] at every request too.
	Refuses bool
}

// A Loss is how a call is cut off.
type Loss string

// The losses.
const (
	LostBefore Loss = "lost before it was done" // one request
	LostAfter  Loss = "lost after it was done"  // one answer
	Death      Loss = "done, and then nothing"  // one answer and every later request: the caller was killed

	Throttled Loss = "throttled" // not done: too many requests, the peer says
	Forbidden Loss = "refused"   // not done: a right is missing, the peer says
)

// Disk is what a host boots that is left alone.
const Disk = "disk"

// The sentences of the contract, for those who broke them.
const (
	observeRule  = "Observe says how the host stands, and changes nothing on it."
	enterRule    = "Enter makes the host boot img. On return the fixer will run without further help."
	cutRule      = "Every method may be cut off anywhere and called again by another process, and must then finish the job."
	leaveRule    = "Leave puts the host back as before says, nothing inserted and nothing overridden, and starts Windows."
	anyCaseRule  = "Leave is called after Enter in every case, also after one that failed half-way or never began."
	deadlineRule = "Every method returns soon after its context ends."
)

// maxCalls is how often the suite calls a method that was cut off once.
const maxCalls = 4

// Run makes sure that the driver of the rigs that make returns keeps its contract. Each rig
// is used for one host's way through the stages, or a part of it.
func Run(t *testing.T, make func(t *testing.T) Rig) {
	s := suite{make}
	t.Run("Observe", s.observe)
	t.Run("Stages", s.stages)
	t.Run("LeaveAlone", s.leaveAlone)
	t.Run("CutObserve", func(t *testing.T) { s.cutEverywhere(t, remediate.Check) })
	t.Run("CutEnter", func(t *testing.T) { s.cutEverywhere(t, remediate.Enter) })
	t.Run("CutLeave", func(t *testing.T) { s.cutEverywhere(t, remediate.Leave) })
	t.Run("HalfEnter", s.halfEnter)
	t.Run("Deadline", s.deadline)
}

type suite struct{ make func(t *testing.T) Rig }

// observe looks at a host, twice, and at what was done to it.
func (s suite) observe(t *testing.T) {
	r := s.make(t)
	n := r.Actions()
	p := r.observe(t)
	if again := r.observe(t); again.Power != p.Power || p.Power != "on" {
		t.Errorf("the host is on; Observe said %q, then %q", p.Power, again.Power)
	}
	if r.Actions() != n || len(r.Boots()) > 0 {
		t.Errorf("%s\nBut it did %d things, and the host booted %q", observeRule, r.Actions()-n, r.Boots())
	}
	r.nothingLeft(t, observeRule)
}

// stages goes through all of them, each twice: a step that is not recorded runs again.
func (s suite) stages(t *testing.T) {
	r := s.make(t)
	before := r.observe(t)
	for range 2 {
		r.must(t, enterRule, r.Driver.Enter(t.Context(), r.Target, r.Image))
		r.booted(t, enterRule)
	}
	for range 2 {
		r.must(t, leaveRule, r.Driver.Leave(t.Context(), r.Target, before))
		r.putBack(t, leaveRule)
	}
}

// leaveAlone leaves a host that was never entered.
func (s suite) leaveAlone(t *testing.T) {
	r := s.make(t)
	before := r.observe(t)
	n := r.Actions()
	for range 2 {
		r.must(t, anyCaseRule, r.Driver.Leave(t.Context(), r.Target, before))
		r.nothingLeft(t, anyCaseRule)
	}
	if r.Actions() != n {
		t.Errorf("%s\nThe host was on with nothing inserted, and %d things were done to it", anyCaseRule, r.Actions()-n)
	}
}

// cutEverywhere goes through the stages once for each request of one of them and each loss:
// of a request that only reads, all are the same.
func (s suite) cutEverywhere(t *testing.T, stage remediate.Stage) {
	like := s.make(t)
	for n, changes := range s.requests(t, stage) {
		if !like.Few {
			s.cut(t, stage, n, LostAfter)
		}
		if like.Refuses {
			s.cut(t, stage, n, Throttled)
			s.cut(t, stage, n, Forbidden)
		}
		if changes {
			s.cut(t, stage, n, LostBefore)
			s.cut(t, stage, n, Death)
		}
	}
}

// cut goes through the stages up to one whose n-th request is lost, and puts the host back.
func (s suite) cut(t *testing.T, stage remediate.Stage, n int, l Loss) {
	r := s.make(t)
	what := fmt.Sprintf("%s\nRequest %d of %s: %s.", cutRule, n, stage, l)
	at := func(here remediate.Stage) {
		if here == stage {
			r.Cut(n, l)
		}
	}
	at(remediate.Check)
	var before remediate.Posture
	r.persist(t, what, func(ctx context.Context) (err error) {
		before, err = r.Driver.Observe(ctx, r.Target)
		return err
	})
	if stage == remediate.Check {
		r.nothingLeft(t, what)
		return
	}
	at(remediate.Enter)
	r.persist(t, what, func(ctx context.Context) error { return r.Driver.Enter(ctx, r.Target, r.Image) })
	r.booted(t, what)
	at(remediate.Leave)
	r.persist(t, what, func(ctx context.Context) error { return r.Driver.Leave(ctx, r.Target, before) })
	r.putBack(t, what)
}

// requests returns those that a stage takes when nothing goes wrong.
func (s suite) requests(t *testing.T, stage remediate.Stage) []bool {
	r := s.make(t)
	n := len(r.Requests())
	before := r.observe(t)
	if stage == remediate.Check {
		return r.Requests()[n:]
	}
	n = len(r.Requests())
	r.must(t, enterRule, r.Driver.Enter(t.Context(), r.Target, r.Image))
	if stage == remediate.Enter {
		return r.Requests()[n:]
	}
	n = len(r.Requests())
	r.must(t, leaveRule, r.Driver.Leave(t.Context(), r.Target, before))
	return r.Requests()[n:]
}

// halfEnter leaves a host after an Enter that ended after each change and was not repeated.
func (s suite) halfEnter(t *testing.T) {
	for n, changes := range s.requests(t, remediate.Enter) {
		if !changes {
			continue
		}
		r := s.make(t)
		before := r.observe(t)
		r.Cut(n, Death)
		_ = r.Driver.Enter(t.Context(), r.Target, r.Image) // nobody is there to see how it ends
		r.Revive()
		what := fmt.Sprintf("%s\nEnter ended after request %d.", anyCaseRule, n)
		for range 2 {
			r.persist(t, what, func(ctx context.Context) error { return r.Driver.Leave(ctx, r.Target, before) })
			r.nothingLeft(t, what)
		}
		if boots := r.Boots(); len(boots) > 0 && boots[len(boots)-1] != Disk {
			t.Errorf("%s\nThe host booted %q", what, boots)
		}
	}
}

// deadline calls every method of a driver whose peer does not answer.
func (s suite) deadline(t *testing.T) {
	const limit = 100 * time.Millisecond
	for name, call := range map[string]func(context.Context, Rig) error{
		"Observe": func(ctx context.Context, r Rig) error { _, err := r.Driver.Observe(ctx, r.Target); return err },
		"Enter":   func(ctx context.Context, r Rig) error { return r.Driver.Enter(ctx, r.Target, r.Image) },
		"Leave":   func(ctx context.Context, r Rig) error { return r.Driver.Leave(ctx, r.Target, remediate.Posture{}) },
	} {
		r := s.make(t)
		r.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		returned := make(chan error, 1)
		go func() { returned <- call(ctx, r) }()
		select {
		case err := <-returned:
			if err == nil {
				t.Errorf("%s\n%s of a host that does not answer went well", deadlineRule, name)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s\n%s had %v and did not return in 20 s", deadlineRule, name, limit)
		}
		cancel()
	}
}

func (r Rig) observe(t *testing.T) remediate.Posture {
	t.Helper()
	p, err := r.Driver.Observe(t.Context(), r.Target)
	r.must(t, observeRule, err)
	return p
}

func (r Rig) must(t *testing.T, rule string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s\nBut: %v", rule, err)
	}
}

// persist calls again what failed, as the engine does, a few times and without waiting.
func (r Rig) persist(t *testing.T, rule string, call func(context.Context) error) {
	t.Helper()
	var errs []error
	for range maxCalls {
		err := call(t.Context())
		r.Revive()
		if err == nil {
			return
		}
		errs = append(errs, err)
	}
	t.Fatalf("%s\nBut after %d calls: %v", rule, maxCalls, errors.Join(errs...))
}

func (r Rig) booted(t *testing.T, rule string) {
	t.Helper()
	boots := r.Boots()
	n := len(slices.DeleteFunc(slices.Clone(boots), func(b string) bool { return b != r.Image.URL }))
	if n != 1 || boots[len(boots)-1] != r.Image.URL {
		t.Fatalf("%s\nBut the host booted %q, and should have booted %s, once", rule, boots, r.Image.URL)
	}
}

// putBack checks a host that was entered and left.
func (r Rig) putBack(t *testing.T, rule string) {
	t.Helper()
	r.nothingLeft(t, rule)
	boots := r.Boots()
	if n := len(boots); n < 2 || boots[n-1] != Disk || boots[n-2] != r.Image.URL {
		t.Errorf("%s\nBut the host booted %q, and should have booted the image, then the disk, once", rule, boots)
	}
}

func (r Rig) nothingLeft(t *testing.T, rule string) {
	t.Helper()
	if left := r.Left(); left != "" {
		t.Errorf("%s\nBut this is left: %s", rule, left)
	}
}
