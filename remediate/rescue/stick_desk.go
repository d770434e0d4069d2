package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue/wire"
)

// The desk is where hosts stand that wait for a person, until they are dismissed. It is all in
// the records, so that any process finds there what another wrote:
//
//	desk/TARGET            who waits, and for what
//	await/IDENTITY N       the N-th target that has this UUID, serial number or MAC
//	dismissed/TARGET       it waits no more
//	visit/TARGET N         the N-th time that a stick was let in there

// A waiting is the record of a target that waits for a person.
type waiting struct {
	Target string         `json:"target"` // Target.ID
	Run    string         `json:"run"`
	Host   inventory.Host `json:"host"`
	For    string         `json:"for"` // for a WaitError
	At     time.Time      `json:"at"`
}

// A visit is the record of a stick that was let in at a target.
type visit struct {
	Hash      string    `json:"hash"` // of the token that it was given
	Stick     string    `json:"stick"`
	By        string    `json:"by"`
	PublicKey []byte    `json:"public_key"` // of the agent
	At        time.Time `json:"at"`
	number    int       // 1 is the first
}

// Await lets sticks in at this target from now on, until Dismiss. What it waits for is what
// the WaitError of RepairByStick will say. Twice is the same as once.
func (s *Server) Await(ctx context.Context, t remediate.Target, what string) error {
	b, err := json.Marshal(waiting{Target: t.ID(), Run: t.Run, Host: t.Host, For: what, At: s.cfg.Now().UTC()})
	if err != nil {
		return err
	}
	err = s.cfg.Records.Create(ctx, recordKey("desk", t.ID()), b)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot record that %s waits: %w", t.Host.Name, err)
	}
	for _, name := range names(wire.Identity{UUID: t.Host.UUID, Serial: t.Host.Serial, MAC: t.Host.MAC}) {
		if err := s.list(ctx, name, t.ID()); err != nil {
			return fmt.Errorf("cannot record that %s waits: %w", t.Host.Name, err)
		}
	}
	return nil
}

// Dismiss lets no stick in any more.
func (s *Server) Dismiss(ctx context.Context, t remediate.Target) error {
	err := s.cfg.Records.Create(ctx, recordKey("dismissed", t.ID()), []byte("{}"))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot record that %s waits no more: %w", t.Host.Name, err)
	}
	return nil
}

// names are what a host can be found by.
func names(id wire.Identity) (all []string) {
	if u := plainUUID(id.UUID); u != "" {
		all = append(all, "uuid "+u)
	}
	if n := named(id.Serial); n != "" {
		all = append(all, "serial "+n)
	}
	for _, mac := range id.MAC {
		if m := plainMAC(mac); m != "" {
			all = append(all, "mac "+m)
		}
	}
	return all
}

// list puts a target among those with this name.
func (s *Server) list(ctx context.Context, name, target string) error {
	b, err := json.Marshal(target)
	if err != nil {
		return err
	}
	listed, err := s.listed(ctx, name)
	for n := len(listed); err == nil && !slices.Contains(listed, target); n++ {
		err = s.cfg.Records.Create(ctx, recordKey("await", name, n), b)
		if errors.Is(err, fs.ErrExist) { // somebody was faster: look who
			listed, err = s.listed(ctx, name)
			n = len(listed) - 1
			continue
		}
		return err
	}
	return err
}

// listed returns the ids of the targets with this name.
func (s *Server) listed(ctx context.Context, name string) (targets []string, err error) {
	for {
		var target string
		err := s.Sticks().load(ctx, recordKey("await", name, len(targets)), &target)
		if errors.Is(err, fs.ErrNotExist) {
			return targets, nil
		}
		if err != nil {
			return nil, err
		}
		targets = append(targets, target)
	}
}

