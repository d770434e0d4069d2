package drivertest

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
)

// A Patient is one host that is broken, up at times, and not up for good; a driver that
// repairs it in place; and what [RunRepairer] needs to know of it.
type Patient struct {
	Driver interface {
		remediate.Driver
		remediate.Repairer
	}
	Target   remediate.Target
	Playbook *playbooks.Playbook

	Broken   func() bool   // the faulty file is in its place
	Harm     func() string // what was done to it that nobody ordered, or nothing
	Restarts func() int    // that were ordered from outside
	Left     func() string // what is left behind on it, or nothing

	Requests func() []bool // as in Rig
	Cut      func(n int, l Loss)
	Revive   func()
	Hang     func()
}

// The sentences of the contract, for those who broke them.
const (
	repairRule  = "Repair applies the playbook to the host and reports; called again, it returns the same report."
	restartRule = "Leave puts the host back and starts Windows: once, if anything was changed."
	upRule      = "Windows was seen up by itself: Leave must not restart the host."
)

// RunRepairer makes sure that a driver that repairs in place keeps its contract. Each patient
// is used for one host's way through the stages, or a part of it.
func RunRepairer(t *testing.T, make func(t *testing.T) Patient) {
	s := clinic{make}
	t.Run("Observe", s.observe)
	t.Run("Stages", s.stages)
	t.Run("LeaveAlone", s.leaveAlone)
	t.Run("Up", s.up)
	for _, stage := range []remediate.Stage{remediate.Check, remediate.Repair, remediate.Leave} {
		t.Run("Cut "+string(stage), func(t *testing.T) { s.cutEverywhere(t, stage) })
	}
	t.Run("Deadline", s.deadline)
}

type clinic struct{ make func(t *testing.T) Patient }

// rig is what both suites have in common.
func (p Patient) rig() Rig {
	return Rig{Driver: p.Driver, Target: p.Target, Left: p.Left, Revive: p.Revive}
}

func (c clinic) observe(t *testing.T) {
	p := c.make(t)
	first := p.rig().observe(t)
	if again := p.rig().observe(t); !reflect.DeepEqual(again, first) || first.Power != "on" {
		t.Errorf("the host is on; Observe said %v, then %v", first, again)
	}
	p.untouched(t, observeRule)
}

// stages goes through all of them, each twice: a step that is not recorded runs again.
func (c clinic) stages(t *testing.T) {
	p := c.make(t)
	r := p.rig()
	before := r.observe(t)
	for range 2 {
		r.must(t, enterRule, p.Driver.Enter(t.Context(), p.Target, remediate.Image{}))
	}
	p.untouched(t, "nothing is repaired before Repair")
	var first remediate.Report
	for i := range 2 {
		rep, err := p.Driver.Repair(t.Context(), p.Target, p.Playbook)
		r.must(t, repairRule, err)
		p.repaired(t, repairRule, rep)
		if i > 0 && !reflect.DeepEqual(rep.Result, first.Result) {
			t.Errorf("%s\nBut first: %+v\nand then: %+v", repairRule, first.Result, rep.Result)
		}
		first = rep
	}
	for range 2 {
		r.must(t, restartRule, p.Driver.Leave(t.Context(), p.Target, before))
		p.putBack(t, restartRule)
	}
	r.nothingLeft(t, restartRule)
}

func (c clinic) leaveAlone(t *testing.T) {
	p := c.make(t)
	before := p.rig().observe(t)
	for range 2 {
		p.rig().must(t, anyCaseRule, p.Driver.Leave(t.Context(), p.Target, before))
	}
	p.untouched(t, anyCaseRule)
}

func (c clinic) up(t *testing.T) {
	p := c.make(t)
	before := p.rig().observe(t)
	_, err := p.Driver.Repair(t.Context(), p.Target, p.Playbook)
	p.rig().must(t, repairRule, err)
	up := p.Target
	up.Up = true
	p.rig().must(t, upRule, p.Driver.Leave(t.Context(), up, before))
	if p.Restarts() != 0 || p.Harm() != "" {
		t.Errorf("%s\nBut: %d restarts %s", upRule, p.Restarts(), p.Harm())
	}
}

