package vspheretest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// A Machine says what a virtual machine is like.
type Machine struct {
	Name  string
	Guest string // windows2019srv_64Guest if empty
	Host  int    // which of the ESXi hosts; 0 or 1
	Disks int    // 1 if 0
	Extra map[string]string
	UUID  string // of its BIOS; made up if empty
	Off   bool
}

const kib = 10 << 20 // of each disk

// Add makes a virtual machine with a PVSCSI controller, disks, an empty CD-ROM drive and a
// network card, and starts it.
func (s *Server) Add(m Machine) (*object.VirtualMachine, error) {
	ctx := context.Background()
	ds := s.registry().Any("Datastore").(*simulator.Datastore)
	spec := types.VirtualMachineConfigSpec{Name: m.Name, Uuid: m.UUID, GuestId: cmp.Or(m.Guest, "windows2019srv_64Guest"),
		Files: &types.VirtualMachineFileInfo{VmPathName: "[" + ds.Name + "]"}}
	var devices object.VirtualDeviceList
	scsi, err := devices.CreateSCSIController("pvscsi")
	if err != nil {
		return nil, err
	}
	devices = append(devices, scsi) // one after the other: keys follow from those that are there
	ide, _ := devices.CreateIDEController()
	devices = append(devices, ide)
	cd, _ := devices.CreateCdrom(ide.(*types.VirtualIDEController))
	devices = append(devices, cd)
	for i := range max(m.Disks, 1) {
		d := devices.CreateDisk(scsi.(types.BaseVirtualController), ds.Self, fmt.Sprintf("[%s] %s/disk%d.vmdk", ds.Name, m.Name, i))
		d.CapacityInKB = kib
		devices = append(devices, d)
		s.files[fileOf(d)] = &types.VirtualDisk{VirtualDevice: types.VirtualDevice{Backing: d.Backing}, CapacityInKB: kib}
	}
	spec.DeviceChange, _ = devices.ConfigSpec(types.VirtualDeviceConfigSpecOperationAdd)
	for k, v := range m.Extra {
		spec.ExtraConfig = append(spec.ExtraConfig, &types.OptionValue{Key: k, Value: v})
	}
	host := s.host(m.Host)
	pool := s.registry().Get(*host.Parent).(*mo.ComputeResource).ResourcePool
	dc := s.registry().Any("Datacenter").(*simulator.Datacenter)
	task, err := object.NewFolder(s.Client, dc.VmFolder).CreateVM(ctx, spec, object.NewResourcePool(s.Client, *pool), object.NewHostSystem(s.Client, host.Self))
	if err != nil {
		return nil, err
	}
	info, err := task.WaitForResult(ctx)
	if err != nil {
		return nil, err
	}
	vm := object.NewVirtualMachine(s.Client, info.Result.(types.ManagedObjectReference))
	s.Edit(vm, func(m *simulator.VirtualMachine) { // tests read them thousands of times
		m.Config.Hardware.Device = slices.DeleteFunc(m.Config.Hardware.Device, dull)
	})
	if m.Off {
		return vm, nil
	}
	if task, err = vm.PowerOn(ctx); err == nil {
		err = task.Wait(ctx)
	}
	return vm, err
}

// host returns one of the ESXi hosts.
func (s *Server) host(n int) *simulator.HostSystem {
	all := s.registry().All("HostSystem")
	slices.SortFunc(all, func(a, b mo.Entity) int { return strings.Compare(a.Entity().Name, b.Entity().Name) })
	return all[n].(*simulator.HostSystem)
}

// Blind takes the datastore off an ESXi host.
func (s *Server) Blind(host int) {
	h := s.host(host)
	s.registry().AtomicUpdate(s.context(), h, []types.PropertyChange{{Name: "datastore", Val: []types.ManagedObjectReference(nil)}})
}

