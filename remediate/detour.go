package remediate

import (
	"slices"

	"unbrick/inventory"
)

// A Detour is what a host goes through out of its turn after a way failed with a [ThenError]:
// to the way that it names, even if that was tried before, and if that fails too, back to the
// one that named it, which has another go without it and undoes what it did. A Detour is never
// changed, only replaced.
type Detour struct {
	From inventory.Route `json:"from"` // that failed so
	To   string          `json:"to"`   // the way that can go on
	Leg  Leg             `json:"leg"`
	// Undone says that the host is no longer as From made it ready for To.
	Undone bool `json:"undone,omitempty"`
}

// A Leg is a part of a detour.
type Leg string

// The legs.
const (
	There Leg = "there" // To is next
	Back  Leg = "back"  // From is next
	Over  Leg = "over"  // the order of the ladder holds again
)

// Begin returns the climb after the way r failed with a ThenError that names another. On a
// climb that had its detour the error counts as any other, and the host is not as it was.
func (c Climb) Begin(r inventory.Route, to string) Climb {
	if c.Detour != nil {
		c.Detour = &Detour{From: c.Detour.From, To: c.Detour.To, Leg: c.Detour.Leg}
		return c
	}
	c.Detour = &Detour{From: r, To: to, Leg: There}
	return c
}

// Undo returns the climb after the host was found, or made, to be no longer ready for a detour.
func (c Climb) Undo() Climb {
	if c.Detour != nil {
		d := *c.Detour
		d.Undone = true
		c.Detour = &d
	}
	return c
}

// Owed says that the host is still as a way left it for another.
func (c Climb) Owed() bool { return c.Detour != nil && !c.Detour.Undone }

// failed returns the detour after a way failed and put the host back, which undoes what
// another way did for it.
func (d *Detour) failed(r inventory.Route, entered bool) *Detour {
	if d == nil || d.Leg == Over {
		return d
	}
	on := *d
	switch {
	case d.Leg == There && r.Driver == d.To:
		on.Leg, on.Undone = Back, on.Undone || entered
	case d.Leg == Back && r == d.From:
		on.Leg = Over
	}
	return &on
}

// next returns the way that the detour has next, of the ways that there are. A leg that cannot
// be gone is left out.
func (d *Detour) next(ways []inventory.Route) (next inventory.Route, on *Detour, ok bool) {
	if d == nil || d.Leg == Over {
		return next, d, false
	}
	e := *d
	if e.Leg == There {
		if i := slices.IndexFunc(ways, func(r inventory.Route) bool { return r.Driver == e.To }); i >= 0 {
			return ways[i], &e, true
		}
		e.Leg = Back
	}
	if slices.Contains(ways, e.From) {
		return e.From, &e, true
	}
	e.Leg = Over
	return next, &e, false
}
