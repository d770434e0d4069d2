package vsphere

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// described are the properties that say whether a disk may be moved.
var described = append([]string{"config.template", "config.ftInfo", "config.keyId", "config.guestId", "config.managedBy",
	"runtime.question", "runtime.faultToleranceState", "snapshot"}, looked...)

// Describe implements swap.Instance.
func (in *instance) Describe(ctx context.Context) (swap.Slot, error) {
	s, err := in.see(ctx, described)
	if err != nil {
		return swap.Slot{}, err
	}
	slot, err := in.describe(ctx, s)
	if err != nil {
		return slot, fmt.Errorf("the disk of virtual machine %s is not swapped: %w", s.vm.Name, err)
	}
	return slot, nil
}

func (in *instance) describe(ctx context.Context, s sight) (slot swap.Slot, err error) {
	for _, check := range []func(mo.VirtualMachine) error{whole, plain} {
		if err := check(s.vm); err != nil {
			return slot, err
		}
	}
	if err := quiet(s); err != nil {
		return slot, err
	}
	disk, err := system(s.vm, in.at.disk)
	if err == nil {
		err = movable(s.vm, disk)
	}
	if err != nil {
		return slot, err
	}
	d := detail{Disk: kept(disk)}
	if s.vm.Config.BootOptions != nil {
		d.Boot = *s.vm.Config.BootOptions
	}
	v := d.volume()
	if err := in.alone(ctx, v, leisurely); err != nil {
		return slot, err
	}
	if d.Policy, err = in.policy(ctx, disk); err != nil {
		return slot, err
	}
	b, err := encode(d)
	if err != nil {
		return slot, err
	}
	in.disk = v // for Helpers
	return swap.Slot{Volume: v.file, Name: fmt.Sprintf("%s as %s of %s", v.file, name(s.vm, disk), s.vm.Name), Detail: b, Remark: remarks(s.vm)}, nil
}

// remarks are for people.
func remarks(vm mo.VirtualMachine) map[string]string {
	r := map[string]string{}
	if len(object.VirtualDeviceList(vm.Config.Hardware.Device).SelectByType((*types.VirtualTPM)(nil))) > 0 {
		r["tpm"] = "the helper does not have it: a volume that BitLocker bound to it needs its recovery key"
	}
	if m := vm.Config.ManagedBy; m != nil {
		r["managed"] = "by " + m.ExtensionKey + ": tell its owner, which may undo what is done"
	}
	return r
}

// aside is what leaves the disk where it is.
const aside = "use the way vsphere-iso, which leaves the disk where it is"

// plain says why nothing of a machine may be moved.
func plain(vm mo.VirtualMachine) error {
	c := vm.Config
	switch ft := vm.Runtime.FaultToleranceState; {
	case c.Template:
		return fmt.Errorf("it is a template: nothing runs there\nrepair it as a machine, and make it a template again")
	case c.FtInfo != nil || ft != "" && ft != types.VirtualMachineFaultToleranceStateNotConfigured:
		return fmt.Errorf("it is fault tolerant: its twin has the same fault\nturn Fault Tolerance off for it first")
	case vm.Runtime.PowerState == types.VirtualMachinePowerStateSuspended:
		return fmt.Errorf("it is suspended: its memory would go on with a disk that has changed\nresume it and look, or power it off (govc vm.power -off)")
	case vm.Runtime.Question != nil:
		return fmt.Errorf("it waits for an answer: %s\nanswer it first (govc vm.question)", vm.Runtime.Question.Text)
	case vm.Snapshot != nil && len(vm.Snapshot.RootSnapshotList) > 0:
		return fmt.Errorf("it has snapshots (%s): a disk that leaves the machine may break their chain\nremove them if nobody needs them (govc snapshot.remove), or %s", vm.Snapshot.RootSnapshotList[0].Name, aside)
	}
	return nil
}

// ours are tasks that a call of this driver may have set going before it was cut off.
var ours = []string{"poweron", "executevmpoweronlro", "poweroff", "reconfigure", "reconfigvm", "clone", "clonevm"}

