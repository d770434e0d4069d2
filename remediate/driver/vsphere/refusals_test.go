package vsphere_test

import (
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/inventory"
	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/driver/vsphere"
	"unbrick/remediate/driver/vsphere/vspheretest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

func (b *bench) driver() *swap.Driver {
	return swap.New(swap.Options{Way: "vsphere", Platform: b.platform(), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}, Every: time.Millisecond})
}

func (b *bench) target(vm *object.VirtualMachine) remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h-" + vm.Reference().Value},
		Route: inventory.Route{Driver: "vsphere", Address: b.conn.Host() + "/" + b.InstanceUUID(vm)}}
}

// disk changes the first disk of a machine.
func disk(change func(*types.VirtualDisk, *types.VirtualDiskFlatVer2BackingInfo)) func(*simulator.VirtualMachine) {
	return func(m *simulator.VirtualMachine) {
		for _, dev := range m.Config.Hardware.Device {
			if d, ok := dev.(*types.VirtualDisk); ok {
				change(d, d.Backing.(*types.VirtualDiskFlatVer2BackingInfo))
				return
			}
		}
	}
}

type (
	vd   = *types.VirtualDisk
	flat = *types.VirtualDiskFlatVer2BackingInfo
	vm   = *simulator.VirtualMachine
)

// Every refusal says what to do instead, and comes before anything is changed.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	restore, err := b.Keep(b.vm, b.helper)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		host, helper func(vm)
		want         string
	}{
		"template":         {host: func(m vm) { m.Config.Template = true }, want: "it is a template"},
		"fault tolerant":   {host: func(m vm) { m.Runtime.FaultToleranceState = types.VirtualMachineFaultToleranceStateRunning }, want: "turn Fault Tolerance off"},
		"suspended":        {host: func(m vm) { m.Runtime.PowerState = types.VirtualMachinePowerStateSuspended }, want: "resume it and look"},
		"asks":             {host: func(m vm) { m.Runtime.Question = &types.VirtualMachineQuestionInfo{Text: "moved or copied?"} }, want: "moved or copied?\nanswer it first"},
		"snapshots":        {host: func(m vm) { m.Snapshot = snapshot("before patch") }, want: "it has snapshots (before patch)"},
		"lost":             {host: func(m vm) { m.Runtime.ConnectionState = types.VirtualMachineConnectionStateInaccessible }, want: "is inaccessible for vCenter"},
		"linked clone":     {host: disk(func(_ vd, f flat) { f.Parent = &types.VirtualDiskFlatVer2BackingInfo{} }), want: "linked clone"},
		"encrypted":        {host: disk(func(_ vd, f flat) { f.KeyId = &types.CryptoKeyId{KeyId: "k"} }), want: "encrypted by vSphere"},
		"several writers":  {host: disk(func(_ vd, f flat) { f.Sharing = "sharingMultiWriter" }), want: "shared by several writers"},
		"thrown away":      {host: disk(func(_ vd, f flat) { f.DiskMode = "independent_nonpersistent" }), want: "thrown away"},
		"no UUID":          {host: disk(func(_ vd, f flat) { f.Uuid = "" }), want: "has no UUID"},
		"raw":              {host: disk(func(d vd, _ flat) { d.Backing = &types.VirtualDiskRawDiskMappingVer1BackingInfo{} }), want: "raw device mapping"},
		"failover cluster": {host: sharedBus, want: "shared (physicalSharing)"},
		"no disk":          {host: func(m vm) { m.Config.Hardware.Device = m.Config.Hardware.Device[:1] }, want: "no disk of its own"},

		"helper is off":     {helper: func(m vm) { m.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff }, want: "govc vm.power -on"},
		"helper is Windows": {helper: func(m vm) { m.Config.GuestId = "windows2022srvNext_64Guest" }, want: "may have the same fault"},
		"helper sees none":  {helper: func(m vm) { m.Config.ExtraConfig = nil }, want: "disk.enableUUID=TRUE"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := restore(); err != nil {
				t.Fatal(err)
			}
			b.connect(t)
			for vm, change := range map[*object.VirtualMachine]func(vm){b.vm: c.host, b.helper: c.helper} {
				if change != nil {
					undo := *b.keep(vm)
					b.Edit(vm, change)
					t.Cleanup(func() { b.Edit(vm, func(m *simulator.VirtualMachine) { m.VirtualMachine = undo }) })
				}
			}
			b.refuses(t, c.want, c.host != nil)
		})
	}
}

// keep returns a copy of all that a machine is.
func (b *bench) keep(vm *object.VirtualMachine) (all *mo.VirtualMachine) {
	b.Edit(vm, func(m *simulator.VirtualMachine) {
		c := m.VirtualMachine
		config := *m.Config
		c.Config = &config
		all = &c
	})
	return all
}

func snapshot(name string) *types.VirtualMachineSnapshotInfo {
	return &types.VirtualMachineSnapshotInfo{RootSnapshotList: []types.VirtualMachineSnapshotTree{{Name: name}}}
}

func sharedBus(m *simulator.VirtualMachine) {
	for _, dev := range m.Config.Hardware.Device {
		if c, ok := dev.(*types.ParaVirtualSCSIController); ok {
			c.SharedBus = types.VirtualSCSISharingPhysicalSharing
		}
	}
}

