package vsphere

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Helpers implements swap.Instance: those that run on an ESXi host that sees the datastore.
func (in *instance) Helpers(ctx context.Context) ([]swap.Helper, error) {
	helpers, err := in.helpersOf(ctx, in, soon)
	if err != nil || len(helpers) == 0 {
		return nil, err
	}
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{
		{Type: "VirtualMachine", PathSet: append([]string{"runtime.host", "config.extraConfig", "config.guestId"}, looked...)},
		{Type: "HostSystem", PathSet: []string{"datastore", "runtime.inMaintenanceMode"}},
	}}
	for _, h := range helpers {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: h.ref, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "VirtualMachine", Path: "runtime.host"}}})
	}
	all, err := source.Collect(ctx, in.Client, spec)
	if err != nil {
		return nil, say(ctx, "cannot read the helpers", err)
	}
	var vms []mo.VirtualMachine
	hosts := map[types.ManagedObjectReference]mo.HostSystem{}
	for _, o := range all {
		var vm mo.VirtualMachine
		var h mo.HostSystem
		if o.Obj.Type == "HostSystem" {
			err = mo.LoadObjectContent([]types.ObjectContent{o}, &h)
			hosts[o.Obj] = h
		} else {
			err = mo.LoadObjectContent([]types.ObjectContent{o}, &vm)
			vms = append(vms, vm)
		}
		if err != nil {
			return nil, say(ctx, "cannot read "+o.Obj.Value, err)
		}
	}
	return in.fit(vms, hosts)
}

// fit returns the helpers that can take the disk, or why none can.
func (in *instance) fit(vms []mo.VirtualMachine, hosts map[types.ManagedObjectReference]mo.HostSystem) (all []swap.Helper, err error) {
	var why []error
	for _, vm := range vms {
		if err := in.unfit(vm, hosts); err != nil {
			why = append(why, fmt.Errorf("helper %s: %w", vm.Name, err))
			continue
		}
		all = append(all, swap.Helper{Name: vm.Name, Lent: lent(vm)})
	}
	if len(all) == 0 {
		return nil, errors.Join(why...)
	}
	return all, nil
}

func (in *instance) unfit(vm mo.VirtualMachine, hosts map[types.ManagedObjectReference]mo.HostSystem) error {
	if vm.Config == nil || vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return errors.New("it does not run: start it (govc vm.power -on)")
	}
	if strings.HasPrefix(vm.Config.GuestId, "win") {
		return errors.New("it is set up for Windows, which may have the same fault: a helper boots the rescue image, or Linux")
	}
	if !slices.ContainsFunc(vm.Config.ExtraConfig, enablesUUID) {
		return fmt.Errorf("its agent could not tell disks apart: power it off, govc vm.change -vm %s -e disk.enableUUID=TRUE, and power it on", vm.Name)
	}
	if vm.Runtime.Host != nil && in.disk.datastore != nil {
		if h, known := hosts[*vm.Runtime.Host]; known && !slices.Contains(h.Datastore, *in.disk.datastore) {
			return fmt.Errorf("the ESXi host that it runs on does not see the datastore of %s: start a helper beside it", in.disk.file)
		}
	}
	return nil
}

func enablesUUID(o types.BaseOptionValue) bool {
	v := o.GetOptionValue()
	return strings.EqualFold(v.Key, "disk.enableUUID") && strings.EqualFold(fmt.Sprint(v.Value), "true")
}

// lent counts the disks that are not in the helper's own folder.
func lent(vm mo.VirtualMachine) (n int) {
	home := path.Dir(vm.Config.Files.VmPathName)
	for _, d := range disks(vm) {
		if b := flat(d); b != nil && path.Dir(b.FileName) != home {
			n++
		}
	}
	return n
}

