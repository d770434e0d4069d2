package rollback

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
)

// VSphereOptions say which servers there are.
type VSphereOptions struct {
	// Conns are the servers, each with its session. Addresses that name none mean the first.
	Conns []*source.Conn
	Poll  time.Duration // between two looks at a task; 1 s if 0
}

// VSphere returns the platform of virtual machines on vCenter and on single ESXi hosts.
// Addresses are those of the way vsphere.
//
// The snapshot of the present is one of vSphere's own, without memory. A machine with an
// independent disk is refused, since no snapshot has that, and one that goes back by itself when
// it is powered off. A snapshot with memory may leave the machine suspended; Windows then goes on
// where it was. The account needs, with propagation, those of [VSpherePrivileges]. Proved on
// vcsim, which keeps snapshots and no content of disks; a real vCenter was not at hand.
func VSphere(o VSphereOptions) Platform {
	o.Poll = cmp.Or(o.Poll, time.Second)
	return vsphere{o}
}

// VSpherePrivileges returns what the account needs, by VMware's names.
func VSpherePrivileges() []string {
	return []string{"VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn",
		"VirtualMachine.State.CreateSnapshot", "VirtualMachine.State.RevertToSnapshot"}
}

type vsphere struct{ opt VSphereOptions }

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// Reach implements Platform.
func (p vsphere) Reach(ctx context.Context, t remediate.Target) (Machine, error) {
	text, _, _ := strings.Cut(strings.TrimSpace(t.Route.Address), "?") // which disk is swapped does not matter
	server, rest := "", text
	if !uuid.MatchString(text) && !strings.HasPrefix(text, "/") {
		server, rest, _ = strings.Cut(text, "/")
	}
	i := slices.IndexFunc(p.opt.Conns, func(c *source.Conn) bool { return server == "" || strings.EqualFold(server, c.Host()) })
	if i < 0 {
		return nil, fmt.Errorf("%s is no vCenter or ESXi host that the configuration names: add it, or correct the address of the route", cmp.Or(server, "nothing"))
	}
	c, err := p.opt.Conns[i].Client(ctx)
	if err != nil {
		return nil, said(ctx, "cannot log in", err)
	}
	m := &virtual{Client: c, conn: p.opt.Conns[i], poll: p.opt.Poll}
	m.ref, err = find(ctx, c, strings.Trim(rest, "/"))
	return m, err
}

// find returns the machine of an instance UUID, a BIOS UUID or an inventory path.
func find(ctx context.Context, c *vim25.Client, name string) (ref types.ManagedObjectReference, err error) {
	if !uuid.MatchString(name) {
		if path, err := url.PathUnescape(name); err == nil {
			name = path
		}
		ref, err = source.Find(ctx, c, "/"+name)
		if err == nil && ref.Type != "VirtualMachine" {
			err = fmt.Errorf("%s is a %s, and no virtual machine", name, ref.Type)
		}
		return ref, said(ctx, "cannot find the virtual machine", err)
	}
	for _, instance := range []bool{true, false} {
		res, err := methods.FindByUuid(ctx, c, &types.FindByUuid{This: *c.ServiceContent.SearchIndex, Uuid: name, VmSearch: true, InstanceUuid: &instance})
		if err != nil {
			return ref, said(ctx, "cannot look for virtual machine "+name, err)
		}
		if res.Returnval != nil {
			return *res.Returnval, nil
		}
	}
	return ref, fmt.Errorf("there is no virtual machine %s, or the account does not see it: correct the address of the route", name)
}

// A virtual is a virtual machine during one call.
type virtual struct {
	*vim25.Client
	conn *source.Conn
	ref  types.ManagedObjectReference
	poll time.Duration
}

// Close implements Machine. The session is not the machine's.
func (m *virtual) Close() error { return nil }

// Look implements Machine.
func (m *virtual) Look(ctx context.Context) (s State, err error) {
	vm, busy, err := m.see(ctx)
	if err != nil {
		return s, err
	}
	s = State{ID: "vsphere " + vm.Summary.Config.InstanceUuid, Name: vm.Name, Power: Off, Refused: refused(vm)}
	switch {
	case busy:
		s.Power = Changing
	case vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn:
		s.Power = On
	}
	if vm.Snapshot != nil {
		s.Snapshots, err = m.snapshots(ctx, vm)
	}
	return s, err
}