// awaited returns the hosts that wait for a person and could be this one: of each, the target
// that waits since last. A host that has one thing in common and contradicts in another is
// not the same host.
func (s *Server) awaited(ctx context.Context, id wire.Identity) (hosts []waiting, err error) {
	all := names(id)
	if u := plainUUID(id.UUID); u != "" {
		all = append(all, "uuid "+swapped(u))
	}
	for _, name := range all {
		targets, err := s.listed(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, target := range targets {
			w, ok, err := s.stillWaits(ctx, target)
			if err != nil {
				return nil, err
			}
			if agrees, err := Identify(w.Host, id); !ok || err != nil || len(agrees) == 0 {
				continue
			}
			i := slices.IndexFunc(hosts, func(h waiting) bool { return strings.EqualFold(h.Host.Name, w.Host.Name) })
			switch {
			case i < 0:
				hosts = append(hosts, w)
			case w.At.After(hosts[i].At):
				hosts[i] = w
			}
		}
	}
	return hosts, nil
}

func (s *Server) stillWaits(ctx context.Context, target string) (w waiting, yes bool, err error) {
	_, err = s.cfg.Records.Load(ctx, recordKey("dismissed", target))
	if err == nil {
		return w, false, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = s.Sticks().load(ctx, recordKey("desk", target), &w)
	}
	return w, err == nil, err
}

// visits returns how often a stick was let in at a target, in order.
func (s *Server) visits(ctx context.Context, target string) (all []visit, err error) {
	for {
		v := visit{number: len(all) + 1}
		err := s.Sticks().load(ctx, recordKey("visit", target, v.number), &v)
		if errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
}

// errNewVisit ends the wait for an agent whose host was booted from the stick again.
var errNewVisit = errors.New("the host was booted from a stick again")

// RepairByStick is Repair for a target that waits for a person: if no stick was let in, it
// returns at once, with a *remediate.WaitError, and if the agent on one fell silent it returns
// such an error when ctx ends: the person may come again. If a stick was let in more than
// once, the visit that repaired the host counts, or else the last. The report names the stick
// and who carried it.
func (s *Server) RepairByStick(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	for {
		visits, err := s.visits(ctx, t.ID())
		if err != nil {
			return remediate.Report{}, &remediate.RetryError{After: 10 * time.Second, Err: err}
		}
		if len(visits) == 0 {
			return remediate.Report{}, s.waitOn(ctx, t, "")
		}
		for _, v := range visits {
			if rep, err, ended := s.outcome(ctx, v.Hash, nil); ended && err == nil {
				return v.sign(rep), nil
			}
		}
		last := visits[len(visits)-1]
		rep, err := s.repairVisit(ctx, t, pb, last)
		switch {
		case errors.Is(err, errNewVisit):
			continue
		case len(rep.Volumes) == 0 && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return remediate.Report{}, s.waitOn(ctx, t, "; "+err.Error())
		}
		return last.sign(rep), err
	}
}

// sign says in a report by which stick it came.
func (v visit) sign(rep remediate.Report) remediate.Report {
	rep.Agent = strings.TrimSpace(fmt.Sprintf("%s on stick %s, carried by %s", rep.Agent, v.Stick, v.By))
	return rep
}

// waitOn returns the WaitError of a target.
func (s *Server) waitOn(ctx context.Context, t remediate.Target, more string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeLimit)
	defer cancel()
	var w waiting
	if err := s.Sticks().load(ctx, recordKey("desk", t.ID()), &w); err != nil {
		return err
	}
	return &remediate.WaitError{For: w.For + more}
}

// repairVisit waits for the agent of one visit, or until there is another.
func (s *Server) repairVisit(ctx context.Context, t remediate.Target, pb *playbooks.Playbook, v visit) (remediate.Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		poll := time.NewTicker(s.cfg.Poll)
		defer poll.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-poll.C:
			}
			if _, err := s.cfg.Records.Load(ctx, recordKey("visit", t.ID(), v.number+1)); err == nil {
				cancel(errNewVisit)
				return
			}
		}
	}()
	rep, err := s.await(ctx, v.Hash, t, pb)
	cancel(nil)
	<-watched
	return rep, err
}
