// Package ipmi switches hosts on and off through their BMC by IPMI 2.0 (RMCP+, UDP port 623).
//
// Each call is one session: login, a few commands, and always a logout, because BMCs have
// about four places for sessions. Cipher suite 17 is offered first and then 3; never 0, which
// means no password check, and the BMC is not asked which it has, because one that does not
// answer that question costs the whole time limit.
//
// A datagram may be lost on its way there or on its way back. So a change is made as long as
// it does not show, and each is one that does no harm when it is made twice.
//
// The protocol is old: whoever can listen on the management network gets a hash of the
// password from any BMC that knows the user's name. Keep that network apart.
package ipmi

import (
	"context"
	"fmt"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/power"
)

// Options say how to reach BMCs. Login is needed. The account needs the role of an operator.
type Options struct {
	// Login returns the credentials of a BMC. IPMI takes passwords of up to 20 bytes, and old
	// BMCs of up to 16.
	Login func(ctx context.Context, t remediate.Target) (user string, password secret.Value, err error)
	// AnyGUID lets a BMC be used whose GUID is not the host's UUID. Without it such a BMC is
	// taken for another host's.
	AnyGUID bool
	Times   Times
}

// Times are limits of time. The zero value of each has a default that suits slow BMCs.
type Times struct {
	Reply  time.Duration // for one answer, of which three are tried: 2 s
	Settle time.Duration // for a change to show: 90 s
	Poll   time.Duration // between two looks: 1 s
	Retry  time.Duration // what a RetryError says: 15 s
}

// A Switch is a power.Switch by IPMI. An address is a host name or IP address, with a port if
// it is not 623. One call at a time goes to each.
type Switch struct {
	opt   Options
	limit *power.Limit
}

var _ power.Switch = (*Switch)(nil)

// New returns a Switch.
func New(o Options) *Switch {
	o.Times = Times{
		Reply:  or(o.Times.Reply, 2*time.Second),
		Settle: or(o.Times.Settle, 90*time.Second),
		Poll:   or(o.Times.Poll, time.Second),
		Retry:  or(o.Times.Retry, 15*time.Second),
	}
	return &Switch{opt: o, limit: power.NewLimit(1)}
}

func or(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// Power implements power.Switch.
func (s *Switch) Power(ctx context.Context, t remediate.Target) (power.State, error) {
	state := power.Unknown
	err := s.visit(ctx, t, func(v *visit) (err error) {
		state, err = v.power(ctx)
		return err
	})
	return state, err
}

// Turn implements power.Switch.
func (s *Switch) Turn(ctx context.Context, t remediate.Target, to power.State) error {
	if to != power.On && to != power.Off {
		return fmt.Errorf("cannot turn a host %q", to)
	}
	return s.visit(ctx, t, func(v *visit) error { return v.turn(ctx, to) })
}

// Next implements power.Switch. The firmware is told to boot in UEFI mode.
func (s *Switch) Next(ctx context.Context, t remediate.Target, from power.Source) error {
	if from != power.Disk && from != power.Network {
		return fmt.Errorf("cannot start a host from %q", from)
	}
	return s.visit(ctx, t, func(v *visit) error { return v.next(ctx, from) })
}
