package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate/swap"
)

// A hook is how an OS disk hangs in its machine.
type hook struct {
	Name         string `json:"name"`
	Caching      string `json:"caching"`
	CreateOption string `json:"create"`
	DeleteOption string `json:"delete"` // with the machine: Detach or Delete
	Accelerated  bool   `json:"accelerated,omitempty"`
}

// hookOf says how the OS disk hangs in a machine. Size, storage and keys are the disk's own, and
// the first two are not shown of a machine that is deallocated (Azure/azure-powershell 13213).
func hookOf(vm *armcompute.VirtualMachine) hook {
	d := vm.Properties.StorageProfile.OSDisk
	h := hook{Name: val(d.Name), Caching: string(val(d.Caching)), CreateOption: string(val(d.CreateOption)),
		DeleteOption: string(val(d.DeleteOption)), Accelerated: val(d.WriteAcceleratorEnabled)}
	if h.DeleteOption == "" {
		h.DeleteOption = string(armcompute.DiskDeleteOptionTypesDetach) // what it means
	}
	return h
}

// A detail is what is put down of a swap.
type detail struct {
	Machine string `json:"machine"`
	Hook    hook   `json:"hook"`
}

func readDetail(s swap.Slot) (d detail, err error) {
	if err = json.Unmarshal(s.Detail, &d); err != nil {
		err = fmt.Errorf("the journal does not say how %s hung: %w", s.Volume, err)
	}
	return d, err
}

// Describe implements swap.Instance.
func (in *instance) Describe(ctx context.Context) (swap.Slot, error) {
	vm, err := in.view(ctx)
	if err != nil {
		return swap.Slot{}, err
	}
	in.fresh = true
	refused := func(err error) (swap.Slot, error) {
		return swap.Slot{}, fmt.Errorf("the disk of virtual machine %s is not swapped: %w", in.at.Name, err)
	}
	if err := swappable(vm); err != nil {
		return refused(err)
	}
	if in.serves(in.at, vm) {
		return refused(errors.New("it is a helper: hosts are repaired on it, and it is not one of them"))
	}
	d, err := in.disk(ctx, osDisk(vm))
	if err != nil {
		return swap.Slot{}, err
	}
	if err := movable(d); err != nil {
		return refused(err)
	}
	if err := in.unlocked(ctx, val(vm.ID), val(d.ID)); err != nil {
		return refused(err)
	}
	b, err := json.Marshal(detail{Machine: val(vm.ID), Hook: hookOf(vm)})
	if err != nil {
		return swap.Slot{}, err
	}
	return swap.Slot{
		Volume: val(d.ID), Name: fmt.Sprintf("%s, the OS disk of %s", val(d.Name), in.at.Name),
		Detail: b, Remark: remarks(vm, d),
	}, nil
}

// swappable says why a machine's OS disk cannot be swapped and put back as it was.
func swappable(vm *armcompute.VirtualMachine) error {
	p := vm.Properties
	o := p.StorageProfile.OSDisk
	switch {
	case val(o.OSType) != armcompute.OperatingSystemTypesWindows:
		return fmt.Errorf("it runs %s\nunbrick repairs Windows", val(o.OSType))
	case p.VirtualMachineScaleSet != nil:
		return errors.New("it is one of a scale set, which may replace it when it stops\nreimage it (az vmss reimage) or let the scale set make another; or detach it from the scale set first")
	case val(vm.ManagedBy) != "":
		return fmt.Errorf("%s manages it, and may undo what is done\nrepair it by that service's own means", val(vm.ManagedBy))
	case o.DiffDiskSettings != nil:
		return errors.New("its OS disk is ephemeral: it is on the host it runs on and is lost when that is deallocated\nreimage it (az vm reimage)")
	case osDisk(vm) == "":
		return errors.New("its OS disk is not a managed disk\nconvert it (az vm convert), or use az vm repair")
	case p.SecurityProfile != nil && val(p.SecurityProfile.SecurityType) == armcompute.SecurityTypesConfidentialVM:
		return errors.New("it is a confidential machine: its disk opens in no other\nuse az vm repair with the recovery key, or restore a backup")
	case p.SecurityProfile != nil && p.SecurityProfile.EncryptionIdentity != nil, o.EncryptionSettings != nil && val(o.EncryptionSettings.Enabled):
		return errEncrypted
	}
	if p.InstanceView != nil {
		for _, s := range p.InstanceView.Statuses {
			if strings.EqualFold(val(s.Code), "HibernationState/Hibernated") {
				return errors.New("it is hibernated: its memory would go on with a disk that has changed\nstart it and shut it down, or start it and look whether it comes up")
			}
		}
	}
	return nil
}

// errEncrypted is of Azure Disk Encryption: its key is a BEK in a key vault, which no agent here
// opens, and Azure swaps no OS disk of it (error OSDiskSwapNotSupportedForVMsUsingDiskEncryption).
var errEncrypted = errors.New("Azure Disk Encryption is on: its key is in a key vault, and Azure swaps no OS disk that has it\nuse az vm repair create --unlock-encrypted-vm, which opens a copy with that key")

