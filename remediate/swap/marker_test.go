package swap_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// serial is a cloud whose volumes have marks of their own.
type serial struct{ *cloud }

func (s serial) Reach(context.Context, remediate.Target) (swap.Instance, error) { return s, nil }

func (s serial) Mark(e swap.Entry) string { return "serial of " + e.Slot.Volume }

func (s serial) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	if step == swap.Lend && s.lent["h1"] != s.Mark(e) {
		return fmt.Errorf("the desk knows it by %q", s.lent["h1"])
	}
	if step == swap.Lend {
		s.lent["h1"] = e.Mark // as the cloud without a mark of its own expects it
	}
	return s.cloud.Do(ctx, step, e, helper)
}

// Where the platform marks a volume, the desk is told that mark, before it hangs on a helper
// and after.
func TestMarker(t *testing.T) {
	c := newCloud()
	d := c.driver(func(o *swap.Options) { o.Platform = serial{c} })
	if err := d.Enter(t.Context(), target(), remediate.Image{}); err != nil || c.lent["h1"] != "serial of vol-1" {
		t.Errorf("%v, and the desk knows it by %q", err, c.lent["h1"])
	}
}

// place is a cloud on which the agent knows a volume by its place on the helper.
type place struct {
	*cloud
	at   string
	tidy []int // numbers of entries, when the volume was its own
}

func (p *place) Reach(context.Context, remediate.Target) (swap.Instance, error) {
	p.at = ""
	return p, nil
}

func (p *place) Mark(swap.Entry) string { return p.at }

func (p *place) Look(ctx context.Context, e swap.Entry) (swap.State, error) {
	s, err := p.cloud.Look(ctx, e)
	if p.at = ""; s.Volume == swap.Lent {
		p.at = "lun:7"
	}
	return s, err
}

func (p *place) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	if step == swap.Lend {
		if _, ok := p.lent["h1"]; ok {
			return errors.New("the desk was told of a place before the volume hung there")
		}
		p.lent["h1"] = e.Mark // as the cloud expects it
		defer delete(p.lent, "h1")
	}
	return p.cloud.Do(ctx, step, e, helper)
}

func (p *place) Tidy(_ context.Context, e swap.Entry) error {
	p.tidy = append(p.tidy, e.Number)
	return nil
}

// A place on the helper is told once the volume hangs there, and what a swap made for itself is
// removed before it ends.
func TestPlace(t *testing.T) {
	c := newCloud()
	p := &place{cloud: c}
	d := c.driver(func(o *swap.Options) { o.Platform = p })
	if err := d.Enter(t.Context(), target(), remediate.Image{}); err != nil || c.lent["h1"] != "lun:7" || len(p.tidy) > 0 {
		t.Fatalf("%v, the desk knows it by %q, tidied %v", err, c.lent["h1"], p.tidy)
	}
	for range 2 {
		if err := d.Leave(t.Context(), target(), remediate.Posture{}); err != nil || len(p.tidy) != 1 || p.tidy[0] != 1 {
			t.Fatalf("%v, tidied %v", err, p.tidy)
		}
	}
}
