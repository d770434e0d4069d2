package amt

import (
	"context"
	"fmt"
	"time"

	wsmanpower "github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/cim/power"
	"github.com/device-management-toolkit/go-wsman-messages/v2/pkg/wsman/cim/service"

	"unbrick/remediate/power"
)

// power says how the host stands. The states are those of CIM_AssociatedPowerManagementService:
// 2 is on, 6 to 8 are the ways of being off (hard, hibernated, soft), others are sleep.
func (v *visit) power() (power.State, error) {
	class := v.wsman.CIM.ServiceAvailableToElement
	all, err := list(v, func() (string, error) {
		r, err := class.Enumerate()
		return r.Body.EnumerateResponse.EnumerationContext, err
	}, func(id string) ([]service.CIM_AssociatedPowerManagementService, string, error) {
		r, err := class.Pull(id)
		return r.Body.PullResponse.AssociatedPowerManagementService, output(r.Message), err
	})
	if err != nil {
		return power.Unknown, err
	}
	for _, s := range all {
		switch s.PowerState {
		case 0:
			continue // another service
		case 2:
			return power.On, nil
		case 6, 7, 8:
			return power.Off, nil
		}
		return power.Unknown, nil
	}
	return power.Unknown, v.later(fmt.Errorf("AMT %s does not say whether the host is on", v.addr.host))
}

// turn switches the host hard, and returns when AMT shows it. It asks again when an answer was
// lost or AMT is busy: either action does nothing to a host that stands so already.
func (v *visit) turn(ctx context.Context, want power.State) error {
	action, ok := map[power.State]wsmanpower.PowerState{power.On: wsmanpower.PowerOn, power.Off: wsmanpower.PowerOffHard}[want]
	if !ok {
		return fmt.Errorf("cannot turn a host %q", want)
	}
	var refusal error
	asked := false
	for end := time.Now().Add(v.driver.opt.Times.Settle); ; {
		now, err := v.power()
		if err != nil || now == want {
			return err
		}
		if time.Now().After(end) { // after a look that followed the last request
			break
		}
		if !asked {
			refusal = v.request(action)
			switch kindOf(refusal) {
			case none:
				asked = true
			case lost, busy: // and now look again
			default:
				return refusal
			}
		}
		if err := pause(ctx, v.driver.opt.Times.Poll); err != nil {
			return err
		}
	}
	if refusal != nil {
		return refusal
	}
	return v.later(fmt.Errorf("AMT %s took the request to turn the host %s and does not show it", v.addr.host, want))
}

// request sends one power action.
func (v *visit) request(action wsmanpower.PowerState) error {
	r, err := v.wsman.CIM.PowerManagementService.RequestPowerStateChange(action)
	if err := v.check(err); err != nil {
		return err
	}
	return v.returned("power request", int(r.Body.RequestPowerStateChangeResponse.ReturnValue))
}

// next sets what the next start boots.
func (v *visit) next(from power.Source) error {
	switch from {
	case power.Disk:
		return v.clear(false)
	case power.Network:
	default:
		return fmt.Errorf("AMT %s cannot boot from %q", v.addr.host, from)
	}
	c, err := v.wsman.AMT.BootCapabilities.Get()
	if err := v.check(err); err != nil {
		return err
	}
	if !c.Body.BootCapabilitiesGetResponse.ForcePXEBoot {
		return fmt.Errorf("AMT %s cannot have the host boot from the network: its BIOS does not offer it. Enable the network stack in the BIOS", v.addr.host)
	}
	if err := v.unattended(); err != nil {
		return err
	}
	return v.arm(options{source: network, keepSecure: true})
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
