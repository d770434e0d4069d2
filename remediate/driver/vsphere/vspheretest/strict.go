package vspheretest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// A change is one that is under way.
type change struct {
	task  *simulator.Task
	looks int
	do    func() (types.AnyType, types.BaseMethodFault)
}

// A machine is a virtual machine whose changes take their time, and may be refused.
type machine struct {
	*simulator.VirtualMachine
	server *Server
}

// begin sets a change of a machine going.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var call *simulator.Method
	if err == nil {
		call, err = simulator.UnmarshalBody(types.TypeFunc(), b)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	vm, ok := s.registry().Get(call.This).(*simulator.VirtualMachine)
	if !ok {
		fail(w, "ManagedObjectNotFound", fmt.Sprintf(`<obj type="%s">%s</obj>`, call.This.Type, call.This.Value))
		return
	}
	if p := s.pending[vm.Self]; p != nil {
		fail(w, "TaskInProgress", fmt.Sprintf(`<task type="Task">%s</task>`, p.task.Self.Value))
		return
	}
	s.actions++
	ref := (&machine{vm, s}).begin(call)
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	fmt.Fprintf(w, envelope, fmt.Sprintf(`<%sResponse xmlns="urn:vim25"><returnval type="Task">%s</returnval></%sResponse>`, call.Name, ref.Value, call.Name))
}

// begin makes a task that runs until it was looked for often enough.
func (m *machine) begin(call *simulator.Method) types.ManagedObjectReference {
	var what string
	var do func() (types.AnyType, types.BaseMethodFault)
	switch r := call.Body.(type) {
	case *types.PowerOnVM_Task:
		what, do = "powerOn", func() (types.AnyType, types.BaseMethodFault) { return m.powerOn(r) }
	case *types.PowerOffVM_Task:
		what, do = "powerOff", func() (types.AnyType, types.BaseMethodFault) {
			return m.inner(func(c *simulator.Context) types.ManagedObjectReference {
				return m.PowerOffVMTask(c, r).(*methods.PowerOffVM_TaskBody).Res.Returnval
			})
		}
	case *types.CloneVM_Task:
		what, do = "clone", func() (types.AnyType, types.BaseMethodFault) {
			return m.inner(func(c *simulator.Context) types.ManagedObjectReference {
				return m.CloneVMTask(c, r).(*methods.CloneVM_TaskBody).Res.Returnval
			})
		}
	case *types.ReconfigVM_Task:
		what, do = "reconfigure", func() (types.AnyType, types.BaseMethodFault) { return m.reconfigure(r) }
	}
	t := simulator.CreateTask(m.VirtualMachine, what, nil)
	t.Info.State = types.TaskInfoStateRunning
	now := time.Now()
	t.Info.StartTime = &now
	m.server.registry().Put(t)
	m.server.registry().AtomicUpdate(m.server.context(), t, []types.PropertyChange{{Name: "info.key", Val: t.Self.Value}, {Name: "info.task", Val: t.Self}})
	m.server.pending[m.Self] = &change{t, m.server.Looks, do}
	return t.Self
}

func (s *Server) context() *simulator.Context {
	return &simulator.Context{Map: s.registry(), Context: context.Background(),
		Session: &simulator.Session{UserSession: types.UserSession{UserName: User}, Registry: simulator.NewRegistry(), Map: s.registry()}}
}

// tick is a look: changes get nearer to their end.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, c := range s.pending {
		if c.looks--; c.looks > 0 {
			continue
		}
		delete(s.pending, ref)
		result, fault := c.do()
		changes := []types.PropertyChange{{Name: "info.state", Val: types.TaskInfoStateSuccess}, {Name: "info.result", Val: result}}
		if fault != nil {
			changes = []types.PropertyChange{{Name: "info.state", Val: types.TaskInfoStateError},
				{Name: "info.error", Val: &types.LocalizedMethodFault{Fault: fault, LocalizedMessage: words(fault)}}}
		}
		s.registry().AtomicUpdate(s.context(), c.task, changes)
	}
}

// Settle lets what is under way come to its end.
func (s *Server) Settle() {
	for range s.Looks {
		s.tick()
	}
}

func words(f types.BaseMethodFault) string {
	if g, ok := f.(*types.GenericVmConfigFault); ok {
		return g.Reason
	}
	return "it cannot be done"
}

