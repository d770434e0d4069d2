package ipmitest

import (
	"context"

	"github.com/bougou/go-ipmi/pkg/hal"
	"github.com/bougou/go-ipmi/pkg/handlers"
	"github.com/bougou/go-ipmi/pkg/types"
)

// A machine is what the BMC controls. All of it is guarded by the BMC's mutex.
type machine struct {
	on       bool
	flags    types.BootOptionParam_BootFlags
	keep     bool
	changing bool // boot options are being set
	boots    []string
	actions  int
}

func (m *machine) shown() Flags {
	return Flags{
		Valid: m.flags.BootFlagsValid, Persist: m.flags.Persist, UEFI: bool(m.flags.BIOSBootType),
		Device: device(m.flags.BootDeviceSelector),
	}
}

func device(s types.BootDeviceSelector) string {
	switch s {
	case types.BootDeviceSelectorForcePXE:
		return Network
	case types.BootDeviceSelectorForceCDROM, types.BootDeviceSelectorForceRemoteCDROM:
		return CD
	}
	return Disk
}

// start boots what the flags say, and returns how to tell it. The caller holds mu.
func (b *BMC) start() (tell func()) {
	from := Disk
	if b.flags.BootFlagsValid {
		from = device(b.flags.BootDeviceSelector)
	}
	if !b.flags.Persist {
		b.flags = types.BootOptionParam_BootFlags{}
	}
	b.on = true
	b.boots = append(b.boots, from)
	return func() {
		if b.opt.Started != nil {
			b.opt.Started(from)
		}
	}
}

// stop takes the power away, and returns how to tell it. The caller holds mu.
func (b *BMC) stop() (tell func()) {
	was := b.on
	b.on = false
	return func() {
		if was && b.opt.Stopped != nil {
			b.opt.Stopped()
		}
	}
}

// setBootOptions is here because the reference server has no set-in-progress and forgets what
// is said of the 60 seconds (IPMI 2.0, 28.12 and table 28-14).
func (b *BMC) setBootOptions(_ context.Context, _ *handlers.HandlerContext, req []byte) ([]byte, types.CompletionCode, error) {
	if len(req) < 2 {
		return nil, types.CodeRequestDataTruncated, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	data := req[1:]
	switch types.BootOptionParamSelector(req[0] & 0x7f) {
	case types.BootOptionParamSelector_SetInProgress:
		if data[0] == 1 && b.changing {
			return nil, types.CodeParamConfigSetInProgressConflict, nil
		}
		b.changing = data[0] == 1
	case types.BootOptionParamSelector_BMCBootFlagValidBitClear:
		b.keep = data[0]&0x08 != 0
	case types.BootOptionParamSelector_BootInfoAcknowledge:
	case types.BootOptionParamSelector_BootFlags:
		var f types.BootOptionParam_BootFlags
		if err := f.Unpack(data); err != nil {
			return nil, types.CodeRequestDataTruncated, nil
		}
		if b.opt.DropsUEFI {
			f.BIOSBootType = types.BIOSBootTypeLegacy
		}
		b.flags = f
		b.actions++
	default:
		return nil, types.CodeParameterNotSupported, nil
	}
	return nil, types.CodeOK, nil
}

// hardware is the machine as the reference server sees it.
type hardware struct{ bmc *BMC }

func (h hardware) Chassis() hal.ChassisHAL { return chassis(h) }
func (hardware) Sensors() hal.SensorHAL    { return nil }
func (hardware) Storage() hal.StorageHAL   { return nil }
func (hardware) Network() hal.NetworkHAL   { return nil }
func (hardware) GPIO() hal.GPIOHAL         { return nil }
func (hardware) I2C() hal.I2CHAL           { return nil }
func (hardware) Console() hal.ConsoleHAL   { return nil }
func (hardware) Close() error              { return nil }

type chassis struct{ bmc *BMC }

func (c chassis) PowerState(context.Context) (bool, error) {
	c.bmc.mu.Lock()
	defer c.bmc.mu.Unlock()
	return c.bmc.on, nil
}

// do changes the machine and tells it, in this order.
func (c chassis) do(change func() (tell func())) error {
	c.bmc.mu.Lock()
	c.bmc.actions++
	tell := change()
	c.bmc.mu.Unlock()
	if tell != nil {
		tell()
	}
	return nil
}

func (c chassis) SetPower(_ context.Context, on bool) error {
	return c.do(func() func() {
		switch {
		case !on:
			return c.bmc.stop()
		case !c.bmc.on:
			return c.bmc.start()
		}
		return nil
	})
}

func (c chassis) restart() error {
	return c.do(func() func() {
		if !c.bmc.on {
			return nil
		}
		stopped, started := c.bmc.stop(), c.bmc.start()
		return func() { stopped(); started() }
	})
}

func (c chassis) PowerCycle(context.Context) error { return c.restart() }
func (c chassis) ColdReset(context.Context) error  { return c.restart() }
func (c chassis) WarmReset(context.Context) error  { return c.do(c.bmc.stop) } // soft: the system obeys at once

func (c chassis) GetBootFlags(context.Context) (*types.BootOptionParam_BootFlags, error) {
	c.bmc.mu.Lock()
	defer c.bmc.mu.Unlock()
	f := c.bmc.flags
	return &f, nil
}

func (chassis) Identify(context.Context, uint8) error { return hal.ErrNotSupported }
func (chassis) IntrusionState(context.Context) (bool, error) {
	return false, hal.ErrNotSupported
}
func (chassis) SetBootFlags(context.Context, *types.BootOptionParam_BootFlags) error {
	return hal.ErrNotSupported // see setBootOptions
}
func (chassis) SetBootInfoAcknowledge(context.Context, *types.BootOptionParam_BootInfoAcknowledge) error {
	return hal.ErrNotSupported
}
func (chassis) GetBootInfoAcknowledge(context.Context) (*types.BootOptionParam_BootInfoAcknowledge, error) {
	return nil, hal.ErrNotSupported
}
