package swap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"unbrick/remediate"
)

// Observe implements remediate.Driver. It also refuses an instance that must not be swapped,
// one for which no helper has room, since better it crashes on for a while than it stands still,
// and the first in a place where a right is missing. One that is off is told, or skipped.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	v, err := d.visit(ctx, t)
	if err != nil {
		return remediate.Posture{}, err
	}
	defer v.Close()
	if v.others != nil {
		return remediate.Posture{}, v.others
	}
	slot := v.entry.Slot
	if v.entry.Number == 0 {
		if slot, err = d.ready(ctx, v); err != nil {
			return remediate.Posture{}, err
		}
	}
	s, err := v.Look(ctx, Entry{Slot: slot})
	if err != nil {
		return remediate.Posture{}, err
	}
	p := remediate.Posture{Power: string(s.Power), Detail: map[string]string{"volume": slot.Name}}
	if v.entry.Number == 0 && s.Power == Off {
		if p.Said, err = d.idle(t.Host, s); err != nil {
			return remediate.Posture{}, err
		}
	}
	for k, text := range slot.Remark {
		p.Detail[k] = text
	}
	if v.entry.Number > 0 {
		p.Detail["begun"] = fmt.Sprintf("%s, in run %s", v.entry.At.Format(time.RFC3339), v.entry.Run)
	}
	return p, nil
}

// ready describes an instance on which nothing was begun, and makes sure that a swap can begin.
func (d *Driver) ready(ctx context.Context, v *visit) (Slot, error) {
	slot, err := v.Describe(ctx)
	if err != nil {
		return Slot{}, err
	}
	if err := d.mayAll(ctx, v); err != nil {
		return Slot{}, err
	}
	helper, err := d.room(ctx, v)
	if err != nil {
		return Slot{}, err
	}
	d.queue.give(helper, v.ID())
	return slot, nil
}

// Enter implements remediate.Driver. The image is not booted: the helper's agent runs already.
func (d *Driver) Enter(ctx context.Context, t remediate.Target, _ remediate.Image) error {
	v, err := d.visit(ctx, t)
	if err != nil {
		return err
	}
	defer v.Close()
	if v.others != nil {
		return v.others
	}
	if err := d.begin(ctx, v); err != nil {
		return err
	}
	s, err := d.climb(ctx, v, entering)
	if err != nil {
		return err
	}
	if v.mark() == "" {
		return fmt.Errorf("the volume of %s hangs on %s, and nobody knows what the agent there knows it by", t.Host.Name, s.On)
	}
	return d.opt.Desk.Lend(ctx, t, s.On, v.mark())
}

// begin puts down how the volume hangs. An entry that was left open stands, unless the volume
// is back on its instance in another way: then it was put back, and nobody could say so.
func (d *Driver) begin(ctx context.Context, v *visit) error {
	if v.entry.Number > 0 {
		s, err := v.Look(ctx, v.entry)
		if err != nil || s.Volume != Own {
			return err
		}
	}
	slot, err := v.Describe(ctx)
	if err != nil {
		return err
	}
	if v.entry.Number > 0 {
		if slot.Volume == v.entry.Slot.Volume && bytes.Equal(slot.Detail, v.entry.Slot.Detail) {
			return nil
		}
		if err := d.end(ctx, v); err != nil {
			return err
		}
	}
	v.entry, err = d.journal.Begin(ctx, Entry{
		Way: d.opt.Way, Instance: v.ID(), Run: v.target.Run, Host: v.target.Host.Name,
		Address: v.target.Route.Address, Slot: slot, Snapshot: d.opt.Snapshot, At: time.Now().UTC(),
	})
	if err == nil {
		err = v.entry.Others(v.target) // that was faster
	}
	return err
}

// Leave implements remediate.Driver. What it puts back is what the journal says, not what was
// observed: an earlier attempt may have begun.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	v, err := d.visit(ctx, t)
	if err != nil {
		return err
	}
	defer v.Close()
	if v.entry.Number == 0 {
		return d.leaveUntouched(ctx, v, before)
	}
	if err := d.opt.Desk.Withdraw(ctx, t); err != nil {
		return err
	}
	if _, err := d.climb(ctx, v, leaving); err != nil {
		return err
	}
	return d.end(ctx, v)
}

// end closes the entry of a volume that is its own again, and leaves nothing behind.
func (d *Driver) end(ctx context.Context, v *visit) error {
	if t, ok := v.Instance.(Tidier); ok {
		if err := t.Tidy(ctx, v.entry); err != nil {
			return err
		}
	}
	return d.journal.End(ctx, v.entry)
}

