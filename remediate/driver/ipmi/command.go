package ipmi

import (
	"context"
	"fmt"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/chassis"
	"github.com/bougou/go-ipmi/pkg/types"

	"unbrick/remediate/power"
)

func (v *visit) power(ctx context.Context) (power.State, error) {
	var s *chassis.GetChassisStatusResponse
	err := v.ask(ctx, func() (err error) { s, err = v.client.GetChassisStatus(ctx); return err })
	switch {
	case err != nil:
		return power.Unknown, err
	case s.PowerIsOn:
		return power.On, nil
	}
	return power.Off, nil
}

// turn asks until the power is as wanted: some BMCs refuse an action for a while after the
// other. Either does nothing when the power is so already.
func (v *visit) turn(ctx context.Context, to power.State) error {
	action := chassis.ChassisControlPowerUp
	if to == power.Off {
		action = chassis.ChassisControlPowerDown
	}
	return v.settle(ctx, "power "+string(to), func() (bool, error) {
		s, err := v.power(ctx)
		return err == nil && s == to, err
	}, func() error {
		_, err := v.client.ChassisControl(ctx, action)
		return err
	})
}

// next sets the boot flags in the order of ipmitool, which is what BMCs are tested with.
func (v *visit) next(ctx context.Context, from power.Source) error {
	var want types.BootOptionParam_BootFlags // nothing valid: as the firmware is set up
	if from == power.Network {
		want = types.BootOptionParam_BootFlags{
			BootFlagsValid: true, BIOSBootType: types.BIOSBootTypeEFI, BootDeviceSelector: types.BootDeviceSelectorForcePXE,
		}
	}
	set := func(p types.BootOptionParameter) error {
		return v.ask(ctx, func() error { return v.client.SetSystemBootOptionsParamFor(ctx, p) })
	}
	// Not every BMC has these, and none needs them to take the flags: what they answer does
	// not matter. The second keeps the flags for longer than the 60 seconds that they last
	// without a power command.
	for _, p := range []types.BootOptionParameter{
		&types.BootOptionParam_SetInProgress{Value: types.SetInProgress_SetInProgress},
		&types.BootOptionParam_BMCBootFlagValidBitClear{DontClearOnCommandReceivedTimeout: from == power.Network},
		&types.BootOptionParam_BootInfoAcknowledge{ByBIOSPOST: true},
	} {
		if err := set(p); err != nil && troubleOf(err) != refused && troubleOf(err) != later {
			return err
		}
	}
	taken := false // flags of before, used up, may look like those that are wanted
	err := v.settle(ctx, "boot flags", func() (bool, error) {
		if !taken {
			return false, nil
		}
		var now types.BootOptionParam_BootFlags
		err := v.ask(ctx, func() error { return v.client.GetSystemBootOptionsParamFor(ctx, &now) })
		return err == nil && shows(now, want), err
	}, func() error {
		err := v.client.SetSystemBootOptionsParamFor(ctx, &want)
		taken = err == nil
		return err
	})
	done := set(&types.BootOptionParam_SetInProgress{Value: types.SetInProgress_SetComplete})
	if err == nil && troubleOf(done) == silent {
		err = done
	}
	return err
}

// shows compares flags by what they start from. ipmi_sim and some BMCs do not show the bits for
// valid and for UEFI that they were given.
func shows(now, want types.BootOptionParam_BootFlags) bool {
	return now.BootDeviceSelector == want.BootDeviceSelector || !want.BootFlagsValid && !now.BootFlagsValid
}

// settle makes a change: it looks whether it is done, asks for it, and looks until it shows.
// It asks again only when the request or its answer was lost, or when the BMC cannot now.
func (v *visit) settle(ctx context.Context, what string, done func() (bool, error), ask func() error) error {
	var refusal error
	asked := false
	for end := time.Now().Add(v.sw.opt.Times.Settle); ; {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if !time.Now().Before(end) {
			break
		}
		if !asked {
			refusal = ask()
			switch troubleOf(refusal) {
			case none:
				asked = true
				continue
			case silent, later:
			default:
				return refusal
			}
		}
		if err := pause(ctx, v.sw.opt.Times.Poll); err != nil {
			return err
		}
	}
	if refusal != nil {
		return refusal
	}
	return v.retry(fmt.Errorf("BMC %s took the %s and does not show it", v.addr, what))
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
