// Package restart is the way into hosts that needs no way in: it restarts them, a counted
// number of times, and looks each time whether Windows comes up.
//
// It is for faults that a host mends by itself if it lives long enough: many hosts that
// crashed because of a file had fetched the good one a few starts later. Nothing is repaired
// here, so Repair never returns a report: it ends with the host up by itself, or with none of
// the restarts left.
//
// # The order of things
//
//	count it, on record · power off · power on · look, until it is time for the next
//
// A restart is on record before it is made. A process that ends anywhere in between costs a
// restart at most and never adds one: what is on record counts, whether or not the power went.
// Before each the host is looked at, so that a Windows that runs is not powered off; where
// nobody can look, nothing is restarted.
package restart

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/power"
)

// Options say how to restart hosts. Switches, Prober and Records are needed.
type Options struct {
	Switches power.Switches
	Prober   remediate.Prober
	Records  Records

	Most    int           // restarts of one host in one run; 15 if 0
	Between time.Duration // from one to the next: time to start and to fetch the good file; 3 min if 0
	Every   time.Duration // between two looks; 10 s if 0
	// Pace waits until one more host may be switched on where the target is. Nil: at once.
	Pace func(ctx context.Context, t remediate.Target) error
}

// Records keep what was done. A second process that works on the same run must see them.
type Records interface {
	// Create stores value under key, durably before it returns. It wraps fs.ErrExist if the
	// key is taken.
	Create(ctx context.Context, key string, value []byte) error
	// Load returns what was stored. It wraps fs.ErrNotExist if nothing was.
	Load(ctx context.Context, key string) ([]byte, error)
}

// A Driver is the way in by counted restarts. The address of its route is that of what
// switches the host, as in "ipmi:10.1.2.3", or "auto": see power.Switches.
//
// Repair takes up to Most times Between, 45 minutes by default, and what switching and Pace take;
// the stage needs as much.
type Driver struct{ opt Options }

var (
	_ remediate.Driver   = (*Driver)(nil)
	_ remediate.Repairer = (*Driver)(nil)
)

// New returns a driver.
func New(o Options) *Driver {
	if o.Most <= 0 {
		o.Most = 15
	}
	if o.Between <= 0 {
		o.Between = 3 * time.Minute
	}
	if o.Every <= 0 {
		o.Every = 10 * time.Second
	}
	return &Driver{o}
}

// Observe implements remediate.Driver. The posture's detail "controller" is for people.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	sw, at, err := d.opt.Switches.For(t)
	if err != nil {
		return remediate.Posture{}, err
	}
	s, err := sw.Power(ctx, at)
	if err != nil {
		return remediate.Posture{}, err
	}
	return remediate.Posture{
		Power: string(s), Detail: map[string]string{"controller": at.Route.Driver + " " + at.Route.Address},
	}, nil
}

// Enter implements remediate.Driver. There is nothing to bring within reach.
func (d *Driver) Enter(context.Context, remediate.Target, remediate.Image) error { return nil }

// Leave implements remediate.Driver. A host that is on is left alone; one that is off is
// started, also if it was off before: it is not known whether one of us left it so.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, _ remediate.Posture) error {
	if t.Up {
		return nil // even if its controller does not answer
	}
	sw, at, err := d.opt.Switches.For(t)
	if err != nil {
		return err
	}
	return d.on(ctx, t, sw, at)
}

// on starts a host that is not on, when it is its turn.
func (d *Driver) on(ctx context.Context, t remediate.Target, sw power.Switch, at remediate.Target) error {
	if d.opt.Pace != nil {
		if s, err := sw.Power(ctx, at); err == nil && s == power.On {
			return nil
		}
		if err := d.opt.Pace(ctx, t); err != nil {
			return err
		}
	}
	return sw.Turn(ctx, at, power.On)
}

// Repair implements remediate.Repairer. It returns a *remediate.UpError when Windows is up,
// and a plain error when no restart is left.
func (d *Driver) Repair(ctx context.Context, t remediate.Target, _ *playbooks.Playbook) (remediate.Report, error) {
	sw, at, err := d.opt.Switches.For(t)
	if err != nil {
		return remediate.Report{}, err
	}
	n, last, err := d.count(ctx, t)
	if err != nil {
		return remediate.Report{}, err
	}
	if n > 0 { // the process that counted it may have ended with the host off
		if err := d.on(ctx, t, sw, at); err != nil {
			return remediate.Report{}, err
		}
	}
	for ; ; n++ {
		evidence, err := d.watch(ctx, t, last.Add(d.opt.Between))
		if d.opt.Pace != nil && err == nil && evidence == "" && n < d.opt.Most {
			// Its turn is awaited while it is on, and it may come up meanwhile.
			if err = d.opt.Pace(ctx, t); err == nil {
				evidence, err = d.watch(ctx, t, time.Now())
			}
		}
		switch {
		case err != nil:
			return remediate.Report{}, fmt.Errorf("after %d restarts: %w", n, err)
		case evidence != "":
			return remediate.Report{}, &remediate.UpError{Evidence: fmt.Sprintf("%s, after %d restarts", evidence, n)}
		case n >= d.opt.Most:
			return remediate.Report{}, fmt.Errorf("did not come up after %d restarts", n)
		}
		if last, err = d.restart(ctx, t, sw, at, n+1); err != nil {
			return remediate.Report{}, fmt.Errorf("restart %d: %w", n+1, err)
		}
	}
}

// restart makes the n-th restart, and returns when it was.
func (d *Driver) restart(ctx context.Context, t remediate.Target, sw power.Switch, at remediate.Target, n int) (time.Time, error) {
	stamp := time.Now().UTC().Format(time.RFC3339Nano)
	if err := d.opt.Records.Create(ctx, key(t, n), []byte(stamp)); err != nil {
		return time.Time{}, fmt.Errorf("cannot count it: %w", err)
	}
	if err := sw.Turn(ctx, at, power.Off); err != nil {
		return time.Time{}, err
	}
	if err := sw.Turn(ctx, at, power.On); err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}

// key names the record of a restart. All attempts of a run share them: the limit is of what a
// host has to bear.
func key(t remediate.Target, n int) string {
	return fmt.Sprintf("restart %s/%s/%d", t.Run, t.Host.Name, n)
}

// count returns how many restarts are on record, and when the last one was.
func (d *Driver) count(ctx context.Context, t remediate.Target) (n int, last time.Time, err error) {
	for {
		stamp, err := d.opt.Records.Load(ctx, key(t, n+1))
		if errors.Is(err, fs.ErrNotExist) {
			return n, last, nil
		}
		if err != nil {
			return n, last, fmt.Errorf("cannot count restarts: %w", err)
		}
		n++
		last, err = time.Parse(time.RFC3339Nano, string(stamp))
		if now := time.Now(); err != nil || last.After(now) { // the clock was wrong, then or now
			last = now
		}
	}
}

// watch looks for a sign of life until then, once at least and once more at the end. What it
// returns was seen just now.
func (d *Driver) watch(ctx context.Context, t remediate.Target, until time.Time) (evidence string, err error) {
	for {
		evidence, err = d.opt.Prober.Probe(ctx, t.Host)
		if evidence != "" && err == nil {
			return evidence, nil
		}
		left := time.Until(until)
		if left <= 0 {
			break
		}
		select {
		case <-time.After(min(left, d.opt.Every)):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "", &remediate.RetryError{After: d.opt.Every, Err: fmt.Errorf("cannot look whether it is up, so it is not restarted: %w", err)}
	}
	return "", nil
}
