package rollback

import (
	"context"
	"fmt"
	"strings"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// done is no step: there is nothing more to do.
const done Step = "done"

// A table says what to do with a machine that stands as s; snapshot is what Do needs to know.
type table func(e swap.Entry, s State) (step Step, snapshot string, err error)

// goingBack leads to a machine that is off and whose disks are those of its old snapshot.
func goingBack(e swap.Entry, s State) (Step, string, error) {
	kept, now := s.kept(e), s.current()
	old := s.find(func(one Snapshot) bool { return one.ID == e.Slot.Volume })
	switch {
	case old == nil:
		return "", "", fmt.Errorf("%s has no more the snapshot that it was to go back to (%s): somebody removed it", s.Name, e.Slot.Name)
	case kept != nil && now == old.ID && s.Power == Paused:
		return Stop, "", nil // the memory of then is not used
	case kept != nil && now == old.ID:
		return done, "", nil
	case kept != nil && now != "" && now != kept.ID:
		return "", "", changed(s)
	case kept != nil && s.Power != Off:
		return "", "", fmt.Errorf("somebody started %s after the snapshot of the present was made: it is not rolled back now", s.Name)
	case s.Power != Off:
		return Stop, "", nil
	case kept == nil:
		return Keep, e.Mark, nil
	}
	return Back, old.ID, nil
}

func changed(s State) error {
	return fmt.Errorf("somebody made a snapshot of %s meanwhile, or went to one: it is left as it is", s.Name)
}

// goingForward leads to a machine that runs with the disks that it had.
func goingForward(e swap.Entry, s State) (Step, string, error) {
	kept, now := s.kept(e), s.current()
	away := kept != nil && (now == e.Slot.Volume || now == "") // or half-way
	switch {
	case away && s.Power == Paused:
		return Stop, "", nil
	case away && s.Power == Off:
		return Back, kept.ID, nil
	}
	return starting(e, s)
}

// starting leads to a machine that runs.
func starting(_ swap.Entry, s State) (Step, string, error) {
	if s.Power == Off {
		return Start, "", nil
	}
	return done, "", nil
}

// kept is the snapshot of the present, if it is there.
func (s State) kept(e swap.Entry) *Snapshot {
	return s.find(func(one Snapshot) bool { return one.Name == e.Mark })
}

// current is the id of the current snapshot, or nothing.
func (s State) current() string {
	if one := s.find(func(one Snapshot) bool { return one.Current }); one != nil {
		return one.ID
	}
	return ""
}

// climb takes steps of a table until nothing is left to do. A step that is there again was not
// done yet, or in vain: it is done again after a while, and the third time it has failed.
func (d *Driver) climb(ctx context.Context, v *visit, next table) error {
	const most = 3
	again, last := 0, Step("")
	for {
		if v.state.Power != Changing {
			step, snapshot, err := next(v.entry, v.state)
			if err != nil || step == done {
				return err
			}
			if again++; step != last {
				again, last = 1, step
			}
			if again > most {
				return fmt.Errorf("%s was told to %s %d times, and did not", v.state.Name, step, most)
			}
			if err := v.Do(ctx, step, snapshot); err != nil {
				return err
			}
		}
		if v.state.Power == Changing || again > 1 {
			if err := d.pause(ctx, v.state.Name); err != nil {
				return err
			}
		}
		var err error
		if v.state, err = v.Look(ctx); err != nil {
			return err
		}
	}
}

func (d *Driver) pause(ctx context.Context, name string) error {
	select {
	case <-time.After(d.opt.Every):
		return nil
	case <-ctx.Done():
		return &remediate.RetryError{After: d.opt.Every, Err: fmt.Errorf("%s is not done yet: %w", name, context.Cause(ctx))}
	}
}

// Removal returns the command that removes the snapshot of the present of an entry.
func Removal(e swap.Entry) string { return command(e, "removes") }

// Forward returns the command that has the machine go forward to it again.
func Forward(e swap.Entry) string { return command(e, "forward") }

// command is what a person types, where the platform's own tool is.
func command(e swap.Entry, what string) string {
	id := e.Instance[strings.LastIndex(e.Instance, " ")+1:]
	verbs := map[string][2]string{
		"libvirt": {"virsh snapshot-revert --running %s %s", "virsh snapshot-delete %s %s"},
		"vsphere": {`govc snapshot.revert -vm "$(govc find / -type m -config.instanceUuid %s)" %s`, `govc snapshot.remove -vm "$(govc find / -type m -config.instanceUuid %s)" %s`},
		"proxmox": {"qm rollback %s %s", "qm delsnapshot %s %s"},
	}
	kind, _, _ := strings.Cut(strings.TrimPrefix(e.Instance, instance(State{})), " ")
	verb, known := verbs[kind]
	if !known {
		return fmt.Sprintf("(by hand) snapshot %s of %s", e.Mark, id)
	}
	if what == "forward" {
		return fmt.Sprintf(verb[0], id, e.Mark)
	}
	return fmt.Sprintf(verb[1], id, e.Mark)
}
