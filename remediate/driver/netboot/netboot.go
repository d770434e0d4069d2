// Package netboot reaches hosts by starting them from the network: something else switches
// them on and off (package power), and a server of our own answers their firmware.
//
// # The order of things
//
// A host that crashes on its own resets every minute, and a reset between two of our requests
// would use the boot override up. So everything is done while the power is off:
//
//	Enter: power off, host allowed, network at the next start, power on
//	Leave: power off, disk at the next start, host forgotten, power on
//
// The host is allowed for just as long as something of ours may be left on it, and that is
// what a call goes by when an earlier one was cut off anywhere. Our image is allowed and the
// power is on: the host was started with it, and Enter is done. Nothing is allowed and the
// power is on: Leave is done. So no host is started twice with an image, and a Windows that
// runs is never powered off, unless it came up while our image was allowed.
//
// What is allowed is kept in a directory. A process with another one cannot tell that a host
// runs our image: it has to be another attempt.
package netboot

import (
	"context"
	"errors"
	"fmt"

	"unbrick/remediate"
	"unbrick/remediate/power"
)

// An Allower answers the hosts that are allowed when they start from the network, and nobody
// else. *netboot.Server is one. What it is told is on stable storage when it returns.
type Allower interface {
	Allow(macs []string, image string) error
	Forget(macs []string) error
	// Image returns the image that is allowed for a host with one of these MACs, or nothing.
	Image(macs []string) string
}

// A Driver is the way in by network boot. An address names what switches the host on, as
// power.Switches.For takes it: "auto", or a controller as in "ipmi:10.1.2.3".
type Driver struct {
	server   Allower
	switches power.Switches
}

var _ remediate.Driver = (*Driver)(nil)

// New returns a driver.
func New(server Allower, switches power.Switches) *Driver {
	return &Driver{server, switches}
}

// Observe implements remediate.Driver. It also refuses a host that Enter could not treat: one
// without a MAC, by which it is told from others, or that nothing can switch on.
func (d *Driver) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	v, err := d.visit(t)
	if err != nil {
		return remediate.Posture{}, err
	}
	s, err := v.power(ctx)
	if err != nil {
		return remediate.Posture{}, err
	}
	return remediate.Posture{Power: string(s)}, nil
}

// Enter implements remediate.Driver.
func (d *Driver) Enter(ctx context.Context, t remediate.Target, img remediate.Image) error {
	v, err := d.visit(t)
	if err != nil {
		return err
	}
	s, err := v.power(ctx)
	if err != nil {
		return err
	}
	allowed := d.server.Image(v.macs) == img.URL
	if allowed && s == power.On {
		return nil
	}
	if s != power.Off {
		if err := v.Turn(ctx, v.target, power.Off); err != nil {
			return err
		}
	}
	if !allowed {
		if err := d.server.Allow(v.macs, img.URL); err != nil {
			return err
		}
	}
	if err := v.Next(ctx, v.target, power.Network); err != nil {
		return err
	}
	return v.Turn(ctx, v.target, power.On)
}

// Leave implements remediate.Driver. A host that is up is not powered off for it.
func (d *Driver) Leave(ctx context.Context, t remediate.Target, _ remediate.Posture) error {
	v, err := d.visit(t)
	if err != nil {
		return err
	}
	s, err := v.power(ctx)
	if err != nil {
		return err
	}
	allowed := d.server.Image(v.macs) != ""
	if !allowed && s == power.On {
		return nil
	}
	// Where Windows is up, the start that brought it up has used the override.
	if !t.Up || s == power.Off {
		if err := v.toDisk(ctx, s); err != nil {
			return err
		}
	}
	if err := d.server.Forget(v.macs); err != nil {
		return err
	}
	return v.Turn(ctx, v.target, power.On)
}

// toDisk switches the host off, if need be, and has its next start boot the disk.
func (v visit) toDisk(ctx context.Context, s power.State) error {
	if s != power.Off {
		if err := v.Turn(ctx, v.target, power.Off); err != nil {
			return err
		}
	}
	return v.Next(ctx, v.target, power.Disk)
}

// A visit is one call for one host.
type visit struct {
	power.Switch
	target remediate.Target // as the switch wants it
	macs   []string
}

func (d *Driver) visit(t remediate.Target) (v visit, err error) {
	v.macs = t.Host.MAC
	if len(v.macs) == 0 {
		return v, fmt.Errorf("host %s has no MAC, and network boot knows hosts by nothing else\nadd the MAC of the network card that it boots from, in the column mac", t.Host.Name)
	}
	v.Switch, v.target, err = d.switches.For(t)
	return v, err
}

// power says how the host stands. A controller that cannot tell is of no use: a host that is
// on might be off.
func (v visit) power(ctx context.Context) (power.State, error) {
	s, err := v.Power(ctx, v.target)
	if err == nil && s == power.Unknown {
		err = &remediate.RetryError{Err: errors.New("the controller of host " + v.target.Host.Name + " does not say whether it is on")}
	}
	return s, err
}
