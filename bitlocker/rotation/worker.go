package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unbrick/bitlocker"
)

// A Runner runs Windows PowerShell on a host, as one of its administrators, and returns what
// it prints. An error of the script is an error.
type Runner interface {
	Run(ctx context.Context, host, script string) (stdout string, err error)
	// String names the way, for the ledger.
	String() string
}

// ByHand is the By of a rotation that a person has to do.
const ByHand = "hand"

// A Worker brings the queue forward.
type Worker struct {
	Ledger  *bitlocker.Ledger
	Escrows []bitlocker.Source
	Runner  Runner // for hosts whose escrow is no bitlocker.Rotator; nil: they are done by hand

	// Healthy says whether the host has been seen well since it was treated, and since when.
	Healthy func(host string) (healthy bool, since time.Time)

	Soak  time.Duration // how long a host has to be well, and no key of it go out
	Again time.Duration // after which a replacement that does not show is asked for again
	Every time.Duration // between two requests to one escrow
	Now   func() time.Time
	Dry   bool // say what is due, ask and write nothing
}

// An Outcome is how one protector stands after a pass.
type Outcome struct {
	Item
	Why      string `json:"why,omitempty"`      // it is not replaced yet
	Commands string `json:"commands,omitempty"` // for a person at the host: PowerShell
}

// Pass goes through the queue once and returns an outcome for each protector whose key went
// out, also those that are done. What goes wrong with one is its Why. An error means that
// the ledger could not be used or that ctx ended; what was done until then is on the ledger.
func (w *Worker) Pass(ctx context.Context) ([]Outcome, error) {
	items, err := w.queue(ctx)
	if err != nil {
		return nil, err
	}
	p, err := w.prepare(ctx, items)
	if err != nil {
		return nil, err
	}
	// Those that failed before come last, so that they do not keep the others from their turn.
	out := make([]Outcome, len(items))
	failed := func(it *Item) bool { return it.Step == bitlocker.RotationFailed }
	turns := make([]int, 0, len(items))
	for _, last := range []bool{false, true} {
		for i, it := range items {
			if failed(it) == last {
				turns = append(turns, i)
			}
		}
	}
	for _, i := range turns {
		if !items[i].Done() {
			if err := p.advance(ctx, items[i], &out[i]); err != nil {
				return nil, err
			}
		}
		out[i].Item = *items[i]
	}
	return out, nil
}

func (w *Worker) queue(ctx context.Context) ([]*Item, error) {
	var q Queue
	if err := w.Ledger.Each(ctx, func(e bitlocker.Event) error { q.Add(e); return nil }); err != nil {
		return nil, fmt.Errorf("cannot read the queue from the ledger: %w", err)
	}
	return q.Items(), nil
}

