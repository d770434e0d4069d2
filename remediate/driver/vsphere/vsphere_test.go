package vsphere_test

import (
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/vsphere"
	"unbrick/remediate/driver/vsphere/vspheretest"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

func TestMain(m *testing.M) {
	vspheretest.Quiet()
	debug.SetGCPercent(400) // the simulator copies all that it says by way of XML
	os.Exit(m.Run())
}

// A bench is a vCenter with a host's machine and a helper.
type bench struct {
	*vspheretest.Server
	line       *swaptest.Line
	conn       *source.Conn
	vm, helper *object.VirtualMachine
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s, err := vspheretest.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b := &bench{Server: s}
	b.connect(t)
	b.helper = b.add(t, vspheretest.Machine{Name: "unbrick-helper", Guest: "debian12_64Guest", Extra: map[string]string{"disk.EnableUUID": "TRUE"}})
	b.vm = b.add(t, vspheretest.Machine{Name: "ws1"})
	return b
}

// connect draws a new line to the vCenter, on which nobody has logged in.
func (b *bench) connect(t *testing.T) {
	t.Helper()
	t.Setenv("UNBRICK_TEST_VSPHERE", vspheretest.Password)
	b.line = swaptest.NewLine(t, swaptest.API{Server: b.Server, Changes: vspheretest.Changes, Throttle: vspheretest.Throttle, Refuse: vspheretest.Refuse})
	var err error
	if b.conn, err = source.NewConn(source.Server{URL: b.line.URL, User: vspheretest.User, Password: "env:UNBRICK_TEST_VSPHERE"}); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) add(t *testing.T, m vspheretest.Machine) *object.VirtualMachine {
	t.Helper()
	vm, err := b.Add(m)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func (b *bench) platform() swap.Platform {
	return vsphere.New(vsphere.Options{Conns: []*source.Conn{b.conn}, Poll: 8})
}

func (b *bench) rig() swaptest.Rig {
	vmdk, _ := b.VMDK(b.vm)
	before := b.Text(b.vm) + b.Text(b.helper)
	return swaptest.Rig{Platform: b.platform(), Line: b.line, Way: "vsphere", Address: b.conn.Host() + "/" + b.InstanceUUID(b.vm),
		Booted: func() []string {
			all := b.Booted(vmdk)
			for i, one := range all {
				all[i] = map[string]string{vspheretest.Started: drivertest.Disk, vspheretest.Hung: swaptest.Helper}[one]
			}
			return all
		},
		Actions: b.Actions,
		Left: func() string {
			if after := b.Text(b.vm) + b.Text(b.helper); after != before {
				return "it was\n" + before + "and is\n" + after
			}
			return ""
		},
	}
}

// TestDriver passes the suite, cut, throttled and refused at every request.
func TestDriver(t *testing.T) {
	b := newBench(t)
	b.Policy(b.vm, "gold-42")
	restore, err := b.Keep(b.vm, b.helper)
	if err != nil {
		t.Fatal(err)
	}
	swaptest.Run(t, func(t *testing.T) swaptest.Rig {
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		b.connect(t)
		return b.rig()
	})
}

// Two disks at once hang on one helper, each known by its own mark, and go back as they were: a
// second disk, at another place and first in the order in which its machine boots, too.
func TestTwo(t *testing.T) {
	b := newBench(t)
	two := b.add(t, vspheretest.Machine{Name: "ws2", Disks: 2})
	var second int32
	b.Edit(two, func(m *simulator.VirtualMachine) {
		for _, dev := range m.Config.Hardware.Device {
			if d, ok := dev.(*types.VirtualDisk); ok {
				second = d.Key
			}
		}
		m.Config.BootOptions = &types.VirtualMachineBootOptions{BootDelay: 5, BootOrder: []types.BaseVirtualMachineBootOptionsBootableDevice{
			&types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: second}, &types.VirtualMachineBootOptionsBootableCdromDevice{}}}
	})
	before := b.Text(b.vm) + b.Text(two) + b.Text(b.helper)
	d := b.driver()
	both := func(do func(remediate.Target) error) {
		t.Helper()
		var all sync.WaitGroup
		for _, vm := range []*object.VirtualMachine{b.vm, two} {
			all.Go(func() {
				if err := do(b.target(vm)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	both(func(tg remediate.Target) error { return d.Enter(t.Context(), tg, remediate.Image{}) })
	if text := b.Text(b.helper); !strings.Contains(text, "ws1/disk0.vmdk") || !strings.Contains(text, "ws2/disk1.vmdk") {
		t.Errorf("the helper has\n%s", text)
	}
	both(func(tg remediate.Target) error { return d.Leave(t.Context(), tg, remediate.Posture{}) })
	if after := b.Text(b.vm) + b.Text(two) + b.Text(b.helper); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
}

// The agent on the helper knows a disk by what VMware shows of its UUID.
func TestMark(t *testing.T) {
	b := newBench(t)
	in, err := b.platform().Reach(t.Context(), b.target(b.vm))
	if err != nil {
		t.Fatal(err)
	}
	slot, err := in.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, uuid := b.VMDK(b.vm)
	mark := in.(swap.Marker).Mark(swap.Entry{Slot: slot, Mark: "unbrick-x"})
	if len(mark) != 32 || mark != strings.ToLower(strings.ReplaceAll(uuid, "-", "")) {
		t.Errorf("%q of %q", mark, uuid)
	}
}

// A session that the server ended is opened again, and closed in the end.
func TestSession(t *testing.T) {
	b := newBench(t)
	d := b.driver()
	for range 2 {
		if _, err := d.Observe(t.Context(), b.target(b.vm)); err != nil {
			t.Fatal(err)
		}
		if n := b.EndSessions(); n != 1 {
			t.Errorf("%d sessions", n)
		}
	}
	if _, err := d.Observe(t.Context(), b.target(b.vm)); err != nil {
		t.Fatal(err)
	}
	if err := b.conn.Close(); err != nil {
		t.Error(err)
	}
	if n := b.EndSessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}
