package policy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"unbrick/bitlocker"
)

// A Guard is a ledger that takes only what the limits allow. It is the Ledger of a
// [bitlocker.Broker] whose keys persons see: what it refuses to write does not go out.
type Guard struct {
	Ledger  *bitlocker.Ledger
	Limits  Limits
	Special func(host string) string // why a host always needs two persons; "" if it does not
	Now     func() time.Time
}

// A WaitError says that a second person has to approve the request. It is on the ledger.
type WaitError struct {
	Hash string // of the request
	Why  string // one person is not enough
}

func (e *WaitError) Error() string {
	return fmt.Sprintf("a second person has to approve this: %s (request %.12s)", e.Why, e.Hash)
}

// Record writes the release if the limits allow it, and decides and writes in one piece: of two
// processes that want the last token or the same approval one gets it.
func (g *Guard) Record(ctx context.Context, r bitlocker.Release) error {
	return g.Ledger.RecordIf(ctx, bitlocker.Event{Release: &r}, func(past []bitlocker.Event) error {
		return g.Limits.CheckRelease(past, r, g.Special, g.Now())
	})
}

// Admit says whether a person may go on to be given the keys of the request, and returns the
// hash of the approved request that covers them, or nothing where none is needed. Where a
// second person is needed the request is on the ledger and the error is a *[WaitError]; asked
// again, it is the same request as long as that is open.
func (g *Guard) Admit(ctx context.Context, r bitlocker.Request) (hash string, err error) {
	if err := CheckReason(r.Reason); err != nil {
		return "", err
	}
	if len(r.Keys) > MaxKeys {
		return "", fmt.Errorf("%d keys are too many for one request, of which somebody has to read every line; ask for at most %d", len(r.Keys), MaxKeys)
	}
	for range 2 { // the second time it finds what the first wrote
		past, err := g.Ledger.Past(ctx)
		if err != nil {
			return "", err
		}
		now := g.Now()
		if r.Why = g.Limits.Why(past, r, g.Special, now); r.Why == "" {
			return "", nil
		}
		s, approved, found := g.Limits.Find(past, r, now)
		if approved {
			return s.Hash, nil
		}
		if found {
			return "", &WaitError{s.Hash, s.Request.Why}
		}
		r.Nonce = bitlocker.NewNonce()
		err = g.Ledger.RecordIf(ctx, bitlocker.Event{Asked: &r}, func([]bitlocker.Event) error { return nil })
		if err != nil {
			return "", fmt.Errorf("cannot write the request on the ledger: %w", err)
		}
	}
	return "", fmt.Errorf("the request was written on the ledger and is not there: is the clock steady?")
}

// Pending returns the requests that wait.
func (g *Guard) Pending(ctx context.Context) ([]State, error) {
	past, err := g.Ledger.Past(ctx)
	return g.Limits.Pending(past, g.Now()), err
}

// Open returns the one request that waits and whose hash begins so.
func (g *Guard) Open(ctx context.Context, prefix string) (State, error) {
	all, err := g.Pending(ctx)
	if err != nil {
		return State{}, err
	}
	var fit []State
	for _, s := range all {
		if strings.HasPrefix(s.Hash, strings.ToLower(prefix)) {
			fit = append(fit, s)
		}
	}
	switch len(fit) {
	case 0:
		return State{}, fmt.Errorf("no request %q waits for an approval", prefix)
	case 1:
		return fit[0], nil
	}
	return State{}, fmt.Errorf("%d requests begin with %q: give more digits", len(fit), prefix)
}

// Approve writes the approval, if whoever gives it may.
func (g *Guard) Approve(ctx context.Context, a bitlocker.Approval) error {
	return g.Ledger.RecordIf(ctx, bitlocker.Event{Approved: &a}, func(past []bitlocker.Event) error {
		return g.Limits.CheckApproval(past, a, g.Now())
	})
}
