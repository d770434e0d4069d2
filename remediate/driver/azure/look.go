package azure

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate/swap"
)

// power says whether a machine runs. One that is stopped and not deallocated is off: what needs
// more deallocates it. One of which Azure does not know it is looked at again.
func power(vm *armcompute.VirtualMachine) swap.Power {
	switch source.Power(vm) {
	case "running":
		return swap.On
	case "deallocated", "stopped":
		return swap.Off
	}
	return swap.Changing
}

// busy says whether an operation is at work on a machine.
func busy(vm *armcompute.VirtualMachine) bool {
	switch val(vm.Properties.ProvisioningState) {
	case "Creating", "Updating", "Deleting":
		return true
	}
	return false
}

// osDisk is the id of the disk that a machine starts from; empty if that is none of its own.
func osDisk(vm *armcompute.VirtualMachine) string {
	if m := vm.Properties.StorageProfile.OSDisk.ManagedDisk; m != nil {
		return val(m.ID)
	}
	return ""
}

// same says whether two resource ids are one: Azure does not keep their case.
func same(a, b string) bool { return a != "" && strings.EqualFold(a, b) }

// Look implements swap.Instance.
func (in *instance) Look(ctx context.Context, e swap.Entry) (swap.State, error) {
	in.lun = nil
	vm, err := in.view(ctx)
	if err != nil {
		return swap.State{}, err
	}
	s := swap.State{Power: power(vm), Volume: swap.Own}
	if e.Slot.Volume == "" {
		return s, nil
	}
	if !same(osDisk(vm), e.Slot.Volume) {
		return in.away(ctx, e, s)
	}
	if s.Power != swap.On && busy(vm) {
		s.Volume = swap.Moving
	} else if s.Power == swap.Off && e.Snapshot {
		return in.snapshot(ctx, e, s)
	}
	return s, err
}

// away says where a volume is that its machine does not start from.
func (in *instance) away(ctx context.Context, e swap.Entry, s swap.State) (swap.State, error) {
	d, err := in.disk(ctx, e.Slot.Volume)
	if err != nil {
		return s, err
	}
	holder, state := val(d.ManagedBy), val(d.Properties.DiskState)
	switch {
	case holder == "" && state == armcompute.DiskStateUnattached:
		s.Volume = swap.Free
		return s, nil
	case exported(state):
		return s, fmt.Errorf("somebody reads the disk %s from outside, so nothing can have it\nend that: az disk revoke-access --ids %s", val(d.Name), e.Slot.Volume)
	case holder == "" || same(holder, val(in.last.ID)):
		s.Volume = swap.Moving // Azure shows one of the two late
		return s, nil
	}
	return in.held(ctx, e, s, holder, state)
}

// held says whether what has the volume is a helper.
func (in *instance) held(ctx context.Context, e swap.Entry, s swap.State, holder string, state armcompute.DiskState) (swap.State, error) {
	s.Volume, s.On = swap.Elsewhere, holder
	a, err := source.ParseAddress(holder)
	if err != nil {
		return s, nil // of a scale set
	}
	h, err := in.machine(ctx, a)
	if errors.Is(err, errNoMachine) {
		s.Volume = swap.Moving // it was deleted just now
		return s, nil
	}
	if err != nil || !in.serves(a, h) {
		return s, err
	}
	s.On = a.String()
	for _, d := range h.Properties.StorageProfile.DataDisks {
		if d.ManagedDisk == nil || !same(val(d.ManagedDisk.ID), e.Slot.Volume) || val(d.ToBeDetached) {
			continue
		}
		if state == armcompute.DiskStateAttached || state == armcompute.DiskStateReserved && power(h) == swap.Off {
			s.Volume, in.lun = swap.Lent, d.Lun
			return s, nil
		}
	}
	s.Volume = swap.Moving
	return s, nil
}

// exported says whether a disk is read or written from outside of any machine.
func exported(s armcompute.DiskState) bool {
	switch s {
	case armcompute.DiskStateActiveSAS, armcompute.DiskStateActiveSASFrozen, armcompute.DiskStateActiveUpload, armcompute.DiskStateReadyToUpload:
		return true
	}
	return false
}

// disk reads a managed disk by its resource id.
func (in *instance) disk(ctx context.Context, id string) (*armcompute.Disk, error) {
	r, err := arm.ParseResourceID(id)
	if err != nil {
		return nil, fmt.Errorf("%q is no disk of Azure: %w", id, err)
	}
	got, err := in.disks.Get(ctx, r.ResourceGroupName, r.Name, nil)
	if err != nil {
		return nil, say(ctx, "cannot read the disk "+r.Name, err)
	}
	if got.Properties == nil {
		return nil, fmt.Errorf("azure does not say how the disk %s stands", r.Name)
	}
	return &got.Disk, nil
}

// inGroupOf returns the resource id of another resource in the resource group of a disk.
func inGroupOf(disk, kind, name string) (*arm.ResourceID, error) {
	r, err := arm.ParseResourceID(disk)
	if err != nil {
		return nil, fmt.Errorf("%q is no disk of Azure: %w", disk, err)
	}
	return arm.ParseResourceID(fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/%s/%s", r.SubscriptionID, r.ResourceGroupName, kind, name))
}