// quiet makes sure that nothing is done to the machine that a stop would break: a migration, a
// snapshot that backup makes.
func quiet(s sight) error {
	for _, t := range s.tasks {
		_, what, _ := strings.Cut(t.DescriptionId, ".") // VirtualMachine.relocate
		if !slices.Contains(ours, strings.ToLower(what)) {
			return &remediate.RetryError{After: 30 * time.Second, Err: fmt.Errorf("the task %s is at work on it\nwait until it has ended, or cancel it (govc tasks, task.cancel %s)", t.DescriptionId, t.Key)}
		}
	}
	return nil
}

func name(vm mo.VirtualMachine, d *types.VirtualDisk) string {
	return object.VirtualDeviceList(vm.Config.Hardware.Device).Name(d)
}

// system returns the disk that Windows starts from: the one that is named, or the first in the
// order in which the machine boots, or else the one at the lowest place.
func system(vm mo.VirtualMachine, named string) (*types.VirtualDisk, error) {
	all := disks(vm)
	if len(all) == 0 {
		return nil, fmt.Errorf("it has no disk of its own")
	}
	if named != "" {
		for _, d := range all {
			if name(vm, d) == named {
				return d, nil
			}
		}
		return nil, fmt.Errorf("it has no disk %s: govc device.ls shows what it has", named)
	}
	if b := vm.Config.BootOptions; b != nil {
		for _, dev := range b.BootOrder {
			for _, d := range all {
				if on, ok := dev.(*types.VirtualMachineBootOptionsBootableDiskDevice); ok && on.DeviceKey == d.Key {
					return d, nil
				}
			}
		}
	}
	return slices.MinFunc(all, func(a, b *types.VirtualDisk) int {
		return cmp.Or(cmp.Compare(bus(vm, a), bus(vm, b)), cmp.Compare(unit(a), unit(b)), cmp.Compare(a.Key, b.Key))
	}), nil
}

func unit(d *types.VirtualDisk) int32 {
	if d.UnitNumber == nil {
		return 0
	}
	return *d.UnitNumber
}

// controller returns what a disk hangs on, or nil.
func controller(vm mo.VirtualMachine, d *types.VirtualDisk) types.BaseVirtualController {
	c, _ := object.VirtualDeviceList(vm.Config.Hardware.Device).FindByKey(d.ControllerKey).(types.BaseVirtualController)
	return c
}

func bus(vm mo.VirtualMachine, d *types.VirtualDisk) int32 {
	if c := controller(vm, d); c != nil {
		return c.GetVirtualController().BusNumber
	}
	return 0
}

// movable says why a disk cannot be hung elsewhere.
func movable(vm mo.VirtualMachine, d *types.VirtualDisk) error {
	n := name(vm, d)
	b := flat(d)
	if _, raw := d.Backing.(*types.VirtualDiskRawDiskMappingVer1BackingInfo); raw {
		return fmt.Errorf("disk %s is a raw device mapping\nmap the LUN to a helper by hand, or %s", n, aside)
	}
	if b == nil {
		return fmt.Errorf("disk %s is on a %T, which cannot be hung on a helper\n%s", n, d.Backing, aside)
	}
	if c, ok := controller(vm, d).(types.BaseVirtualSCSIController); ok && c.GetVirtualSCSIController().SharedBus != types.VirtualSCSISharingNoSharing {
		return fmt.Errorf("disk %s is on a controller whose bus is shared (%s), as for a failover cluster\nrepair it on the node that owns it: %s", n, c.GetVirtualSCSIController().SharedBus, aside)
	}
	switch {
	case b.Sharing == string(types.VirtualDiskSharingSharingMultiWriter):
		return fmt.Errorf("disk %s is shared by several writers\n%s", n, aside)
	case b.DiskMode != string(types.VirtualDiskModePersistent) && b.DiskMode != string(types.VirtualDiskModeIndependent_persistent):
		return fmt.Errorf("disk %s is %s: what is written to it is thrown away\nrepair the image that it is made from", n, b.DiskMode)
	case b.Parent != nil:
		return fmt.Errorf("disk %s is made on top of %s: it is a linked clone, or a snapshot was left behind\nrepair what the clones are made from and make them anew, or consolidate (govc vm.disk.consolidate, or in the client), or %s", n, b.Parent.FileName, aside)
	case b.KeyId != nil:
		return fmt.Errorf("disk %s is encrypted by vSphere, and a helper without its key cannot have it\n%s", n, aside)
	case b.Uuid == "":
		return fmt.Errorf("disk %s has no UUID: a helper could not tell it from others\n%s", n, aside)
	}
	return nil
}