// cutEverywhere goes through the stages once for each request of one of them and each loss.
func (c clinic) cutEverywhere(t *testing.T, stage remediate.Stage) {
	for n, changes := range c.requests(t, stage) {
		c.cut(t, stage, n, LostAfter)
		if changes {
			c.cut(t, stage, n, LostBefore)
			c.cut(t, stage, n, Death)
		}
	}
}

func (c clinic) requests(t *testing.T, last remediate.Stage) []bool {
	p := c.make(t)
	var n int
	at := func(here remediate.Stage) {
		if here == last {
			n = len(p.Requests())
		}
	}
	at(remediate.Check)
	before := p.rig().observe(t)
	if last != remediate.Check {
		at(remediate.Repair)
		_, err := p.Driver.Repair(t.Context(), p.Target, p.Playbook)
		p.rig().must(t, repairRule, err)
	}
	if last == remediate.Leave {
		at(remediate.Leave)
		p.rig().must(t, restartRule, p.Driver.Leave(t.Context(), p.Target, before))
	}
	return p.Requests()[n:]
}

func (c clinic) cut(t *testing.T, stage remediate.Stage, n int, l Loss) {
	p := c.make(t)
	r := p.rig()
	what := fmt.Sprintf("%s\nRequest %d of %s: %s.", cutRule, n, stage, l)
	at := func(here remediate.Stage) {
		if here == stage {
			p.Cut(n, l)
		}
	}
	at(remediate.Check)
	var before remediate.Posture
	r.persist(t, what, func(ctx context.Context) (err error) {
		before, err = p.Driver.Observe(ctx, p.Target)
		return err
	})
	if stage == remediate.Check {
		p.untouched(t, what)
		return
	}
	at(remediate.Repair)
	var rep remediate.Report
	r.persist(t, what, func(ctx context.Context) (err error) {
		rep, err = p.Driver.Repair(ctx, p.Target, p.Playbook)
		return err
	})
	p.repaired(t, what, rep)
	at(remediate.Leave)
	r.persist(t, what, func(ctx context.Context) error { return p.Driver.Leave(ctx, p.Target, before) })
	if stage == remediate.Leave && l == Death && p.Restarts() == 0 {
		// It went down before it was asked to, and is left alone then.
		p.Revive()
		r.must(t, what, p.Driver.Leave(t.Context(), p.Target, before))
	}
	p.putBack(t, what)
}

func (c clinic) deadline(t *testing.T) {
	const limit = 100 * time.Millisecond
	for name, call := range map[string]func(context.Context, Patient) error{
		"Observe": func(ctx context.Context, p Patient) error { _, err := p.Driver.Observe(ctx, p.Target); return err },
		"Repair": func(ctx context.Context, p Patient) error {
			_, err := p.Driver.Repair(ctx, p.Target, p.Playbook)
			return err
		},
		"Leave": func(ctx context.Context, p Patient) error { return p.Driver.Leave(ctx, p.Target, remediate.Posture{}) },
	} {
		p := c.make(t)
		p.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		returned := make(chan error, 1)
		go func() { returned <- call(ctx, p) }()
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

func (p Patient) untouched(t *testing.T, rule string) {
	t.Helper()
	if !p.Broken() || p.Restarts() != 0 || p.Harm() != "" {
		t.Errorf("%s\nBut the faulty file is there: %v, %d restarts %s", rule, p.Broken(), p.Restarts(), p.Harm())
	}
}

func (p Patient) repaired(t *testing.T, rule string, rep remediate.Report) {
	t.Helper()
	if err := rep.Proof(); err != nil || len(rep.Removed())+len(rep.Changed()) == 0 || p.Broken() || p.Harm() != "" {
		t.Errorf("%s\nBut: %v; the faulty file is there: %v; %s\n%+v", rule, err, p.Broken(), p.Harm(), rep)
	}
}

func (p Patient) putBack(t *testing.T, rule string) {
	t.Helper()
	if p.Broken() || p.Restarts() != 1 || p.Harm() != "" {
		t.Errorf("%s\nBut the faulty file is there: %v, %d restarts %s", rule, p.Broken(), p.Restarts(), p.Harm())
	}
}
