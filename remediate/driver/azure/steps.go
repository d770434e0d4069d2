package azure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Do implements swap.Instance.
func (in *instance) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	in.fresh = false
	switch step {
	case swap.Stop:
		return in.deallocate(ctx)
	case swap.Start:
		p, err := in.vms.BeginStart(source.Once(ctx), in.at.Group, in.at.Name, nil)
		return say(ctx, "cannot start virtual machine "+in.at.Name, wait(ctx, in.poll, p, err))
	case swap.Snap:
		return in.snap(ctx, e)
	case swap.Release:
		return in.release(ctx, e)
	case swap.Return:
		return in.giveBack(ctx, e)
	case swap.Lend:
		return in.lend(ctx, e, helper)
	case swap.Recover:
		return in.recover(ctx, e, helper)
	}
	return fmt.Errorf("azure knows no step %q", step)
}

// wait waits for the end of an operation, if it began.
func wait[T any](ctx context.Context, every time.Duration, p *runtime.Poller[T], err error) error {
	if err != nil {
		return err
	}
	_, err = p.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: every})
	return err
}

// deallocate stops a machine and lets go of what it ran on: nothing less lets its OS disk be
// swapped.
func (in *instance) deallocate(ctx context.Context) error {
	p, err := in.vms.BeginDeallocate(source.Once(ctx), in.at.Group, in.at.Name, nil)
	return say(ctx, "cannot deallocate virtual machine "+in.at.Name, wait(ctx, in.poll, p, err))
}

// deallocated returns the machine as it is now, deallocated.
func (in *instance) deallocated(ctx context.Context) (*armcompute.VirtualMachine, error) {
	vm, err := in.view(ctx)
	if err == nil && source.Power(vm) == "stopped" {
		if err = in.deallocate(ctx); err == nil {
			vm, err = in.view(ctx)
		}
	}
	if err == nil && source.Power(vm) != "deallocated" {
		err = in.later("virtual machine %s is %s and not deallocated: somebody started it", in.at.Name, source.Power(vm))
	}
	return vm, err
}

// later is an error that passes.
func (in *instance) later(format string, args ...any) error {
	return &remediate.RetryError{After: 5 * time.Second, Err: fmt.Errorf(format, args...)}
}

// release puts the stand-in in the disk's place.
func (in *instance) release(ctx context.Context, e swap.Entry) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	vm, err := in.deallocated(ctx)
	if err != nil || !same(osDisk(vm), e.Slot.Volume) {
		return err
	}
	standin, err := in.standIn(ctx, e, vm)
	if err != nil {
		return err
	}
	was.Hook.Name = val(standin.Name)
	// Nothing is to be deleted because of what the machine had before; and only a premium disk
	// can be accelerated.
	was.Hook.DeleteOption = string(armcompute.DiskDeleteOptionTypesDetach)
	was.Hook.Accelerated = false
	return in.swapIn(ctx, vm, val(standin.ID), was.Hook)
}

// giveBack puts the disk back in its place, and makes sure of it.
func (in *instance) giveBack(ctx context.Context, e swap.Entry) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	vm, err := in.deallocated(ctx)
	if err != nil {
		return err
	}
	if !same(osDisk(vm), e.Slot.Volume) {
		d, err := in.disk(ctx, e.Slot.Volume)
		if err != nil {
			return err
		}
		if val(d.ManagedBy) != "" || val(d.Properties.DiskState) != armcompute.DiskStateUnattached {
			return in.later("disk %s is not put back yet: it is %s, on %s", was.Hook.Name, val(d.Properties.DiskState), val(d.ManagedBy))
		}
		if err := in.swapIn(ctx, vm, e.Slot.Volume, was.Hook); err != nil {
			return err
		}
		if vm, err = in.view(ctx); err != nil {
			return err
		}
	}
	if now := hookOf(vm); now != was.Hook || !same(osDisk(vm), e.Slot.Volume) {
		return fmt.Errorf("disk %s is back in virtual machine %s, but not as it was: it hangs as %+v, and hung as %+v", was.Hook.Name, in.at.Name, now, was.Hook)
	}
	return nil
}