// movable says why a disk cannot be hung elsewhere.
func movable(d *armcompute.Disk) error {
	p := d.Properties
	switch {
	case val(d.Tags[tag]) != "" && val(d.Tags[tagCopyOf]) != "" && strings.HasSuffix(val(d.Name), standInSuffix):
		return fmt.Errorf("disk %s only stands in for %s, in a swap that this state does not know\nput it back with the state that does, or by hand: az vm update --ids %s --os-disk %s", val(d.Name), val(d.Tags[tagCopyOf]), val(d.ManagedBy), val(d.Tags[tagCopyOf]))
	case p.EncryptionSettingsCollection != nil && val(p.EncryptionSettingsCollection.Enabled):
		return errEncrypted
	case val(p.MaxShares) > 1:
		return fmt.Errorf("disk %s is shared with other machines: several would write to it\nrepair it on one of them, by another way in", val(d.Name))
	case exported(val(p.DiskState)):
		return fmt.Errorf("disk %s is read from outside\nwait until that has ended, or end it: az disk revoke-access --ids %s", val(d.Name), val(d.ID))
	case p.Encryption != nil && val(p.Encryption.Type) == "" && val(p.Encryption.DiskEncryptionSetID) != "":
		return fmt.Errorf("azure does not say how disk %s is encrypted", val(d.Name))
	}
	return nil
}

// A lock is a management lock, which counts for all that is in its scope.
type lock struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		Level string `json:"level"`
	} `json:"properties"`
}

// lockAge is how long a list of locks is good: it is the same for all hosts of a subscription, and
// what Azure refuses later because of a lock is put back like any other failure.
const lockAge = time.Minute

type locks struct {
	all  []lock
	read time.Time
}

// locksOf returns the locks in a subscription.
func (p *platform) locksOf(ctx context.Context, subscription string) ([]lock, error) {
	p.mu.Lock()
	known := p.locks[strings.ToLower(subscription)]
	p.mu.Unlock()
	if time.Since(known.read) < lockAge {
		return known.all, nil
	}
	all, err := source.List[lock](ctx, p.client, "/subscriptions/"+subscription+"/providers/Microsoft.Authorization/locks", url.Values{"api-version": {"2020-05-01"}})
	if err != nil {
		return nil, say(ctx, "cannot list the locks of its subscription", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.locks[strings.ToLower(subscription)] = locks{all, time.Now()}
	return all, nil
}

// unlocked makes sure that no lock is in the way of a swap. That the disk may not be deleted does
// not matter: it is not. That nothing in its group may be matters: the stand-in could never be
// removed.
func (in *instance) unlocked(ctx context.Context, machine, disk string) error {
	all, err := in.locksOf(ctx, in.at.Subscription)
	if err != nil {
		return err
	}
	standin, err := inGroupOf(disk, "disks", "unbrick-standin")
	if err != nil {
		return err
	}
	for _, l := range all {
		if l.readOnly() && (l.covers(machine) || l.covers(disk)) || l.covers(standin.String()) {
			return fmt.Errorf("the lock %s would stop it half-way\ntake it off until the host is repaired: az lock delete --ids %s", l.Name, l.ID)
		}
	}
	return nil
}

func (l lock) readOnly() bool { return strings.EqualFold(l.Properties.Level, "ReadOnly") }

// covers says whether a resource is in the scope of a lock, which its id begins with.
func (l lock) covers(id string) bool {
	scope := strings.ToLower(l.ID)
	at := strings.LastIndex(scope, "/providers/microsoft.authorization/locks/")
	return at >= 0 && strings.HasPrefix(strings.ToLower(id)+"/", scope[:at]+"/")
}

// siteRecovery begins the names of the extensions of Azure Site Recovery.
const siteRecovery = "siterecovery"

// remarks say what a person should know before the machine is deallocated.
func remarks(vm *armcompute.VirtualMachine, d *armcompute.Disk) map[string]string {
	p := vm.Properties
	m := map[string]string{
		"deallocated": "a dynamic public address changes and the temporary disk (D:) is emptied; Azure may have no room when it starts again, unless its capacity is reserved",
		"stand-in":    fmt.Sprintf("a copy of %d GiB is billed while the disk is away", val(d.Properties.DiskSizeGB)),
	}
	if s := p.SecurityProfile; s != nil && val(s.SecurityType) == armcompute.SecurityTypesTrustedLaunch {
		m["vtpm"] = "trusted launch: the helper does not have its vTPM: a volume that BitLocker bound to it needs its recovery key"
	}
	if vm.Plan != nil || d.Properties.PurchasePlan != nil {
		m["plan"] = "from the marketplace: the stand-in is of the same plan"
	}
	if e := d.Properties.Encryption; e != nil && val(e.DiskEncryptionSetID) != "" {
		m["key"] = "encrypted with a key of your own: the stand-in uses the same disk encryption set, which unbrick must be allowed to read"
	}
	if val(p.Priority) == armcompute.VirtualMachinePriorityTypesSpot {
		m["spot"] = "a spot machine: Azure may not start it again for a while"
	}
	for _, r := range vm.Resources {
		if strings.Contains(strings.ToLower(val(r.Name)), siteRecovery) {
			m["replication"] = "Site Recovery replicates it: look afterwards whether that asks for a resynchronisation, since its OS disk was another for a while"
		}
	}
	return m
}
