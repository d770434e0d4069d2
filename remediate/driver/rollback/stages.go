package rollback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Observe implements remediate.Driver. It says which snapshot it would be, and what is lost, and
// refuses where nothing may go back.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	if err := d.allowed(t.Host); err != nil {
		return remediate.Posture{}, err
	}
	v, err := d.visit(ctx, t)
	if err != nil {
		return remediate.Posture{}, err
	}
	defer v.Close()
	if v.others != nil {
		return remediate.Posture{}, v.others
	}
	if v.entry.Number > 0 { // an attempt was cut off: it is for Repair or Leave to end it
		to, err := target(v.entry)
		p := d.posture(v.state, to, t.Host)
		p.Detail["begun"] = fmt.Sprintf("%s, in run %s", v.entry.At.Format(time.RFC3339), v.entry.Run)
		return p, err
	}
	to, err := d.ready(ctx, v)
	if err != nil {
		return remediate.Posture{}, err
	}
	return d.posture(v.state, to, t.Host), nil
}

// ready makes sure that a machine on which nothing was begun may go back now.
func (d *Driver) ready(ctx context.Context, v *visit) (Snapshot, error) {
	if v.state.Power == Changing {
		return Snapshot{}, &remediate.RetryError{After: 15 * time.Second, Err: fmt.Errorf("something is being done to %s: it is migrated, backed up, or a snapshot is made\nwait until that has ended, or end it", v.state.Name)}
	}
	e, _, err := d.journal.Current(ctx, v.state.ID)
	if err != nil {
		return Snapshot{}, err
	}
	if e.Number > 0 {
		return Snapshot{}, fmt.Errorf("the volume of %s was swapped by the way %s in run %s and is not back\nbring that to its end first (unbrick cleanup lists it)", v.state.Name, e.Way, e.Run)
	}
	return d.choose(v.state)
}

// Enter implements remediate.Driver. There is nothing to bring within reach.
func (d *Driver) Enter(ctx context.Context, _ remediate.Target, _ remediate.Image) error {
	return ctx.Err()
}

// Repair implements remediate.Repairer. The machine is off when it returns: Leave starts it.
func (d *Driver) Repair(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	gone, err := d.gone(ctx, t)
	if err != nil {
		return remediate.Report{}, err
	}
	if gone != nil && gone.Attempt != t.Attempt {
		return remediate.Report{}, fmt.Errorf("%s was rolled back already, in attempt %d of this run: it is not again", t.Host.Name, gone.Attempt)
	}
	if gone != nil {
		return d.report(gone.Entry, pb)
	}
	if err := d.allowed(t.Host); err != nil {
		return remediate.Report{}, err
	}
	v, err := d.visit(ctx, t)
	if err != nil {
		return remediate.Report{}, err
	}
	defer v.Close()
	if v.others != nil {
		return remediate.Report{}, v.others
	}
	if err := d.lifeless(ctx, v); err != nil {
		return remediate.Report{}, err
	}
	if err := d.begin(ctx, v); err != nil {
		return remediate.Report{}, err
	}
	if err := d.climb(ctx, v, goingBack); err != nil {
		return remediate.Report{}, err
	}
	if err := d.record(ctx, t, v.entry); err != nil {
		return remediate.Report{}, err
	}
	return d.report(v.entry, pb)
}

// lifeless makes sure that Windows does not run before it is powered off.
func (d *Driver) lifeless(ctx context.Context, v *visit) error {
	if d.opt.Prober == nil || v.state.Power != On {
		return nil
	}
	evidence, err := d.opt.Prober.Probe(ctx, v.target.Host)
	if err != nil {
		return &remediate.RetryError{After: 15 * time.Second, Err: fmt.Errorf("cannot look whether it is up, so it is not stopped: %w", err)}
	}
	if evidence != "" {
		return &remediate.UpError{Evidence: evidence}
	}
	return nil
}

// begin puts on record what is about to be done. What was begun and not ended stands.
func (d *Driver) begin(ctx context.Context, v *visit) error {
	if v.entry.Number > 0 {
		return nil
	}
	to, err := d.ready(ctx, v)
	if err != nil {
		return err
	}
	b, err := json.Marshal(to)
	if err != nil {
		return err
	}
	v.entry, err = d.journal.Begin(ctx, swap.Entry{
		Way: d.opt.Way, Instance: instance(v.state), Run: v.target.Run, Host: v.target.Host.Name, Address: v.target.Route.Address,
		Slot:     swap.Slot{Volume: to.ID, Name: fmt.Sprintf("%s, back to %s of %s", v.state.Name, to.Name, clock(to.Made)), Detail: b},
		Snapshot: true, At: time.Now().UTC(),
	})
	if err == nil {
		err = v.entry.Others(v.target) // that was faster
	}
	return err
}

