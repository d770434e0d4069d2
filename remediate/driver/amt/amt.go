// Package amt reaches hosts through Intel AMT, the management firmware of vPro clients, by
// WS-Management over TLS on port 16993.
//
// A [Driver] is two things. As a power.Switch it turns hosts on and off and has them boot from
// the network once: network boot and counted restarts are built on that, and every AMT since
// version 7 can do it. As a remediate.Driver it uses One-Click Recovery: the firmware boots an
// EFI program from an https URL, or Windows' own recovery environment. That needs AMT 15 or
// later, admin control mode and a BIOS that allows it; Observe says what is missing, so that
// the ladder can go on to network boot.
//
// # The order of things
//
// As with other controllers everything is done while the power is off, because a host that
// crashes would use the boot options up between two requests:
//
//	Enter: power off, boot options for one start, power on
//	Leave: power off, boot options cleared, power on
//
// AMT forgets the options when the host starts, so nothing on it tells a host that was started
// with our program from one that was never touched. Two records do: "started" is written when
// all is set and before the power comes on, "left" when all is cleared and before the power
// comes on. A host that is on and has the first was started with our program, and is not
// started again; one that has the second runs Windows, and is never powered off.
package amt

import (
	"context"
	"crypto/x509"
	"time"

	"unbrick/inventory/secret"
	"unbrick/remediate"
	"unbrick/remediate/power"
	"unbrick/remediate/tlspin"
)

// Options say how to reach AMT. Login is needed. TLS pins by default and then needs Records.
// The rest is for booting hosts; a Driver that is only a power.Switch does without.
type Options struct {
	// Login returns the credentials of a host's AMT: a digest user, as a rule admin.
	Login func(ctx context.Context, t remediate.Target) (user string, password secret.Value, err error)
	TLS   tlspin.Policy

	// Records keep which hosts were started with a rescue image, and which were left. All
	// processes of a run share them.
	Records tlspin.Records
	// BootURL returns where the firmware finds the EFI program that starts the rescue system
	// that img stands for. It is an https URL of at most 300 bytes whose path ends in .efi:
	// firmware does not boot an ISO. The program must be signed for Secure Boot, which stays on.
	BootURL func(img remediate.Image) (string, error)
	// Root is the certificate authority of the server in those URLs. If it is there, Observe
	// makes sure that AMT's store has it: firmware trusts no other. It is put there when AMT is
	// set up; a rescue does not change whom a host trusts.
	Root *x509.Certificate

	Times Times
}

// Times are limits of time. The zero value of each has a default.
type Times struct {
	Request time.Duration // for one request: 20 s
	Settle  time.Duration // for a change of power to show: 60 s
	Poll    time.Duration // between two looks: 1 s
	Retry   time.Duration // what a RetryError says: 15 s
}

// A Driver is the way in by AMT. An address is a host name or IP address, with a port if it is
// not 16993, or an https URL. With the path /winre the host boots Windows' recovery environment
// and no image: whoever or whatever is there goes on.
type Driver struct {
	opt Options
	// The firmware is slow, and two calls that set its boot options at once would mix them.
	limit *power.Limit
}

var (
	_ remediate.Driver = (*Driver)(nil)
	_ power.Switch     = (*Driver)(nil)
)

// New returns a driver.
func New(o Options) *Driver {
	o.Times = Times{
		Request: or(o.Times.Request, 20*time.Second),
		Settle:  or(o.Times.Settle, time.Minute),
		Poll:    or(o.Times.Poll, time.Second),
		Retry:   or(o.Times.Retry, 15*time.Second),
	}
	return &Driver{opt: o, limit: power.NewLimit(1)}
}

func or(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// Observe implements remediate.Driver. It also refuses a host that Enter could not treat: too
// old, in client control mode, switched off in its BIOS, without the certificate.
//
// The posture's detail "amt" is the version, for people.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (p remediate.Posture, err error) {
	err = d.visit(ctx, t, func(v *visit) error {
		p, err = v.observe()
		return err
	})
	return p, err
}

// Enter implements remediate.Driver.
func (d *Driver) Enter(ctx context.Context, t remediate.Target, img remediate.Image) error {
	return d.visit(ctx, t, func(v *visit) error { return v.enter(ctx, img) })
}

// Leave implements remediate.Driver. Nothing of before is needed: what AMT is told lasts for
// one start. A host that is up is not powered off.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, _ remediate.Posture) error {
	return d.visit(ctx, t, func(v *visit) error { return v.leave(ctx) })
}

// Power implements power.Switch. A host that sleeps is neither on nor off.
func (d *Driver) Power(ctx context.Context, t remediate.Target) (s power.State, err error) {
	s = power.Unknown
	err = d.visit(ctx, t, func(v *visit) error {
		s, err = v.power()
		return err
	})
	return s, err
}

// Turn implements power.Switch.
func (d *Driver) Turn(ctx context.Context, t remediate.Target, s power.State) error {
	return d.visit(ctx, t, func(v *visit) error { return v.turn(ctx, s) })
}

// Next implements power.Switch. AMT takes it whether the host is on or off and keeps it until
// the next start, whoever causes that. In client control mode it refuses the network without
// the consent of the person at the host.
func (d *Driver) Next(ctx context.Context, t remediate.Target, from power.Source) error {
	return d.visit(ctx, t, func(v *visit) error { return v.next(from) })
}
