package redfish

import (
	"context"
	"fmt"

	"unbrick/remediate"
	"unbrick/remediate/power"
)

var _ power.Switch = (*Driver)(nil)

// Power implements power.Switch. A host on its way up or down is power.Unknown.
func (d *Driver) Power(ctx context.Context, t remediate.Target) (power.State, error) {
	state := power.Unknown
	err := d.visit(ctx, t, func(v *visit) error {
		s, err := v.standing()
		switch {
		case s.on():
			state = power.On
		case s.off():
			state = power.Off
		}
		return err
	})
	return state, err
}

// Turn implements power.Switch.
func (d *Driver) Turn(ctx context.Context, t remediate.Target, s power.State) error {
	return d.visit(ctx, t, func(v *visit) error {
		switch s {
		case power.On:
			return v.powerOn(ctx)
		case power.Off:
			return v.powerOff(ctx)
		}
		return fmt.Errorf("cannot turn a host %q", s)
	})
}

// Next implements power.Switch. The boot mode stays as it is.
func (d *Driver) Next(ctx context.Context, t remediate.Target, from power.Source) error {
	return d.visit(ctx, t, func(v *visit) error {
		s, err := v.standing()
		if err != nil {
			return err
		}
		switch from {
		case power.Network:
			return v.setOverride(ctx, override{Target: "Pxe", Enabled: "Once"})
		case power.Disk:
			now, err := v.override(s)
			if err != nil {
				return err
			}
			now.Unread = false // what Next sets is shown everywhere
			return v.clearOverride(ctx, now)
		}
		return fmt.Errorf("cannot start a host from %q", from)
	})
}