// EndSessions ends those that anybody logged in to, as the server does with idle ones, and says
// how many there were.
func (s *Server) EndSessions() int {
	var m mo.SessionManager
	ctx := context.Background()
	if err := property.DefaultCollector(s.Client).RetrieveOne(ctx, *s.Client.ServiceContent.SessionManager, []string{"sessionList"}, &m); err != nil {
		return -1
	}
	var ids []string
	for _, one := range m.SessionList {
		if one.UserName == User {
			ids = append(ids, one.Key)
		}
	}
	_, err := methods.TerminateSession(ctx, s.Client, &types.TerminateSession{This: m.Self, SessionId: ids})
	if err != nil {
		return -1
	}
	return len(ids)
}

// dull says of a device that nobody asks for it: keyboard, video card and the like.
func dull(d types.BaseVirtualDevice) bool {
	switch d.(type) {
	case *types.VirtualDisk, *types.VirtualCdrom, types.BaseVirtualSCSIController, *types.VirtualIDEController, types.BaseVirtualEthernetCard:
		return false
	}
	return true
}

// Edit changes a machine past the simulator.
func (s *Server) Edit(vm *object.VirtualMachine, change func(*simulator.VirtualMachine)) {
	ctx := s.context()
	m := s.registry().Get(vm.Reference()).(*simulator.VirtualMachine)
	ctx.Map.WithLock(ctx, m, func() { change(m) })
}

// Keep returns what puts these machines back as they are now, and forgets all others and all
// that was done: making a vCenter takes longer.
func (s *Server) Keep(vms ...*object.VirtualMachine) (restore func() error, err error) {
	kept := make([][]byte, len(vms))
	extra := make([][]types.BaseOptionValue, len(vms))
	boots := make([]*types.VirtualMachineBootOptions, len(vms))
	for i, vm := range vms {
		s.Edit(vm, func(m *simulator.VirtualMachine) {
			var b bytes.Buffer
			err = errors.Join(err, types.NewJSONEncoder(&b).Encode(m.Config.Hardware))
			kept[i], boots[i], extra[i] = b.Bytes(), m.Config.BootOptions, slices.Clone(m.Config.ExtraConfig)
		})
	}
	policy := maps.Clone(s.policy)
	return func() (err error) {
		s.mu.Lock()
		s.policy = maps.Clone(policy)
		clear(s.pending)
		clear(s.booted)
		s.actions = 0
		s.mu.Unlock()
		for _, e := range s.registry().All("VirtualMachine") {
			if !slices.ContainsFunc(vms, func(vm *object.VirtualMachine) bool { return vm.Reference() == e.Reference() }) {
				task, e := object.NewVirtualMachine(s.Client, e.Reference()).Destroy(context.Background())
				if e == nil {
					e = task.Wait(context.Background())
				}
				err = errors.Join(err, e)
			}
		}
		images, _ := filepath.Glob(filepath.Join(s.dir(), "*", "*.iso"))
		for _, f := range images {
			err = errors.Join(err, os.Remove(f))
		}
		for i, vm := range vms {
			s.Edit(vm, func(m *simulator.VirtualMachine) {
				var hardware types.VirtualHardware
				err = errors.Join(err, types.NewJSONDecoder(bytes.NewReader(kept[i])).Decode(&hardware))
				m.Config.Hardware, m.Config.BootOptions = hardware, boots[i]
				m.Config.ExtraConfig = slices.Clone(extra[i])
				m.Runtime.PowerState, m.RecentTask = types.VirtualMachinePowerStatePoweredOn, nil
				m.Summary.Runtime.PowerState = m.Runtime.PowerState
			})
		}
		return err
	}, err
}

// dir is where the datastore is on this computer.
func (s *Server) dir() string {
	return s.registry().Any("Datastore").(*simulator.Datastore).Info.GetDatastoreInfo().Url
}

// has says whether a file is in the datastore.
func (s *Server) has(file string) bool {
	var p object.DatastorePath
	p.FromString(file)
	_, err := os.Stat(filepath.Join(s.dir(), p.Path))
	return err == nil
}

// Images returns the ISO files in the folder of a machine, and what is in each.
func (s *Server) Images(name string) map[string]string {
	all := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(s.dir(), name, "*.iso"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		all["["+s.registry().Any("Datastore").(*simulator.Datastore).Name+"] "+name+"/"+filepath.Base(f)] = string(b)
	}
	return all
}

