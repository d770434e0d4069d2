package vsphere

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Do implements swap.Instance. It waits for the task: its error is nowhere else.
func (in *instance) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	switch step {
	case swap.Stop:
		return in.stop(ctx)
	case swap.Start:
		return in.start(ctx, e)
	case swap.Snap:
		return in.copy(ctx, e)
	case swap.Release:
		return in.release(ctx, e)
	case swap.Return:
		return in.giveBack(ctx, e)
	case swap.Lend:
		return in.lend(ctx, e, helper)
	case swap.Recover:
		return in.recover(ctx, e, helper)
	}
	return fmt.Errorf("vSphere knows no step %q", step)
}

func (in *instance) stop(ctx context.Context) error {
	res, err := methods.PowerOffVM_Task(ctx, in.Client, &types.PowerOffVM_Task{This: in.ref})
	if err == nil {
		err = in.await(ctx, res.Returnval)
	}
	return say(ctx, "cannot power off "+in.ref.Value, already(err, types.VirtualMachinePowerStatePoweredOff))
}

// already takes a power that is there for no error.
func already(err error, power types.VirtualMachinePowerState) error {
	var f *types.InvalidPowerState
	if _, is := fault.As(err, &f); is && f.ExistingState == power {
		return nil
	}
	return err
}

// start first puts the order back in which the machine boots: vCenter strikes out of it what is
// taken off.
func (in *instance) start(ctx context.Context, e swap.Entry) error {
	if e.Slot.Volume != "" {
		if err := in.putBootBack(ctx, e); err != nil {
			return err
		}
	}
	res, err := methods.PowerOnVM_Task(ctx, in.Client, &types.PowerOnVM_Task{This: in.ref})
	if err == nil {
		err = in.await(ctx, res.Returnval)
	}
	return say(ctx, "cannot power on "+in.ref.Value, already(err, types.VirtualMachinePowerStatePoweredOn))
}

func (in *instance) putBootBack(ctx context.Context, e swap.Entry) error {
	d, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	s, err := in.seen(ctx)
	if err != nil {
		return err
	}
	var boot types.VirtualMachineBootOptions
	if s.vm.Config.BootOptions != nil {
		boot = *s.vm.Config.BootOptions
	}
	if reflect.DeepEqual(boot, d.Boot) {
		return nil
	}
	boot = d.Boot
	if len(boot.BootOrder) == 0 { // an unset order is one that is not changed
		boot.BootOrder = noOrder()
	}
	return say(ctx, "cannot put back what "+s.vm.Name+" boots from", in.reconfigure(ctx, in.ref, types.VirtualMachineConfigSpec{BootOptions: &boot}))
}

// reconfigure changes a machine.
func (in *instance) reconfigure(ctx context.Context, ref types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) error {
	res, err := methods.ReconfigVM_Task(ctx, in.Client, &types.ReconfigVM_Task{This: ref, Spec: spec})
	if err != nil {
		return err
	}
	defer in.begin(res.Returnval, in.disk.file)()
	return in.await(ctx, res.Returnval)
}

// change is a change of one device, whose files are left alone.
func change(op types.VirtualDeviceConfigSpecOperation, d *types.VirtualDisk, policy string) types.VirtualMachineConfigSpec {
	c := &types.VirtualDeviceConfigSpec{Operation: op, Device: d}
	if policy != "" {
		c.Profile = []types.BaseVirtualMachineProfileSpec{&types.VirtualMachineDefinedProfileSpec{ProfileId: policy}}
	}
	return types.VirtualMachineConfigSpec{DeviceChange: []types.BaseVirtualDeviceConfigSpec{c}}
}

// release takes the disk off the machine.
func (in *instance) release(ctx context.Context, e swap.Entry) error {
	s, err := in.seen(ctx)
	if err != nil {
		return err
	}
	d := find(s.vm, in.disk)
	if d == nil {
		return nil
	}
	err = in.reconfigure(ctx, in.ref, change(types.VirtualDeviceConfigSpecOperationRemove, d, ""))
	return say(ctx, fmt.Sprintf("cannot take %s off %s", e.Slot.Volume, s.vm.Name), err)
}

// giveBack hangs the disk back as it hung, and makes sure of it.
func (in *instance) giveBack(ctx context.Context, e swap.Entry) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	if err := in.alone(ctx, was.volume(), soon); err != nil { // a helper that is no longer one may have it
		return fmt.Errorf("the disk of %s is not put back yet: %w", e.Host, err)
	}
	err = in.reconfigure(ctx, in.ref, change(types.VirtualDeviceConfigSpecOperationAdd, was.added(), was.Policy))
	if err != nil {
		return in.whoHas(ctx, was.volume(), say(ctx, fmt.Sprintf("cannot hang %s back on %s", e.Slot.Volume, in.ref.Value), err), err)
	}
	s, err := in.see(ctx, looked)
	if err != nil {
		return err
	}
	d := find(s.vm, in.disk)
	if d == nil {
		return &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf("%s does not show the disk that was hung back on it", s.vm.Name)}
	}
	if is := kept(d); !reflect.DeepEqual(is, was.Disk) {
		now, _ := encode(is)
		before, _ := encode(was.Disk)
		return fmt.Errorf("disk %s is back on %s, but not as it was: it is now\n%s\nand was\n%s", e.Slot.Volume, s.vm.Name, now, before)
	}
	return nil
}

// whoHas adds to an error that speaks of a lock which machine has the disk.
func (in *instance) whoHas(ctx context.Context, v volume, said, fault error) error {
	if !locked(fault) {
		return said
	}
	if err := in.alone(ctx, v, time.Millisecond); err != nil {
		return fmt.Errorf("%w; %v", said, err)
	}
	return &remediate.RetryError{After: 30 * time.Second, Err: fmt.Errorf("%w; no machine on this server has it: a backup may, or another vCenter", said)}
}
