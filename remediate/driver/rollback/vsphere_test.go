package rollback_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/driver/vsphere/vspheretest"
	"unbrick/remediate/swap/swaptest"
)

// A counted vCenter counts what went to a snapshot.
type counted struct {
	*vspheretest.Server
	backs atomic.Int32
}

func (c *counted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if vspheretest.Method(r) != "RevertToSnapshot_Task" {
		c.Server.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	c.Server.ServeHTTP(rec, r)
	if rec.Code == http.StatusOK {
		c.backs.Add(1)
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

func newVCenter(t *testing.T) *counted {
	t.Helper()
	s, err := vspheretest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &counted{Server: s}
}

// connect draws a new line to the vCenter, on which nobody has logged in.
func (c *counted) connect(t *testing.T) (*swaptest.Line, *source.Conn) {
	t.Helper()
	t.Setenv("UNBRICK_TEST_VSPHERE", vspheretest.Password)
	l := swaptest.NewLine(t, swaptest.API{Server: c, Changes: vspheretest.Changes, Throttle: vspheretest.Throttle, Refuse: vspheretest.Refuse})
	conn, err := source.NewConn(source.Server{URL: l.URL, User: vspheretest.User, Password: "env:UNBRICK_TEST_VSPHERE"})
	if err != nil {
		t.Fatal(err)
	}
	return l, conn
}

func (c *counted) add(t *testing.T, name string) *object.VirtualMachine {
	t.Helper()
	vm, err := c.Add(vspheretest.Machine{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func keep(t *testing.T, vm *object.VirtualMachine, name string) {
	t.Helper()
	task, err := vm.CreateSnapshot(context.Background(), name, "", false, false)
	if err == nil {
		err = task.Wait(context.Background())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// snapshots returns the names of a machine's snapshots, and the current one.
func (c *counted) snapshots(vm *object.VirtualMachine) (all []string, current string) {
	c.Edit(vm, func(m *simulator.VirtualMachine) {
		if m.Snapshot == nil {
			return
		}
		var walk func([]types.VirtualMachineSnapshotTree)
		walk = func(tree []types.VirtualMachineSnapshotTree) {
			for _, one := range tree {
				all = append(all, one.Name)
				if m.Snapshot.CurrentSnapshot != nil && *m.Snapshot.CurrentSnapshot == one.Snapshot {
					current = one.Name
				}
				walk(one.ChildSnapshotList)
			}
		}
		walk(m.Snapshot.RootSnapshotList)
	})
	return all, current
}

// TestVSphere passes the suite over vcsim, cut at every request.
func TestVSphere(t *testing.T) {
	c := newVCenter(t)
	n := 0
	drivertest.RunRepairer(t, func(t *testing.T) drivertest.Patient {
		n++
		vm := c.add(t, "ws"+strings.Repeat("x", n))
		keep(t, vm, "nightly")
		l, conn := c.connect(t)
		vmdk, _ := c.VMDK(vm)
		starts, backs := len(c.Booted(vmdk)), c.backs.Load()
		var others int
		m := machine{platform: rollback.VSphere(rollback.VSphereOptions{Conns: []*source.Conn{conn}, Poll: 8}),
			address: conn.Host() + "/" + c.InstanceUUID(vm),
			start: func() {
				before := len(c.Booted(vmdk))
				if task, err := vm.PowerOn(context.Background()); err == nil {
					_ = task.Wait(context.Background()) // it may be on
				}
				others += len(c.Booted(vmdk)) - before
			},
			snapshots: func() ([]string, string) { return c.snapshots(vm) },
			backs:     func() int { return int(c.backs.Load() - backs) },
			starts:    func() int { return len(c.Booted(vmdk)) - starts - others }}
		patient := m.patient(t, "vsphere-rollback")
		patient.Requests, patient.Cut, patient.Revive, patient.Hang = l.Requests, l.Cut, l.Revive, l.Hang
		return patient
	})
}

// TestVSphereRefuses: machines of vSphere that must not go back, each told what to do.
func TestVSphereRefuses(t *testing.T) {
	c := newVCenter(t)
	_, conn := c.connect(t)
	backing := func(m *simulator.VirtualMachine) *types.VirtualDiskFlatVer2BackingInfo {
		for _, dev := range m.Config.Hardware.Device {
			if d, ok := dev.(*types.VirtualDisk); ok {
				return d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
			}
		}
		return nil
	}
	for want, change := range map[string]func(m *simulator.VirtualMachine){
		"is independent: no snapshot has it":       func(m *simulator.VirtualMachine) { backing(m).DiskMode = "independent_persistent" },
		"is shared with other machines":            func(m *simulator.VirtualMachine) { backing(m).Sharing = "sharingMultiWriter" },
		"snapshotPowerOffBehavior is revert":       func(m *simulator.VirtualMachine) { m.Config.Flags.SnapshotPowerOffBehavior = "revert" },
		"the machine had disks then at [":          func(m *simulator.VirtualMachine) { m.Config.Hardware.Device = twice(m.Config.Hardware.Device) },
		"is orphaned for vCenter":                  func(m *simulator.VirtualMachine) { m.Runtime.ConnectionState = "orphaned" },
		"it is protected by Fault Tolerance\nturn": func(m *simulator.VirtualMachine) { m.Config.FtInfo = &types.FaultToleranceConfigInfo{} },
	} {
		vm := c.add(t, "ws "+want[:12])
		keep(t, vm, "nightly")
		c.Edit(vm, change)
		o := options(rollback.VSphere(rollback.VSphereOptions{Conns: []*source.Conn{conn}, Poll: 8}))
		o.Before = time.Now().Add(time.Minute)
		target := paperTarget("r1", 1)
		target.Route.Address = c.InstanceUUID(vm)
		if _, err := rollback.New(o).Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	for address, want := range map[string]string{
		"vc2.corp.example/503c0a5e-0000-4000-8000-000000000000": "vc2.corp.example is no vCenter or ESXi host",
		"503c0a5e-0000-4000-8000-000000000000":                  "there is no virtual machine 503c0a5e",
		"/DC0/vm/nobody":                                        "cannot find the virtual machine",
	} {
		target := paperTarget("r1", 1)
		target.Route.Address = address
		o := options(rollback.VSphere(rollback.VSphereOptions{Conns: []*source.Conn{conn}}))
		if _, err := rollback.New(o).Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: want %q, got %v", address, want, err)
		}
	}
}

// twice adds a disk, on the next unit.
func twice(devices []types.BaseVirtualDevice) []types.BaseVirtualDevice {
	for _, dev := range devices {
		if d, ok := dev.(*types.VirtualDisk); ok {
			other := *d
			other.Key++
			other.UnitNumber = types.NewInt32(*d.UnitNumber + 1)
			return append(devices, &other)
		}
	}
	return devices
}
