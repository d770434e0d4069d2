package redfish

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// until looks every so often whether done, for as long as a change may take to show. It
// returns false if it never was.
func (v *visit) until(ctx context.Context, done func() (bool, error)) (bool, error) {
	t := v.driver.opt.Times
	for end := time.Now().Add(t.Settle); ; {
		ok, err := done()
		if ok || err != nil {
			return ok, err
		}
		if time.Now().After(end) {
			return false, nil
		}
		if err := pause(ctx, t.Poll); err != nil {
			return false, err
		}
	}
}

// settle makes a change that does no harm when it is made twice: it looks whether it is done,
// asks for it, and looks until it shows. It asks again only when the answer was lost, or when
// the BMC cannot now; also lists more kinds of refusal that may pass.
func (v *visit) settle(ctx context.Context, what string, done func() (bool, error), ask func() error, also ...trouble) error {
	var refusal error
	asked := false
	ok, err := v.until(ctx, func() (bool, error) {
		if ok, err := done(); ok || err != nil || asked {
			return ok, err
		}
		refusal = ask()
		switch kind := kindOf(refusal); {
		case kind == none:
			asked = true
			return false, nil
		case v.courier.wait > 0: // it says for how long: longer than we stay
			return false, refusal
		case kind == lost || kind == busy || kind == conflict || kind == inPOST || slices.Contains(also, kind):
			return false, ctx.Err()
		}
		return false, refusal
	})
	switch {
	case err != nil || ok:
		return err
	case refusal != nil:
		return refusal
	}
	return v.later(fmt.Errorf("BMC %s took the %s and does not show it", v.addr.host, what))
}