// see reads the machine, and whether a task is at work on it, in one request.
func (m *virtual) see(ctx context.Context) (vm mo.VirtualMachine, busy bool, err error) {
	all, err := source.Collect(ctx, m.Client, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: m.ref, SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "VirtualMachine", Path: "recentTask"}}}},
		PropSet: []types.PropertySpec{{Type: "Task", PathSet: []string{"info.state", "info.entity"}},
			{Type: "VirtualMachine", PathSet: []string{"name", "summary.config.instanceUuid", "runtime.powerState", "runtime.connectionState",
				"snapshot", "config.hardware.device", "config.flags", "config.ftInfo"}}}})
	if err != nil {
		return vm, false, said(ctx, "cannot read virtual machine "+m.ref.Value, err)
	}
	for _, o := range all {
		if o.Obj == m.ref {
			err = mo.LoadObjectContent([]types.ObjectContent{o}, &vm)
		} else {
			var t mo.Task
			err = mo.LoadObjectContent([]types.ObjectContent{o}, &t)
			busy = busy || t.Info.Entity != nil && *t.Info.Entity == m.ref && (t.Info.State == types.TaskInfoStateRunning || t.Info.State == types.TaskInfoStateQueued)
		}
		if err != nil {
			return vm, busy, said(ctx, "cannot read "+o.Obj.Value, err)
		}
	}
	if vm.Config == nil || vm.Runtime.ConnectionState != types.VirtualMachineConnectionStateConnected {
		err = &remediate.RetryError{After: 30 * time.Second, Err: fmt.Errorf("virtual machine %s is %s for vCenter: look at the ESXi host that has it, and its datastore", cmp.Or(vm.Name, m.ref.Value), vm.Runtime.ConnectionState)}
	}
	return vm, busy, err
}

// snapshots returns those of the machine, oldest first.
func (m *virtual) snapshots(ctx context.Context, vm mo.VirtualMachine) (all []Snapshot, err error) {
	spec := types.PropertyFilterSpec{PropSet: []types.PropertySpec{{Type: "VirtualMachineSnapshot", PathSet: []string{"config.hardware.device"}}}}
	var walk func(tree []types.VirtualMachineSnapshotTree)
	walk = func(tree []types.VirtualMachineSnapshotTree) {
		for _, one := range tree {
			all = append(all, Snapshot{ID: one.Snapshot.Value, Name: one.Name, Made: one.CreateTime.UTC(),
				Memory: one.State == types.VirtualMachinePowerStatePoweredOn, Current: vm.Snapshot.CurrentSnapshot != nil && *vm.Snapshot.CurrentSnapshot == one.Snapshot})
			spec.ObjectSet = append(spec.ObjectSet, types.ObjectSpec{Obj: one.Snapshot})
			walk(one.ChildSnapshotList)
		}
	}
	walk(vm.Snapshot.RootSnapshotList)
	if len(all) == 0 {
		return nil, nil
	}
	read, err := source.Collect(ctx, m.Client, spec)
	if err != nil {
		return nil, said(ctx, "cannot read the snapshots of "+vm.Name, err)
	}
	now := slots(vm.Config.Hardware.Device)
	for _, o := range read {
		var one mo.VirtualMachineSnapshot
		if err := mo.LoadObjectContent([]types.ObjectContent{o}, &one); err != nil {
			return nil, said(ctx, "cannot read "+o.Obj.Value, err)
		}
		i := slices.IndexFunc(all, func(s Snapshot) bool { return s.ID == o.Obj.Value })
		if then := slots(one.Config.Hardware.Device); i >= 0 && !slices.Equal(then, now) {
			all[i].Refused = fmt.Sprintf("the machine had disks then at %v, and now at %v: vSphere would take off what was added since\nmake them the same again, or go back by hand", then, now)
		}
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return a.Made.Compare(b.Made) })
	return all, nil
}

// slots are where a machine has disks: controller and unit. Their files change with snapshots.
func slots(devices []types.BaseVirtualDevice) (all []string) {
	for _, dev := range devices {
		if d, ok := dev.(*types.VirtualDisk); ok {
			unit := int32(-1)
			if d.UnitNumber != nil {
				unit = *d.UnitNumber
			}
			all = append(all, fmt.Sprintf("%d:%d", d.ControllerKey, unit))
		}
	}
	slices.Sort(all)
	return all
}

// refused says why the machine must not go back to any snapshot.
func refused(vm mo.VirtualMachine) string {
	if b := vm.Config.Flags.SnapshotPowerOffBehavior; b != "" && b != string(types.VirtualMachinePowerOffBehaviorPowerOff) {
		return "when it is powered off it does not stay as it is (snapshotPowerOffBehavior is " + b + "): the present would be lost\nset that to powerOff"
	}
	if vm.Config.FtInfo != nil {
		return "it is protected by Fault Tolerance\nturn that off, or repair it by another way in"
	}
	for _, dev := range vm.Config.Hardware.Device {
		d, ok := dev.(*types.VirtualDisk)
		if !ok {
			continue
		}
		b, plain := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		name := fmt.Sprintf("disk %d", d.Key)
		switch {
		case !plain:
			return name + " is no file of the usual kind, and in no snapshot of the present\nrepair it by another way in"
		case strings.HasPrefix(b.DiskMode, "independent"):
			return name + " is independent: no snapshot has it, and it would stay as it is now\nrepair it by another way in"
		case b.Sharing != "" && b.Sharing != string(types.VirtualDiskSharingSharingNone):
			return name + " is shared with other machines, which would not go back\nrepair it by another way in"
		}
	}
	return ""
}
