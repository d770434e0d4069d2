package swap

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A Checker is an Instance on whose platform can be asked what the account may do. Optional.
type Checker interface {
	// Check makes sure, without a change, that the platform answers and that the account has the
	// rights that a swap takes on the instance, its volume and the helpers; with snapshot those
	// for that, too. It is called before all else. Where rights are missing, the error is an
	// *inventory.RightError that names all of them as the platform does; where the account may
	// not even ask, it is an *UnaskedError.
	Check(ctx context.Context, snapshot bool) error
}

// An UnaskedError says that the account may not ask for its rights. It may have them.
type UnaskedError struct {
	Right string // to ask, as the platform calls it
	Err   error
}

// Error says that they could not be asked for.
func (e *UnaskedError) Error() string {
	return fmt.Sprintf("the account's rights cannot be asked for: %v", e.Err)
}

// Unwrap returns what the platform answered.
func (e *UnaskedError) Unwrap() error { return e.Err }

// A turn is that of one host to ask for the rights in a place, while others wait for the answer.
type turn struct {
	taken chan struct{}
	done  bool // every right is there
}

// mayAll makes sure that every right is there before the first instance of a place is stopped: one
// that is stopped and cannot go on would be worse off than before. What cannot be asked for is
// taken to be there.
func (d *Driver) mayAll(ctx context.Context, v *visit) error {
	asked, ok := v.Instance.(Checker)
	if !ok {
		return nil
	}
	place := v.target.Route.Address
	place = place[:strings.LastIndexByte(place, '/')+1] // a region, a project, a server
	known, _ := d.asked.LoadOrStore(place, &turn{taken: make(chan struct{}, 1)})
	t := known.(*turn)
	select {
	case t.taken <- struct{}{}:
		defer func() { <-t.taken }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if t.done {
		return nil
	}
	err := asked.Check(ctx, d.opt.Snapshot)
	var unasked *UnaskedError
	if err != nil && !errors.As(err, &unasked) {
		return fmt.Errorf("%s is not stopped: %w", v.ID(), err)
	}
	t.done = true
	return nil
}

// A Checkup is what there is to say of a way into one host, before a run takes it.
type Checkup struct {
	Platform error    // it does not answer, or not for this host: no more is known
	Rights   error    // an *inventory.RightError, or an *UnaskedError
	Refused  error    // why this host's volume must not be swapped; those of others may
	Helper   error    // why none can take it
	Helpers  []Helper // that can
}

// Check looks whether a swap would find what it needs, and changes nothing. It asks the platform as
// Enter does: what it did not find missing then, may be missing when the run comes.
func (d *Driver) Check(ctx context.Context, t remediate.Target) (c Checkup) {
	v, err := d.visit(ctx, t)
	if err != nil {
		return Checkup{Platform: err}
	}
	defer v.Close()
	if asked, ok := v.Instance.(Checker); ok {
		err := asked.Check(ctx, d.opt.Snapshot)
		var lacks *inventory.RightError
		var unasked *UnaskedError
		switch {
		case errors.As(err, &lacks), errors.As(err, &unasked):
			c.Rights = err
		case err != nil:
			return Checkup{Platform: err}
		}
	}
	if v.others != nil {
		c.Refused = v.others
		return c
	}
	if v.entry.Number > 0 { // it is away, and was fit to be
		_, err = v.Look(ctx, v.entry)
	} else {
		_, err = v.Describe(ctx)
	}
	if err != nil {
		c.Refused = err // and a platform may not know then which helpers could have it
		return c
	}
	c.Helpers, c.Helper = v.Helpers(ctx)
	if len(c.Helpers) == 0 && c.Helper == nil {
		c.Helper = noHelper(v)
	}
	return c
}
