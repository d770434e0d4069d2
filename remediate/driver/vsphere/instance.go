package vsphere

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// An instance is a virtual machine during one call.
type instance struct {
	*site
	*vim25.Client
	at   address
	ref  types.ManagedObjectReference
	uuid string // of the instance
	disk volume // what is swapped, once it is known
	last *sight // what Look saw
}

// ID implements swap.Instance. The instance UUID stays when the machine is moved to another
// host, folder or vCenter.
func (in *instance) ID() string { return "vsphere " + in.uuid }

// Close implements swap.Instance. The session is not the instance's.
func (in *instance) Close() error { return nil }

// Mark implements swap.Marker: the serial number that the agent on a helper sees.
func (in *instance) Mark(e swap.Entry) string {
	d, err := readDetail(e.Slot)
	if err != nil {
		return ""
	}
	return serial(d.uuid())
}

// serial is a VMDK's UUID as a SCSI disk shows it.
func serial(uuid string) string { return strings.ToLower(strings.ReplaceAll(uuid, "-", "")) }

// looked are the properties that say how things stand.
var looked = []string{"name", "runtime.powerState", "runtime.connectionState", "config.hardware.device", "config.bootOptions", "config.files", "recentTask", "parent"}

// A sight is the instance, what is being done to it, and the helpers, in one look.
type sight struct {
	vm      mo.VirtualMachine
	helpers []mo.VirtualMachine

	tasks   []types.TaskInfo // of the instance that have not ended
	strange []types.TaskInfo // of helpers, which may be about the disk
}

// note keeps a task that has not ended. One that this process began on a helper for another disk
// is not kept.
func (s *sight) note(in *instance, t types.TaskInfo) {
	switch {
	case t.State != types.TaskInfoStateRunning && t.State != types.TaskInfoStateQueued:
	case t.Entity != nil && *t.Entity == in.ref:
		s.tasks = append(s.tasks, t)
	case !in.others(t.Task):
		s.strange = append(s.strange, t)
	}
}

// see reads properties of the instance, its tasks and the properties of helpers, in one request.
func (in *instance) see(ctx context.Context, properties []string, helpers ...helper) (s sight, err error) {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: properties}, {Type: "Task", PathSet: []string{"info"}}}}
	for _, h := range append([]helper{{ref: in.ref}}, helpers...) {
		spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: h.ref, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "VirtualMachine", Path: "recentTask"}}})
	}
	all, err := source.Collect(ctx, in.Client, spec)
	if err != nil {
		return s, say(ctx, "cannot read virtual machine "+in.ref.Value, err)
	}
	found := false
	for _, o := range all {
		switch {
		case o.Obj == in.ref:
			found, err = true, mo.LoadObjectContent([]types.ObjectContent{o}, &s.vm)
		case o.Obj.Type == "Task":
			var t mo.Task
			err = mo.LoadObjectContent([]types.ObjectContent{o}, &t)
			s.note(in, t.Info)
		default:
			var h mo.VirtualMachine
			err = mo.LoadObjectContent([]types.ObjectContent{o}, &h)
			s.helpers = append(s.helpers, h)
		}
		if err != nil {
			return s, say(ctx, "cannot read "+o.Obj.Value, err) // a property that the account may not see
		}
	}
	if !found {
		return s, fmt.Errorf("virtual machine %s is gone: was it deleted or unregistered just now?", in.ref.Value)
	}
	return s, nil
}

// seen returns what Look saw: a step follows a look.
func (in *instance) seen(ctx context.Context) (sight, error) {
	if in.last != nil {
		return *in.last, nil
	}
	s, err := in.see(ctx, looked)
	if err == nil {
		err = whole(s.vm)
	}
	return s, err
}

// whole makes sure that vCenter knows all of the machine.
func whole(vm mo.VirtualMachine) error {
	if vm.Config == nil || vm.Runtime.ConnectionState != types.VirtualMachineConnectionStateConnected {
		return &remediate.RetryError{After: 30 * time.Second, Err: fmt.Errorf("virtual machine %s is %s for vCenter: look at the ESXi host that has it, and its datastore", vm.Name, vm.Runtime.ConnectionState)}
	}
	return nil
}

// power says whether the machine runs. One that is suspended has a memory that goes with its
// disk: no rule knows what to do with it.
func (s sight) power() swap.Power {
	switch {
	case len(s.tasks) > 0:
		return swap.Changing
	case s.vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn:
		return swap.On
	case s.vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOff:
		return swap.Off
	}
	return swap.Power(s.vm.Runtime.PowerState)
}

// Look implements swap.Instance.
func (in *instance) Look(ctx context.Context, e swap.Entry) (swap.State, error) {
	var d detail
	var helpers []helper
	var err error
	if e.Slot.Volume != "" {
		if d, err = readDetail(e.Slot); err != nil {
			return swap.State{}, err
		}
		in.disk = d.volume()
		if helpers, err = in.helpersOf(ctx, in, soon); err != nil {
			return swap.State{}, err
		}
	}
	s, err := in.see(ctx, looked, helpers...)
	if err == nil {
		err = whole(s.vm)
	}
	in.last = &s
	own := swap.State{Power: s.power(), Volume: swap.Own}
	if err != nil || e.Slot.Volume == "" {
		return own, err
	}
	if find(s.vm, in.disk) != nil {
		if e.Snapshot && own.Power != swap.Changing {
			own.Snapshot, err = in.hasCopy(ctx, s.vm, e.Mark)
		}
		return own, err
	}
	for _, h := range s.helpers {
		if find(h, in.disk) != nil {
			return swap.State{Power: own.Power, Volume: swap.Lent, On: h.Name}, nil
		}
	}
	if len(s.strange) > 0 { // it may be what hangs the disk there, begun by a process that was killed
		return swap.State{Power: own.Power, Volume: swap.Moving}, nil
	}
	return swap.State{Power: own.Power, Volume: swap.Free}, nil
}

// A volume is what a disk is known by: its UUID, which stays when the file is moved, or the file.
type volume struct {
	uuid, file string
	datastore  *types.ManagedObjectReference
}

// find returns the disk of a machine that is this volume, or nil.
func find(vm mo.VirtualMachine, v volume) *types.VirtualDisk {
	for _, d := range disks(vm) {
		if b := flat(d); b != nil && (b.FileName == v.file || b.Uuid != "" && strings.EqualFold(b.Uuid, v.uuid)) {
			return d
		}
	}
	return nil
}

func disks(vm mo.VirtualMachine) (all []*types.VirtualDisk) {
	if vm.Config == nil {
		return nil
	}
	for _, dev := range vm.Config.Hardware.Device {
		if d, ok := dev.(*types.VirtualDisk); ok {
			all = append(all, d)
		}
	}
	return all
}

// flat returns what a disk is on, or nil where that is no file of the usual kind.
func flat(d *types.VirtualDisk) *types.VirtualDiskFlatVer2BackingInfo {
	b, _ := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return b
}