// leaveUntouched starts an instance that nobody swapped, if it is off and was not.
func (d *Driver) leaveUntouched(ctx context.Context, v *visit, before remediate.Posture) error {
	if v.target.Up || before.Power == string(Off) {
		return nil
	}
	if v.others != nil {
		s, err := v.Look(ctx, Entry{})
		if err == nil && s.Power == Off {
			err = v.others
		}
		return err
	}
	_, err := d.climb(ctx, v, leaving)
	return err
}

// A visit is one call for one host.
type visit struct {
	Instance
	target remediate.Target
	entry  Entry // Number is 0 if nothing was begun
	others error // what is begun is not the target's
}

func (d *Driver) visit(ctx context.Context, t remediate.Target) (*visit, error) {
	in, err := d.opt.Platform.Reach(ctx, t)
	if err != nil {
		return nil, err
	}
	e, _, err := d.journal.Current(ctx, in.ID())
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	v := &visit{Instance: in, target: t}
	if e.Number > 0 {
		v.others = e.Others(t)
	}
	if v.others == nil {
		v.entry = e
	}
	return v, nil
}

// mark is what the agent on a helper knows the volume by.
func (v *visit) mark() string {
	if m, ok := v.Instance.(Marker); ok {
		return m.Mark(v.entry)
	}
	return v.entry.Mark
}

// maxSteps ends a climb in which somebody undoes each step.
const maxSteps = 12

// climb does what the table says until it is done, and returns the last state.
func (d *Driver) climb(ctx context.Context, v *visit, table []rule) (State, error) {
	for steps := 0; ; {
		s, err := v.Look(ctx, v.entry)
		if err != nil {
			return s, err
		}
		switch step := next(table, v.entry, s); step {
		case done:
			return s, nil
		case wait:
			select {
			case <-time.After(d.opt.Every):
			case <-ctx.Done():
				return s, fmt.Errorf("the volume of %s is %s and its instance %s: %w", v.target.Host.Name, s.Volume, s.Power, context.Cause(ctx))
			}
		case halt:
			return s, v.strange(s)
		default:
			if steps++; steps > maxSteps {
				return s, fmt.Errorf("somebody or something undoes what is done: the volume of %s is %s after %d steps; look who else manages %s", v.target.Host.Name, s.Volume, steps, v.ID())
			}
			if err := d.step(ctx, v, step, s); err != nil {
				return s, err
			}
		}
	}
}

// strange says what to do with a state that no rule is for.
func (v *visit) strange(s State) error {
	if s.Volume == Elsewhere {
		return fmt.Errorf("the volume %s hangs on %s, and unbrick did not hang it there: take it off there; nothing was changed", v.entry.Slot.Volume, s.On)
	}
	return fmt.Errorf("the instance %s is %q and its volume %q: nobody knows what that means", v.ID(), s.Power, s.Volume)
}

// step does one step. Only it knows what must be asked before.
func (d *Driver) step(ctx context.Context, v *visit, step Step, s State) error {
	helper := s.On
	switch step {
	case Stop:
		if err := d.still(ctx, v, s); err != nil {
			return err
		}
	case Lend:
		var err error
		if helper, err = d.room(ctx, v); err != nil {
			return err
		}
		defer d.queue.give(helper, v.ID())
		// The helper's agent must find its order when it sees the disk, if its mark is known.
		if mark := v.mark(); mark != "" {
			if err := d.opt.Desk.Lend(ctx, v.target, helper, mark); err != nil {
				return err
			}
		}
	case Start:
		// Nobody knows then which volume is its own: one that it was lent and never got back?
		if v.entry.Number == 0 {
			if _, err := v.Describe(ctx); err != nil {
				return fmt.Errorf("%s is off, and is not started as it is: %w", v.ID(), err)
			}
		}
	}
	return v.Do(ctx, step, v.entry, helper)
}

// still makes sure that no Windows that runs is stopped.
func (d *Driver) still(ctx context.Context, v *visit, s State) error {
	if v.target.Up {
		return fmt.Errorf("windows was seen up on %s, so it is not stopped; its volume is %s: look what runs there", v.ID(), s.Volume)
	}
	if s.Volume != Own || d.opt.Prober == nil {
		return nil // what runs without a system volume is no Windows
	}
	evidence, err := d.opt.Prober.Probe(ctx, v.target.Host)
	switch {
	case err != nil:
		return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("cannot look whether %s is up, so it is not stopped: %w", v.target.Host.Name, err)}
	case evidence != "":
		return &remediate.UpError{Evidence: evidence}
	}
	return nil
}
