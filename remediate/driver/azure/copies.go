package azure

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate/swap"
)

// The tags of all that unbrick makes.
const (
	tag       = "unbrick"          // the mark of the swap
	tagCopyOf = "unbrick-original" // name of the disk that it is a copy of, in the same group
)

func tags(e swap.Entry, d *armcompute.Disk) map[string]*string {
	return map[string]*string{tag: &e.Mark, tagCopyOf: d.Name}
}

const standInSuffix = "-standin"

// standInID is the resource id of the stand-in of a swap.
func standInID(e swap.Entry) (group, name, id string, err error) {
	r, err := inGroupOf(e.Slot.Volume, "disks", e.Mark+standInSuffix)
	if err != nil {
		return "", "", "", err
	}
	return r.ResourceGroupName, r.Name, r.String(), nil
}

// standIn returns the stand-in, which it makes if there is none. Its name is that of the swap:
// asked for twice, it is one. Nobody can read it from outside.
func (in *instance) standIn(ctx context.Context, e swap.Entry, vm *armcompute.VirtualMachine) (*armcompute.Disk, error) {
	group, name, id, err := standInID(e)
	if err != nil {
		return nil, err
	}
	got, err := in.disks.Get(ctx, group, name, nil)
	if missing(err) {
		var want armcompute.Disk
		if want, err = in.copyOf(ctx, e, vm); err != nil {
			return nil, err
		}
		p, err := in.disks.BeginCreateOrUpdate(source.Once(ctx), group, name, want, nil)
		if err = wait(ctx, in.poll, p, err); err != nil {
			return nil, say(ctx, "cannot make the stand-in "+name, err)
		}
		return in.disk(ctx, id)
	}
	switch {
	case err != nil:
		return nil, say(ctx, "cannot look for the stand-in "+name, err)
	case val(got.Tags[tag]) != e.Mark:
		return nil, fmt.Errorf("there is a disk %s in the way: %w", name, errForeign)
	case got.Properties == nil || val(got.Properties.ProvisioningState) != "Succeeded":
		return nil, in.later("the stand-in %s is not ready yet", name)
	}
	return &got.Disk, nil
}

// copyOf says what the stand-in has to be: of the cheapest storage that every machine takes, and
// else as the disk that it stands in for, or Azure would not swap it in. System and generation
// have to be said (MicrosoftDocs/SupportArticles-docs 338); the security type must not be, and is
// that of the source (Azure/azure-cli 22561, Azure/azure-sdk-for-python 30479).
func (in *instance) copyOf(ctx context.Context, e swap.Entry, vm *armcompute.VirtualMachine) (armcompute.Disk, error) {
	d, err := in.disk(ctx, e.Slot.Volume)
	if err != nil {
		return armcompute.Disk{}, err
	}
	p := d.Properties
	want := armcompute.Disk{
		Location: d.Location, ExtendedLocation: d.ExtendedLocation, Zones: vm.Zones, // the machine's: a disk on several zones has none
		SKU:  &armcompute.DiskSKU{Name: to.Ptr(armcompute.DiskStorageAccountTypesStandardSSDLRS)},
		Tags: tags(e, d),
		Properties: &armcompute.DiskProperties{
			CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: &e.Slot.Volume},
			OSType:       p.OSType, HyperVGeneration: p.HyperVGeneration, PurchasePlan: p.PurchasePlan, SupportedCapabilities: p.SupportedCapabilities,
			NetworkAccessPolicy: to.Ptr(armcompute.NetworkAccessPolicyDenyAll), PublicNetworkAccess: to.Ptr(armcompute.PublicNetworkAccessDisabled),
		},
	}
	if c := p.Encryption; c != nil && val(c.DiskEncryptionSetID) != "" {
		want.Properties.Encryption = &armcompute.Encryption{Type: c.Type, DiskEncryptionSetID: c.DiskEncryptionSetID}
	}
	return want, nil
}

// Tidy implements swap.Tidier. It deletes a disk only if name and tag say that it is the stand-in
// of this swap, and nothing has it.
func (in *instance) Tidy(ctx context.Context, e swap.Entry) error {
	group, name, id, err := standInID(e)
	if err != nil {
		return err
	}
	got, err := in.disks.Get(ctx, group, name, nil)
	if missing(err) {
		return nil
	}
	switch {
	case err != nil:
		return say(ctx, "cannot look for the stand-in "+name, err)
	case val(got.Tags[tag]) != e.Mark || same(id, e.Slot.Volume) || got.Properties == nil:
		return fmt.Errorf("the disk %s is not removed: %w", name, errForeign)
	case val(got.ManagedBy) != "" || val(got.Properties.DiskState) != armcompute.DiskStateUnattached:
		return in.later("the stand-in %s is not removed yet: it is %s", name, val(got.Properties.DiskState))
	}
	p, err := in.disks.BeginDelete(source.Once(ctx), group, name, nil)
	return say(ctx, "cannot remove the stand-in "+name, wait(ctx, in.poll, p, err))
}

// snapshot says whether the snapshot of a swap is there. While it is made, all waits.
func (in *instance) snapshot(ctx context.Context, e swap.Entry, s swap.State) (swap.State, error) {
	r, err := inGroupOf(e.Slot.Volume, "snapshots", e.Mark)
	if err != nil {
		return s, err
	}
	got, err := in.snapshots.Get(ctx, r.ResourceGroupName, r.Name, nil)
	if missing(err) {
		return s, nil
	}
	if err != nil {
		return s, say(ctx, "cannot look for snapshot "+r.Name, err)
	}
	if got.Properties == nil || val(got.Tags[tag]) != e.Mark {
		return s, fmt.Errorf("there is a snapshot %s in the way: %w", r.Name, errForeign)
	}
	switch state := val(got.Properties.ProvisioningState); state {
	case "Succeeded":
		s.Snapshot = true
	case "Failed", "Canceled":
		return s, fmt.Errorf("the snapshot %s came to nothing (%s)\nremove it, and it is made again: %s", r.Name, state, Removal(e))
	default:
		s.Volume = swap.Moving
	}
	return s, nil
}

// snap makes a snapshot of what has changed since the last one, which costs the least.
func (in *instance) snap(ctx context.Context, e swap.Entry) error {
	r, err := inGroupOf(e.Slot.Volume, "snapshots", e.Mark)
	if err != nil {
		return err
	}
	d, err := in.disk(ctx, e.Slot.Volume)
	if err != nil {
		return err
	}
	p, err := in.snapshots.BeginCreateOrUpdate(source.Once(ctx), r.ResourceGroupName, r.Name, armcompute.Snapshot{
		Location: d.Location, Tags: tags(e, d),
		Properties: &armcompute.SnapshotProperties{
			CreationData: &armcompute.CreationData{CreateOption: to.Ptr(armcompute.DiskCreateOptionCopy), SourceResourceID: &e.Slot.Volume},
			Incremental:  to.Ptr(true), NetworkAccessPolicy: to.Ptr(armcompute.NetworkAccessPolicyDenyAll), PublicNetworkAccess: to.Ptr(armcompute.PublicNetworkAccessDisabled),
		},
	}, nil)
	return say(ctx, "cannot make a snapshot of "+e.Slot.Name, wait(ctx, in.poll, p, err))
}

// Removal is the command that removes the snapshot of a swap.
func Removal(e swap.Entry) string {
	r, err := inGroupOf(e.Slot.Volume, "snapshots", e.Mark)
	if err != nil {
		return "az snapshot delete --name " + e.Mark
	}
	return "az snapshot delete --ids " + r.String()
}