// inner does what the simulator does, and waits for it.
func (m *machine) inner(call func(*simulator.Context) types.ManagedObjectReference) (types.AnyType, types.BaseMethodFault) {
	ctx := m.server.context()
	var ref types.ManagedObjectReference
	ctx.Map.WithLock(ctx, m.VirtualMachine, func() { ref = call(ctx) })
	other := m.server.context() // a lock keeps off what has another context
	for t := ctx.Map.Get(ref).(*simulator.Task); ; time.Sleep(20 * time.Microsecond) {
		var info types.TaskInfo
		ctx.Map.WithLock(other, t, func() { info = t.Info })
		switch info.State {
		case types.TaskInfoStateSuccess:
			return info.Result, nil
		case types.TaskInfoStateError:
			return nil, info.Error.Fault
		}
	}
}

func (m *machine) powerOn(r *types.PowerOnVM_Task) (types.AnyType, types.BaseMethodFault) {
	for _, d := range disks(m.VirtualMachine) {
		if f := m.lockedBy(d); f != nil {
			return nil, f
		}
	}
	res, f := m.inner(func(c *simulator.Context) types.ManagedObjectReference {
		return m.VirtualMachine.PowerOnVMTask(c, r).(*methods.PowerOnVM_TaskBody).Res.Returnval
	})
	if f == nil {
		m.starts()
	}
	return res, f
}

// starts notes what the machine boots: a CD that is in, if it stands before the disks in the
// order, or else its first disk.
func (m *machine) starts() {
	all := disks(m.VirtualMachine)
	if len(all) == 0 {
		return
	}
	first := slices.MinFunc(all, func(a, b *types.VirtualDisk) int { return cmp.Compare(a.Key, b.Key) })
	file, what := fileOf(first), Started
	if cd := m.cdFirst(); cd != "" {
		what = cd
	}
	m.server.booted[file] = append(m.server.booted[file], what)
}

// cdFirst returns the ISO that the machine boots, if it does.
func (m *machine) cdFirst() string {
	b := m.Config.BootOptions
	if b == nil || len(b.BootOrder) == 0 {
		return ""
	}
	if _, cd := b.BootOrder[0].(*types.VirtualMachineBootOptionsBootableCdromDevice); !cd {
		return ""
	}
	for _, dev := range m.Config.Hardware.Device {
		if c, ok := dev.(*types.VirtualCdrom); ok && c.Connectable != nil && c.Connectable.StartConnected {
			if iso, ok := c.Backing.(*types.VirtualCdromIsoBackingInfo); ok {
				return iso.FileName
			}
		}
	}
	return ""
}

func (m *machine) reconfigure(r *types.ReconfigVM_Task) (types.AnyType, types.BaseMethodFault) {
	var hung []string
	for i, c := range r.Spec.DeviceChange {
		spec := c.GetVirtualDeviceConfigSpec()
		if f := m.refuses(int32(i), spec); f != nil {
			return nil, f
		}
		if d, ok := spec.Device.(*types.VirtualDisk); ok && spec.Operation == types.VirtualDeviceConfigSpecOperationAdd {
			m.server.fill(d)
			if m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
				hung = append(hung, fileOf(d))
			}
		}
	}
	res, f := m.inner(func(c *simulator.Context) types.ManagedObjectReference {
		return m.VirtualMachine.ReconfigVMTask(c, r).(*methods.ReconfigVM_TaskBody).Res.Returnval
	})
	if f != nil {
		return res, f
	}
	m.forgetBoots()
	for _, c := range r.Spec.DeviceChange {
		m.noteDisk(c.GetVirtualDeviceConfigSpec())
	}
	for _, file := range hung {
		m.server.booted[file] = append(m.server.booted[file], Hung)
	}
	return res, nil
}

// noteDisk keeps the storage policy of a disk that came, and forgets that of one that went.
func (m *machine) noteDisk(spec *types.VirtualDeviceConfigSpec) {
	d, ok := spec.Device.(*types.VirtualDisk)
	if !ok {
		return
	}
	at := fmt.Sprintf("%s:%d", m.Self.Value, d.Key)
	delete(m.server.policy, at)
	for _, p := range spec.Profile {
		if one, ok := p.(*types.VirtualMachineDefinedProfileSpec); ok && spec.Operation == types.VirtualDeviceConfigSpecOperationAdd {
			m.server.policy[at] = one.ProfileId
		}
	}
}

