package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"unbrick/bitlocker"
)

// refusals in a row are how many it takes until an escrow is left alone for the rest of a pass:
// a missing permission is the same for 40,000 hosts.
const refusals = 5

// begin asks for a new protector, where it is time to.
func (p *pass) begin(ctx context.Context, it *Item, o *Outcome) error {
	host := bitlocker.FoldHost(it.Host)
	if other := p.busy[host]; other != nil && other != it && !other.Done() {
		o.Why = fmt.Sprintf("waits for protector %s of the same host", other.ID)
		return nil
	}
	if o.Why = p.notYet(it); o.Why != "" {
		return nil
	}
	by, r, why := p.choose(it)
	switch {
	case why != "":
		o.Why = why
	case p.refused[by] >= refusals:
		o.Why = fmt.Sprintf("%s has refused %d times in a row and was left alone", by, refusals)
	case p.Dry && by == ByHand:
		o.Why = "due: to be replaced by hand"
	case p.Dry:
		o.Why = "due: to be asked of " + by
	default:
		p.busy[host] = it
		return p.ask(ctx, it, r, o)
	}
	return nil
}

// notYet says why it is too early for the first request.
func (p *pass) notYet(it *Item) string {
	healthy, since := p.Healthy(it.Host)
	if !healthy {
		return "the host has not been seen well since"
	}
	if it.Released.After(since) { // whoever needed the key had a host that was not well
		since = it.Released
	}
	if until := since.Add(p.Soak); p.Now().Before(until) {
		return "the host has to stay well until " + stamp(until)
	}
	return ""
}

// choose says what is to replace the protector, and what is known before. The escrow that has
// the key comes first, if it can.
func (p *pass) choose(it *Item) (by string, r bitlocker.Rotation, why string) {
	r = bitlocker.Rotation{Step: bitlocker.RotationAsked}
	for _, l := range p.lists {
		entries, err := l.of(it.Host)
		_, rotates := l.source.(bitlocker.Rotator)
		switch {
		case err != nil && rotates: // it may be the one
			why = fmt.Sprintf("cannot ask %s whether it has the key: %v", l.name, err)
		case err == nil:
			r.Escrows = append(r.Escrows, l.name)
			for _, e := range entries {
				if !slices.Contains(r.Known, e.ID) {
					r.Known = append(r.Known, e.ID)
				}
			}
		}
		if err == nil && rotates && has(entries, it.ID) {
			r.By, r.Escrows = l.name, []string{l.name}
			return l.name, r, ""
		}
	}
	if len(r.Escrows) == 0 && why == "" {
		why = "no escrow can say which protectors the host has, so nobody could tell whether a new one was escrowed"
	}
	r.By = p.other()
	return r.By, r, why
}

// other is what replaces protectors where no escrow does.
func (p *pass) other() string {
	if p.Runner != nil {
		return p.Runner.String()
	}
	return ByHand
}

func has(entries []bitlocker.Entry, id bitlocker.KeyID) bool {
	return slices.ContainsFunc(entries, func(e bitlocker.Entry) bool { return e.ID == id })
}

// ask writes down that it asks, and asks.
func (p *pass) ask(ctx context.Context, it *Item, r bitlocker.Rotation, o *Outcome) error {
	if len(it.escrows) > 0 {
		r.Known, r.Escrows = nil, nil // what was known the first time counts
	}
	if err := p.record(ctx, it, r); err != nil {
		return err
	}
	var err error
	var then bitlocker.Rotation
	switch x := p.rotator(r.By); {
	case r.By == ByHand:
		o.Why = "to be replaced by hand; then run this again, which says when the old one may go"
		o.Commands = addCommands(it.ID, it.known)
		return nil
	case x != nil:
		if err = p.turn(ctx, r.By); err == nil {
			err = x.Rotate(ctx, it.Query)
		}
		if errors.Is(err, bitlocker.ErrNoRotation) {
			return p.ask(ctx, it, bitlocker.Rotation{Step: bitlocker.RotationAsked, By: p.other()}, o)
		}
	default:
		then, err = p.add(ctx, it)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("cannot go on with the rotation of %s: %w", it.ID, context.Cause(ctx))
	}
	if err != nil {
		if wrong := (*bitlocker.WrongHostError)(nil); p.rotator(r.By) != nil && !errors.As(err, &wrong) {
			p.refused[r.By]++ // a host that does not answer says nothing of the others
		}
		o.Why = fmt.Sprintf("cannot have it replaced by %s: %v", r.By, err)
		return p.record(ctx, it, bitlocker.Rotation{Step: bitlocker.RotationFailed, By: r.By})
	}
	p.refused[r.By] = 0
	if then.Step == "" {
		o.Why = "asked for now; the host does it when it is in touch, and the new one is then looked for"
		return nil
	}
	if then.Step == bitlocker.RotationAdded {
		o.Why = "the host has added a new one, which is not seen in escrow yet"
	}
	return p.record(ctx, it, then)
}

// add has the host itself add a protector. A host on no volume of which the old one is needs
// none.
func (p *pass) add(ctx context.Context, it *Item) (bitlocker.Rotation, error) {
	out, err := p.run(ctx, it, addCommands(it.ID, it.known))
	if err != nil {
		return bitlocker.Rotation{}, err
	}
	id, gone, err := parseAdded(out)
	if gone {
		return bitlocker.Rotation{Step: bitlocker.RotationDead, By: p.Runner.String()}, nil
	}
	return bitlocker.Rotation{Step: bitlocker.RotationAdded, By: p.Runner.String(), New: id}, err
}

func (p *pass) run(ctx context.Context, it *Item, script string) (string, error) {
	if err := p.turn(ctx, p.Runner.String()); err != nil {
		return "", err
	}
	return p.Runner.Run(ctx, it.Host, script)
}

// rotator returns the escrow of that name if it can have protectors replaced.
func (p *pass) rotator(name string) bitlocker.Rotator {
	for _, l := range p.lists {
		if r, ok := l.source.(bitlocker.Rotator); ok && l.name == name {
			return r
		}
	}
	return nil
}

// turn waits until by may be asked again.
func (p *pass) turn(ctx context.Context, by string) error {
	wait := time.Until(p.next[by])
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.next[by] = time.Now().Add(p.Every)
	return nil
}