// Dead records that a person has seen to it that the protector opens nothing any more: it was
// removed, or the disk was wiped.
func (w *Worker) Dead(ctx context.Context, id bitlocker.KeyID, by string) error {
	items, err := w.queue(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, it := range items {
		if it.ID != id || it.Done() {
			continue
		}
		found = true
		if err := w.record(ctx, it, bitlocker.Rotation{Step: bitlocker.RotationDead, By: by}); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("protector %s does not wait for its rotation", id)
	}
	return nil
}

// record writes the step down, then takes it.
func (w *Worker) record(ctx context.Context, it *Item, r bitlocker.Rotation) error {
	r.Query = it.Query
	if err := w.Ledger.RecordRotation(ctx, r); err != nil {
		return fmt.Errorf("cannot write the rotation of %s on the ledger: %w", it.ID, err)
	}
	it.apply(r, w.Now())
	return nil
}

// A pass is one way through the queue.
type pass struct {
	*Worker
	lists   []*listing
	busy    map[string]*Item     // a host's protector that is being replaced
	next    map[string]time.Time // before which an escrow or the runner is not asked again
	refused map[string]int       // times in a row
}

// prepare asks the escrows what they have of the hosts.
func (w *Worker) prepare(ctx context.Context, items []*Item) (*pass, error) {
	p := &pass{Worker: w, busy: map[string]*Item{}, next: map[string]time.Time{}, refused: map[string]int{}}
	hosts := map[string]bool{}
	for _, it := range items {
		if it.Done() || it.Host == "" {
			continue
		}
		host := bitlocker.FoldHost(it.Host)
		if hosts[host] = true; it.Step != Disclosed && it.Step != bitlocker.RotationFailed {
			p.busy[host] = it
		}
	}
	var err error
	p.lists, err = list(ctx, w.Escrows, hosts)
	return p, err
}

// advance takes the item as far as it goes now, and says in o what it waits for.
func (p *pass) advance(ctx context.Context, it *Item, o *Outcome) error {
	if it.Host == "" {
		o.Why = "the ledger names no host for it"
		return nil
	}
	if it.Step == bitlocker.RotationAsked || it.Step == bitlocker.RotationAdded {
		if err := p.confirm(ctx, it, o); err != nil || o.Why != "" {
			return err
		}
	}
	if it.Step == bitlocker.RotationEscrowed {
		return p.finish(ctx, it, o)
	}
	return p.begin(ctx, it, o)
}

// confirm looks for the new protector. Without a Why the item goes on: it is escrowed, or to be
// asked for again.
func (p *pass) confirm(ctx context.Context, it *Item, o *Outcome) error {
	for _, l := range p.lists {
		asked := slices.Contains(it.escrows, l.name)
		entries, err := l.of(it.Host)
		if err != nil {
			if !asked {
				continue
			}
			o.Why = fmt.Sprintf("asked for %s; cannot ask %s whether the new one is there: %v", stamp(it.Since), l.name, err)
			continue
		}
		for _, e := range entries {
			if !isNew(it, e, asked) {
				continue
			}
			if o.Why = ""; p.Dry {
				o.Why = fmt.Sprintf("due: %s has the new protector %s", l.name, e.ID)
				return nil
			}
			return p.record(ctx, it, bitlocker.Rotation{Step: bitlocker.RotationEscrowed, By: it.By, New: e.ID})
		}
	}
	wait := it.Since.Add(p.Again)
	switch {
	case o.Why != "":
	case it.By == ByHand && p.Runner != nil: // it came later
	case it.By == ByHand:
		o.Why = fmt.Sprintf("to be replaced by hand: no escrow has a new protector of the host yet (listed %s)", stamp(it.Since))
		o.Commands = addCommands(it.ID, it.known)
	case p.Now().Before(wait):
		o.Why = fmt.Sprintf("asked for %s, the new one is not in escrow yet; asked again after %s", stamp(it.Since), stamp(wait))
	}
	return nil
}

// isNew says whether e is of the protector that replaces it: the one that the host has named,
// else one that was not there before. An escrow that could not be asked before has to say when
// it got it.
func isNew(it *Item, e bitlocker.Entry, asked bool) bool {
	if e.ID == it.ID || !e.Valid && e.Reason != "" {
		return false
	}
	if it.Step == bitlocker.RotationAdded {
		return e.ID == it.New
	}
	const skew = time.Hour // between clocks
	dated := !e.Created.IsZero()
	return !slices.Contains(it.known, e.ID) && (dated || asked) && (!dated || e.Created.After(it.first.Add(-skew)))
}

// finish has the old protector removed, now that an escrow has the new one.
func (p *pass) finish(ctx context.Context, it *Item, o *Outcome) error {
	running := p.Runner != nil && (it.By == p.Runner.String() || it.By == ByHand)
	switch {
	case p.Dry:
		o.Why = "due: the old protector is to be removed"
		return nil
	case p.rotator(it.By) != nil: // its hosts remove the old one by themselves
		return p.record(ctx, it, bitlocker.Rotation{Step: bitlocker.RotationDead, By: it.By})
	case !running:
		o.Why = fmt.Sprintf("the new protector %s is in escrow; remove the old one by hand, and say so", it.New)
		o.Commands = removeCommands(it.ID, it.New)
		return nil
	}
	out, err := p.run(ctx, it, removeCommands(it.ID, it.New))
	if err == nil && !parseRemoved(out, it.ID) {
		err = errors.New("the host does not say that it is gone")
	}
	if err != nil {
		o.Why = fmt.Sprintf("cannot remove the old protector: %v", err)
		return ctx.Err()
	}
	return p.record(ctx, it, bitlocker.Rotation{Step: bitlocker.RotationDead, By: p.Runner.String()})
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