// Write puts a file into the datastore.
func (s *Server) Write(file, text string) error {
	var p object.DatastorePath
	p.FromString(file)
	return os.WriteFile(filepath.Join(s.dir(), p.Path), []byte(text), 0o600)
}

// Extra returns a value of a machine's configuration, or nothing.
func (s *Server) Extra(vm *object.VirtualMachine, key string) (value string) {
	s.Edit(vm, func(m *simulator.VirtualMachine) {
		for _, o := range m.Config.ExtraConfig {
			if o.GetOptionValue().Key == key {
				value = fmt.Sprint(o.GetOptionValue().Value)
			}
		}
	})
	return value
}

// VMDK returns the file of a machine's first disk.
func (s *Server) VMDK(vm *object.VirtualMachine) (file, uuid string) {
	s.Edit(vm, func(m *simulator.VirtualMachine) {
		d := disks(m)[0]
		file, uuid = fileOf(d), d.Backing.(*types.VirtualDiskFlatVer2BackingInfo).Uuid
	})
	return file, uuid
}

// InstanceUUID returns a machine's.
func (s *Server) InstanceUUID(vm *object.VirtualMachine) (id string) {
	s.Edit(vm, func(m *simulator.VirtualMachine) { id = m.Config.InstanceUuid })
	return id
}

// Stands says whether a machine is on, and which disks it has, by UUID.
func (s *Server) Stands(vm *object.VirtualMachine) (on bool, uuids []string) {
	s.Edit(vm, func(m *simulator.VirtualMachine) {
		on = m.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn
		for _, d := range disks(m) {
			if b, ok := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo); ok {
				uuids = append(uuids, b.Uuid)
			}
		}
	})
	return on, uuids
}

// Text is all that a machine shows of power, devices and boot order.
func (s *Server) Text(vm *object.VirtualMachine) string {
	var b bytes.Buffer
	s.mu.Lock()
	busy, policies := s.pending[vm.Reference()] != nil, ""
	for _, at := range slices.Sorted(maps.Keys(s.policy)) {
		if strings.HasPrefix(at, vm.Reference().Value+":") {
			policies += at + " has policy " + s.policy[at] + "\n"
		}
	}
	s.mu.Unlock()
	s.Edit(vm, func(m *simulator.VirtualMachine) {
		devices := slices.Clone(m.Config.Hardware.Device)
		slices.SortFunc(devices, func(a, b types.BaseVirtualDevice) int {
			return cmp.Compare(a.GetVirtualDevice().Key, b.GetVirtualDevice().Key)
		})
		fmt.Fprintln(&b, m.Name, m.Runtime.PowerState, "busy", busy, policies)
		for _, v := range []any{m.Config.BootOptions, devices} {
			if err := types.NewJSONEncoder(&b).Encode(v); err != nil {
				fmt.Fprintln(&b, err)
			}
		}
	})
	return b.String()
}

// Machines returns the names of all machines, in order.
func (s *Server) Machines() string {
	var names []string
	for _, e := range s.registry().All("VirtualMachine") {
		names = append(names, e.Entity().Name)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Policy gives the first disk of a machine a storage policy.
func (s *Server) Policy(vm *object.VirtualMachine, id string) {
	s.Edit(vm, func(m *simulator.VirtualMachine) {
		s.policy[fmt.Sprintf("%s:%d", m.Self.Value, disks(m)[0].Key)] = id
	})
}

// Ask has a machine wait for somebody to answer a question.
func (s *Server) Ask(vm *object.VirtualMachine, text string) {
	s.Edit(vm, func(m *simulator.VirtualMachine) { m.Runtime.Question = &types.VirtualMachineQuestionInfo{Text: text} })
}

// Busy sets a task going on a machine that never ends.
func (s *Server) Busy(vm *object.VirtualMachine, what string) {
	t := simulator.CreateTask(vm, what, nil)
	t.Info.State = types.TaskInfoStateRunning
	s.registry().Put(t)
}