// fill says of a disk what its file says.
func (s *Server) fill(d *types.VirtualDisk) {
	made := s.files[fileOf(d)]
	b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	if made == nil || !ok {
		return
	}
	d.CapacityInKB, d.CapacityInBytes = made.CapacityInKB, made.CapacityInKB<<10
	b.ThinProvisioned = made.Backing.(*types.VirtualDiskFlatVer2BackingInfo).ThinProvisioned
}

// refuses says why a device cannot be changed.
func (m *machine) refuses(i int32, spec *types.VirtualDeviceConfigSpec) types.BaseMethodFault {
	bad := &types.InvalidDeviceSpec{DeviceIndex: i}
	if cd, ok := spec.Device.(*types.VirtualCdrom); ok && spec.Operation != types.VirtualDeviceConfigSpecOperationRemove {
		if iso, ok := cd.Backing.(*types.VirtualCdromIsoBackingInfo); ok && !m.server.has(iso.FileName) {
			return &types.FileNotFound{FileFault: types.FileFault{File: iso.FileName}}
		}
	}
	if spec.Operation != types.VirtualDeviceConfigSpecOperationAdd {
		if object.VirtualDeviceList(m.Config.Hardware.Device).FindByKey(spec.Device.GetVirtualDevice().Key) == nil {
			return bad
		}
		return nil
	}
	d, ok := spec.Device.(*types.VirtualDisk)
	if !ok {
		return nil
	}
	for _, other := range m.Config.Hardware.Device {
		o, n := other.GetVirtualDevice(), d.GetVirtualDevice()
		if o.ControllerKey == n.ControllerKey && o.UnitNumber != nil && n.UnitNumber != nil && *o.UnitNumber == *n.UnitNumber {
			return bad
		}
	}
	if ref := d.Backing.(types.BaseVirtualDeviceFileBackingInfo).GetVirtualDeviceFileBackingInfo().Datastore; ref != nil {
		host := m.server.registry().Get(*m.Runtime.Host).(*simulator.HostSystem)
		if !slices.Contains(host.Datastore, *ref) {
			return &types.FileNotFound{FileFault: types.FileFault{File: fileOf(d)}}
		}
	}
	if m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
		return m.lockedBy(d)
	}
	return nil
}

// lockedBy returns the fault that a disk is open on another machine.
func (m *machine) lockedBy(d *types.VirtualDisk) types.BaseMethodFault {
	for _, e := range m.server.registry().All("VirtualMachine") {
		vm := e.(*simulator.VirtualMachine)
		if vm.Self == m.Self || vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
			continue
		}
		for _, o := range disks(vm) {
			if fileOf(o) == fileOf(d) && (!shared(o) || !shared(d)) {
				return &types.GenericVmConfigFault{Reason: "Cannot open the disk '" + fileOf(d) + "': Failed to lock the file"}
			}
		}
	}
	return nil
}

func shared(d *types.VirtualDisk) bool {
	b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
	return ok && b.Sharing == string(types.VirtualDiskSharingSharingMultiWriter)
}

// forgetBoots strikes disks out of the order in which the machine boots that it does not have,
// and takes one empty entry for no order (API, VirtualMachineBootOptions.bootOrder).
func (m *machine) forgetBoots() {
	b := m.Config.BootOptions
	if b == nil {
		return
	}
	devices := object.VirtualDeviceList(m.Config.Hardware.Device)
	now := *b
	now.BootOrder = slices.DeleteFunc(slices.Clone(b.BootOrder), func(d types.BaseVirtualMachineBootOptionsBootableDevice) bool {
		on, disk := d.(*types.VirtualMachineBootOptionsBootableDiskDevice)
		_, empty := d.(*types.VirtualMachineBootOptionsBootableDevice)
		return empty || disk && devices.FindByKey(on.DeviceKey) == nil
	})
	if len(now.BootOrder) == 0 {
		now.BootOrder = nil
	}
	m.server.registry().AtomicUpdate(m.server.context(), m.VirtualMachine, []types.PropertyChange{{Name: "config.bootOptions", Val: &now}})
}

func disks(vm *simulator.VirtualMachine) (all []*types.VirtualDisk) {
	for _, d := range vm.Config.Hardware.Device {
		if d, ok := d.(*types.VirtualDisk); ok {
			all = append(all, d)
		}
	}
	return all
}

func fileOf(d *types.VirtualDisk) string {
	if b, ok := d.Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
		return strings.TrimSpace(b.GetVirtualDeviceFileBackingInfo().FileName)
	}
	return ""
}
