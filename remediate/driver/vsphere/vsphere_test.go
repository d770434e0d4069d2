package vsphere_test

import (
	"os"
	"testing"

	"github.com/vmware/govmomi/object"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/vsphere"
	"unbrick/remediate/driver/vsphere/vspheretest"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

func TestMain(m *testing.M) {
	vspheretest.Quiet()
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