// swapIn swaps the OS disk of a machine, if nobody changed it in between. Of the slot only what
// belongs to the disk is said: Azure leaves the rest alone, and refuses another createOption.
func (in *instance) swapIn(ctx context.Context, vm *armcompute.VirtualMachine, id string, h hook) error {
	change := armcompute.VirtualMachineUpdate{Properties: &armcompute.VirtualMachineProperties{StorageProfile: &armcompute.StorageProfile{
		OSDisk: &armcompute.OSDisk{
			Name: &h.Name, CreateOption: to.Ptr(armcompute.DiskCreateOptionTypes(h.CreateOption)),
			Caching: to.Ptr(armcompute.CachingTypes(h.Caching)), DeleteOption: to.Ptr(armcompute.DiskDeleteOptionTypes(h.DeleteOption)),
			ManagedDisk: &armcompute.ManagedDiskParameters{ID: &id},
		},
	}}}
	if h.Accelerated != hookOf(vm).Accelerated {
		change.Properties.StorageProfile.OSDisk.WriteAcceleratorEnabled = &h.Accelerated
	}
	p, err := in.vms.BeginUpdate(source.Once(ctx), in.at.Group, in.at.Name, change, &armcompute.VirtualMachinesClientBeginUpdateOptions{IfMatch: vm.Etag})
	return say(ctx, fmt.Sprintf("cannot swap the OS disk of virtual machine %s for %s", in.at.Name, h.Name), wait(ctx, in.poll, p, err))
}

// lend hangs the disk on the helper, where nothing but the disk's id is changed.
func (in *instance) lend(ctx context.Context, e swap.Entry, name string) error {
	a, err := source.ParseAddress(name)
	if err != nil {
		return err
	}
	done, err := in.turn(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	h, err := in.machine(ctx, a)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(h.Properties.StorageProfile.DataDisks, func(d *armcompute.DataDisk) bool {
		return d.ManagedDisk != nil && same(val(d.ManagedDisk.ID), e.Slot.Volume)
	}) {
		return in.later("%s is being hung on the helper %s, or taken off it", e.Slot.Name, name)
	}
	lun, err := freeLUN(h, e.Mark)
	if err != nil {
		return in.later("disk %s is not hung on %s: %w", e.Slot.Name, name, err)
	}
	p, err := in.vms.BeginAttachDetachDataDisks(source.Once(ctx), a.Group, a.Name, armcompute.AttachDetachDataDisksRequest{
		DataDisksToAttach: []*armcompute.DataDisksToAttach{{
			DiskID: &e.Slot.Volume, Lun: &lun, Caching: to.Ptr(armcompute.CachingTypesNone), DeleteOption: to.Ptr(armcompute.DiskDeleteOptionTypesDetach),
		}},
	}, nil)
	err = wait(ctx, in.poll, p, err)
	what := fmt.Sprintf("cannot hang %s on the helper %s", e.Slot.Name, name)
	var r *source.Refusal
	if explained := source.Explain(err); ctx.Err() == nil && errors.As(explained, &r) {
		switch {
		case strings.Contains(r.Message, "maximum number of data disks"): // others will be put back
			return in.later("%s: %w\na larger size takes more, and so do more helpers", what, explained)
		case strings.Contains(r.Message, "A disk at LUN"): // another process took the place
			return in.later("%s: %w", what, explained)
		}
	}
	return say(ctx, what, err)
}

// recover takes the disk off the helper.
func (in *instance) recover(ctx context.Context, e swap.Entry, name string) error {
	a, err := source.ParseAddress(name)
	if err != nil {
		return err
	}
	done, err := in.turn(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	p, err := in.vms.BeginAttachDetachDataDisks(source.Once(ctx), a.Group, a.Name, armcompute.AttachDetachDataDisksRequest{
		DataDisksToDetach: []*armcompute.DataDisksToDetach{{DiskID: &e.Slot.Volume}},
	}, nil)
	return say(ctx, fmt.Sprintf("cannot take %s off the helper %s", e.Slot.Name, name), wait(ctx, in.poll, p, err))
}

var errForeign = errors.New("it is not unbrick's: rename or remove it")