// Leave implements remediate.Driver. What it goes by is on record: an earlier attempt may have
// begun. A machine that went back, and nobody could say so, goes forward again. One that is off
// is started, also where Windows was seen up: what was seen was not it.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, _ remediate.Posture) error {
	v, err := d.visit(ctx, t)
	if err != nil {
		return err
	}
	defer v.Close()
	if v.others != nil && v.state.Power == Off {
		return v.others
	}
	if v.others != nil {
		return nil
	}
	table := starting
	if v.entry.Number > 0 {
		gone, err := d.gone(ctx, t)
		if err != nil {
			return err
		}
		if gone == nil || gone.Entry.Number != v.entry.Number {
			table = goingForward
		}
	}
	if err := d.climb(ctx, v, table); err != nil || v.entry.Number == 0 {
		return err
	}
	return d.journal.End(ctx, v.entry)
}

// A visit is one call for one host.
type visit struct {
	Machine
	target remediate.Target
	state  State
	entry  swap.Entry // Number is 0 if nothing was begun
	others error      // what is begun is not the target's
}

// instance is what the journal knows a machine by: it has swaps of its volume too.
func instance(s State) string { return "rollback of " + s.ID }

func (d *Driver) visit(ctx context.Context, t remediate.Target) (*visit, error) {
	m, err := d.opt.Platform.Reach(ctx, t)
	if err != nil {
		return nil, err
	}
	v := &visit{Machine: m, target: t}
	if v.state, err = m.Look(ctx); err == nil {
		v.entry, _, err = d.journal.Current(ctx, instance(v.state))
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if v.entry.Number > 0 {
		v.others = v.entry.Others(t)
	}
	if v.others != nil {
		v.entry = swap.Entry{}
	}
	return v, nil
}

// A departure is on record when a machine went back.
type departure struct {
	Attempt int        `json:"attempt"`
	Entry   swap.Entry `json:"entry"`
}

// key names the record of a host's departure. All attempts of a run share it.
func (d *Driver) key(t remediate.Target) string {
	return fmt.Sprintf("rollback %s/%s/%s", t.Run, t.Host.Name, d.opt.Way)
}

// gone returns the departure of a host in this run, or nil.
func (d *Driver) gone(ctx context.Context, t remediate.Target) (*departure, error) {
	b, err := d.opt.Records.Load(ctx, d.key(t))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var g departure
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read whether %s was rolled back: %w", t.Host.Name, err)
	}
	return &g, nil
}

func (d *Driver) record(ctx context.Context, t remediate.Target, e swap.Entry) error {
	b, err := json.Marshal(departure{t.Attempt, e})
	if err != nil {
		return err
	}
	err = d.opt.Records.Create(ctx, d.key(t), b)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot put on record that %s was rolled back: %w", t.Host.Name, err)
	}
	return nil
}

// target is the snapshot that an entry goes back to.
func target(e swap.Entry) (to Snapshot, err error) {
	if err = json.Unmarshal(e.Slot.Detail, &to); err != nil {
		err = fmt.Errorf("the journal does not say what %s goes back to: %w", e.Host, err)
	}
	return to, err
}

// report says what was done, the same whenever it is asked.
func (d *Driver) report(e swap.Entry, pb *playbooks.Playbook) (remediate.Report, error) {
	to, err := target(e)
	if err != nil {
		return remediate.Report{}, err
	}
	value := playbooks.Value{
		Path: "all disks", Was: "as of " + clock(e.At), Is: fmt.Sprintf("snapshot %s of %s", to.Name, clock(to.Made)), Faulty: true, Changed: true,
		Why: fmt.Sprintf("rolled back to %s of %s; %s lost; how it was is in snapshot %s (%s goes there again, %s removes it)",
			to.Name, clock(to.Made), span(e.At.Sub(to.Made)), e.Mark, Forward(e), Removal(e)),
	}
	r := playbooks.Result{Volumes: []playbooks.VolumeResult{{Volume: e.Address, Verdict: playbooks.Faulty, Findings: []playbooks.Finding{
		{Root: "the whole machine", Step: "rollback", Verdict: playbooks.Faulty, Values: []playbooks.Value{value}},
	}}}}
	if pb != nil {
		r.Playbook = pb.Name
	}
	return remediate.Report{Result: r}, nil
}
