package vsphere_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/inventory"
	"unbrick/inventory/rest"
	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate/driver/vsphere"
	"unbrick/remediate/driver/vsphere/vspheretest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

func (b *bench) check(t *testing.T) swap.Checkup {
	d := swap.New(swap.Options{Way: "vsphere", Platform: b.platform(), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}, Snapshot: true})
	before := b.Actions()
	c := d.Check(t.Context(), b.target(b.vm))
	if b.Actions() != before {
		t.Error("something was changed")
	}
	return c
}

// Check names the privileges that are missing, each on the object that vSphere asks for it.
func TestCheck(t *testing.T) {
	b := newBench(t)
	if c := b.check(t); c.Platform != nil || c.Rights != nil || c.Refused != nil || c.Helper != nil || len(c.Helpers) != 1 {
		t.Errorf("all is there: %+v", c)
	}
	lost := []string{"VirtualMachine.Interact.PowerOff", "VirtualMachine.Config.RemoveDisk", "Datastore.FileManagement", "StorageProfile.View", "VirtualMachine.Inventory.CreateFromExisting", "Resource.AssignVMToPool"}
	b.Allow(slices.DeleteFunc(vsphere.Privileges(true), func(p string) bool { return slices.Contains(lost, p) })...)
	var lacks *inventory.RightError
	c := b.check(t)
	if !errors.As(c.Rights, &lacks) {
		t.Fatalf("%+v", c)
	}
	for i, part := range strings.Split(lacks.Right, "; ") {
		want := []string{lost[0] + ", " + lost[1] + " on virtual machine ws1", lost[2] + " on datastore ", lost[3] + " on the vCenter", lost[4] + " on its folder", lost[5] + " on its resource pool", lost[1] + " on helper unbrick-helper"}
		if i >= len(want) || !strings.HasPrefix(part, want[i]) {
			t.Errorf("%d: %s", i, part)
		}
	}
	b.Allow(slices.DeleteFunc(vsphere.ISOPrivileges(), func(p string) bool { return p == "VirtualMachine.Interact.SetCDMedia" })...)
	iso := vsphere.NewISO(vsphere.Options{Conns: []*source.Conn{b.conn}}, nil)
	if c := iso.Check(t.Context(), b.target(b.vm)); !errors.As(c.Rights, &lacks) || lacks.Right != "VirtualMachine.Interact.SetCDMedia on virtual machine ws1" || c.Refused != nil {
		t.Errorf("the image: %+v", c)
	}
}

// Check says what is wrong with the helper, and that nobody answers.
func TestCheckHelper(t *testing.T) {
	b := newBench(t)
	for want, change := range map[string]func(*simulator.VirtualMachine){
		"it does not run": func(m *simulator.VirtualMachine) { m.Runtime.PowerState = types.VirtualMachinePowerStatePoweredOff },
		"same fault":      func(m *simulator.VirtualMachine) { m.Config.GuestId = "windows2019srv_64Guest" },
	} {
		h := b.add(t, vspheretest.Machine{Name: "other-" + want[:4], Guest: "debian12_64Guest", Extra: map[string]string{"disk.EnableUUID": "TRUE"}})
		b.Edit(h, change)
		d := swap.New(swap.Options{Way: "vsphere", Desk: new(swaptest.Desk), Records: &rescue.MemRecords{},
			Platform: vsphere.New(vsphere.Options{Conns: []*source.Conn{b.conn}, Helpers: []string{"other-" + want[:4]}})})
		if c := d.Check(t.Context(), b.target(b.vm)); c.Helper == nil || !strings.Contains(c.Helper.Error(), want) {
			t.Errorf("%q: %+v", want, c)
		}
	}
	conn, err := source.NewConn(source.Server{URL: "http://127.0.0.1:1/sdk", User: "u", Password: "env:UNBRICK_TEST_VSPHERE"})
	if err != nil {
		t.Fatal(err)
	}
	d := swap.New(swap.Options{Way: "vsphere", Platform: vsphere.New(vsphere.Options{Conns: []*source.Conn{conn}}), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}})
	at := b.target(b.vm)
	at.Route.Address = "127.0.0.1:1/" + b.InstanceUUID(b.vm)
	if c := d.Check(rest.Briefly(t.Context()), at); c.Platform == nil || !strings.Contains(c.Platform.Error(), "cannot reach 127.0.0.1:1") {
		t.Errorf("nobody answers: %+v", c)
	}
}
