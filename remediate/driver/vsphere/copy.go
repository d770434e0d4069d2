package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/remediate/swap"
)

// Removal returns the command that removes the copy of an entry.
func Removal(e swap.Entry) string { return "govc vm.destroy " + e.Mark }

// hasCopy says whether the copy is there: beside the machine. While it is being made, the
// machine has a task.
func (in *instance) hasCopy(ctx context.Context, vm mo.VirtualMachine, mark string) (bool, error) {
	if vm.Parent == nil {
		return false, nil
	}
	res, err := methods.FindChild(ctx, in.Client, &types.FindChild{This: *in.ServiceContent.SearchIndex, Entity: *vm.Parent, Name: mark})
	if err != nil {
		return false, say(ctx, "cannot look for the copy "+mark, err)
	}
	return res.Returnval != nil, nil
}

// copy clones the machine with the disk alone, and without a network: what is started by mistake
// is no twin.
func (in *instance) copy(ctx context.Context, e swap.Entry) error {
	s, err := in.seen(ctx)
	if err != nil {
		return err
	}
	if !in.IsVC() {
		return errors.New("a single ESXi host makes no clones: run without snapshots, or copy the disk yourself (vmkfstools -i)")
	}
	if s.vm.Parent == nil {
		return errors.New("it is a part of a vApp, where no clone can be put beside it: run without snapshots, or copy the disk yourself")
	}
	mine := find(s.vm, in.disk)
	if mine == nil {
		return nil // it went just now
	}
	var without []types.BaseVirtualDeviceConfigSpec
	for _, dev := range s.vm.Config.Hardware.Device {
		d, disk := dev.(*types.VirtualDisk)
		_, nic := dev.(types.BaseVirtualEthernetCard)
		if nic || disk && d != mine {
			without = append(without, &types.VirtualDeviceConfigSpec{Operation: types.VirtualDeviceConfigSpecOperationRemove, Device: dev})
		}
	}
	res, err := methods.CloneVM_Task(ctx, in.Client, &types.CloneVM_Task{This: in.ref, Folder: *s.vm.Parent, Name: e.Mark, Spec: types.VirtualMachineCloneSpec{
		Location: types.VirtualMachineRelocateSpec{DiskMoveType: string(types.VirtualMachineRelocateDiskMoveOptionsMoveAllDiskBackingsAndDisallowSharing)},
		Config: &types.VirtualMachineConfigSpec{
			Annotation:   fmt.Sprintf("a copy of the disk of %s, made by unbrick before it was repaired; %s removes it", s.vm.Name, Removal(e)),
			DeviceChange: without,
		},
	}})
	if err == nil {
		err = in.await(ctx, res.Returnval)
	}
	return say(ctx, "cannot copy the disk of "+s.vm.Name+" ("+name(s.vm, mine)+")", err)
}