// refuses makes sure that a host is not touched: by Observe, and where it is for the host's own
// sake by Enter.
func (b *bench) refuses(t *testing.T, want string, enters bool) {
	t.Helper()
	d, tg := b.driver(), b.target(b.vm)
	n, before := b.Actions(), b.Text(b.vm)
	_, err := d.Observe(t.Context(), tg)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("observe: %v, want %q", err, want)
	}
	if enters {
		if err := d.Enter(t.Context(), tg, remediate.Image{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("enter: %v, want %q", err, want)
		}
	}
	if b.Actions() != n || b.Text(b.vm) != before {
		t.Error("the machine was changed")
	}
}

// What other machines and tasks stand in the way is named.
func TestOthers(t *testing.T) {
	b := newBench(t)
	b.Busy(b.vm, "relocate")
	b.refuses(t, "VirtualMachine.relocate is at work", true)

	b = newBench(t)
	twin := b.add(t, vspheretest.Machine{Name: "twin", Off: true})
	file, _ := b.VMDK(b.vm)
	b.Edit(twin, disk(func(_ vd, f flat) { f.FileName = file }))
	b.refuses(t, "virtual machine twin has "+file+" too", true)

	b = newBench(t)
	far := b.add(t, vspheretest.Machine{Name: "far", Host: 1, Guest: "debian12_64Guest", Extra: map[string]string{"disk.EnableUUID": "TRUE"}})
	b.Blind(1)
	file, _ = b.VMDK(b.vm)
	p := vsphere.New(vsphere.Options{Conns: []*source.Conn{b.conn}, Helpers: []string{b.InstanceUUID(far)}, Poll: 8})
	d := swap.New(swap.Options{Way: "vsphere", Platform: p, Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}})
	if _, err := d.Observe(t.Context(), b.target(b.vm)); err == nil || !strings.Contains(err.Error(), "does not see the datastore of "+file) {
		t.Error(err)
	}
	p = vsphere.New(vsphere.Options{Conns: []*source.Conn{b.conn}, Helpers: []string{"/DC0/vm/nobody"}, Poll: 8})
	d = swap.New(swap.Options{Way: "vsphere", Platform: p, Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}})
	if _, err := d.Observe(t.Context(), b.target(b.vm)); err == nil || !strings.Contains(err.Error(), "no helper for vsphere") {
		t.Error(err)
	}
}

// A disk that another machine has open is not had: vSphere says that its file is locked, and the
// error says who has it.
func TestLocked(t *testing.T) {
	b := newBench(t)
	backup := b.add(t, vspheretest.Machine{Name: "backup"})
	in, err := b.platform().Reach(t.Context(), b.target(b.vm))
	if err != nil {
		t.Fatal(err)
	}
	slot, err := in.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e := swap.Entry{Slot: slot, Host: "ws1", Mark: "unbrick-1"}
	for _, step := range []swap.Step{swap.Stop, swap.Release} {
		if _, err := in.Look(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := in.Do(t.Context(), step, e, ""); err != nil {
			t.Fatal(err)
		}
	}
	b.Edit(backup, disk(func(_ vd, f flat) { f.FileName = slot.Volume }))
	err = in.Do(t.Context(), swap.Lend, e, "unbrick-helper")
	if err == nil || !strings.Contains(err.Error(), "Failed to lock the file") || !strings.Contains(err.Error(), "virtual machine backup has") {
		t.Error(err)
	}
	if s, err := in.Look(t.Context(), e); err != nil || s.Volume != swap.Free {
		t.Errorf("%+v, %v", s, err)
	}
}

// A disk whose file was moved along with the helper is known by its UUID, and not hung back by a
// path that leads nowhere.
func TestMoved(t *testing.T) {
	b := newBench(t)
	d, tg := b.driver(), b.target(b.vm)
	if err := d.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	b.Edit(b.helper, func(m *simulator.VirtualMachine) {
		for _, dev := range m.Config.Hardware.Device {
			if d, ok := dev.(*types.VirtualDisk); ok && strings.Contains(d.Backing.(flat).FileName, "ws1/") {
				d.Backing.(flat).FileName = "[other] unbrick-helper/disk9.vmdk"
			}
		}
	})
	n := b.Actions()
	err := d.Leave(t.Context(), tg, remediate.Posture{})
	if err == nil || !strings.Contains(err.Error(), "move the helper back") || b.Actions() != n {
		t.Error(err)
	}
}

// An address that leads nowhere says so.
func TestNotThere(t *testing.T) {
	b := newBench(t)
	for address, want := range map[string]string{
		b.conn.Host() + "/503c0a5e-0000-4000-8000-000000000001": "has no virtual machine 503c0a5e",
		"vc9.corp.example/DC0/vm/ws1":                           "vc9.corp.example is no vCenter or ESXi host that the configuration names",
		"/DC0/vm/nobody":                                        "there is no /DC0/vm/nobody",
		"/DC0/vm":                                               "is a Folder",
		"ws1":                                                   "is no address",
		"":                                                      "is no address",
	} {
		tg := b.target(b.vm)
		tg.Route.Address = address
		if _, err := b.driver().Observe(t.Context(), tg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
	for _, address := range []string{"/DC0/vm/ws1", b.conn.Host() + "/DC0/vm/ws1?disk=disk-202-0"} {
		tg := b.target(b.vm)
		tg.Route.Address = address
		if _, err := b.driver().Observe(t.Context(), tg); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}