// onHelper calls f with the helper of that name as it stands, while nobody else of this process
// changes it.
func (in *instance) onHelper(ctx context.Context, name string, f func(mo.VirtualMachine) error) error {
	helpers, err := in.helpersOf(ctx, in, soon)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(helpers, func(h helper) bool { return h.name == name })
	if i < 0 {
		return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("the helper %s is gone", name)}
	}
	unlock, err := in.lock(ctx, helpers[i].ref)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := in.see(ctx, looked, helpers[i])
	if err != nil {
		return err
	}
	if len(s.helpers) == 0 {
		return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf("the helper %s is gone", name)}
	}
	if err := whole(s.helpers[0]); err != nil {
		return err
	}
	return f(s.helpers[0])
}

// lend hangs the disk on the helper, which runs.
func (in *instance) lend(ctx context.Context, e swap.Entry, helper string) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	if err := in.alone(ctx, was.volume(), soon); err != nil {
		return fmt.Errorf("the disk of %s is not hung on the helper: %w", e.Host, err)
	}
	return in.onHelper(ctx, helper, func(vm mo.VirtualMachine) error {
		if find(vm, in.disk) != nil {
			return nil
		}
		key, unit, err := room(vm)
		if err != nil {
			return err
		}
		b := flat(&was.Disk)
		d := &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Key: -1, ControllerKey: key, UnitNumber: &unit,
			Backing: &types.VirtualDiskFlatVer2BackingInfo{
				VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: b.FileName, Datastore: b.Datastore},
				DiskMode:                     string(types.VirtualDiskModeIndependent_persistent),
			}}}
		err = in.reconfigure(ctx, vm.Self, change(types.VirtualDeviceConfigSpecOperationAdd, d, was.Policy))
		said := say(ctx, fmt.Sprintf("cannot hang %s on the helper %s", e.Slot.Volume, helper), err)
		if fault.Is(err, &types.InvalidDeviceSpec{}) { // another process took the place
			return &remediate.RetryError{After: 2 * time.Second, Err: said}
		}
		return in.whoHas(ctx, was.volume(), said, err)
	})
}

// room returns a free place on a SCSI controller: NVMe shows its own serial number and not the
// disk's.
func room(vm mo.VirtualMachine) (controller, unit int32, err error) {
	for _, dev := range vm.Config.Hardware.Device {
		c, ok := dev.(types.BaseVirtualSCSIController)
		if !ok || c.GetVirtualSCSIController().SharedBus != types.VirtualSCSISharingNoSharing {
			continue
		}
		taken := map[int32]bool{c.GetVirtualSCSIController().ScsiCtlrUnitNumber: true, 7: true}
		for _, d := range vm.Config.Hardware.Device {
			if v := d.GetVirtualDevice(); v.ControllerKey == c.GetVirtualSCSIController().Key && v.UnitNumber != nil {
				taken[*v.UnitNumber] = true
			}
		}
		for u := range int32(16) {
			if !taken[u] {
				return c.GetVirtualSCSIController().Key, u, nil
			}
		}
	}
	return 0, 0, &remediate.RetryError{After: 20 * time.Second, Err: fmt.Errorf("the helper %s has no free place on a SCSI controller: give it another (govc device.scsi.add -vm %s -type pvscsi), or start another helper", vm.Name, vm.Name)}
}

// recover takes the disk off the helper.
func (in *instance) recover(ctx context.Context, e swap.Entry, helper string) error {
	return in.onHelper(ctx, helper, func(vm mo.VirtualMachine) error {
		d := find(vm, in.disk)
		if d == nil {
			return nil
		}
		if b := flat(d); b.FileName != in.disk.file {
			return fmt.Errorf("%s was moved to %s while it hung on the helper %s: move the helper back (Storage vMotion), and keep it where it is", in.disk.file, b.FileName, helper)
		}
		err := in.reconfigure(ctx, vm.Self, change(types.VirtualDeviceConfigSpecOperationRemove, d, ""))
		return say(ctx, fmt.Sprintf("cannot take %s off the helper %s", e.Slot.Volume, helper), err)
	})
}
