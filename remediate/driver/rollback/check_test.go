package rollback_test

import (
	"errors"
	"testing"
	"time"

	"unbrick/inventory"
	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/rescue"
)

func backWith(p rollback.Platform, way string) *rollback.Driver {
	return rollback.New(rollback.Options{Way: way, Platform: p, Records: &rescue.MemRecords{}, Before: time.Now().Add(time.Minute), Allowed: true, Every: time.Millisecond})
}

// Check names the privileges that are missing to go back, and changes nothing.
func TestCheck(t *testing.T) {
	s := newCluster("")
	_, p := clusterPlatform(t, s)
	at := remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "ws1", Tier: inventory.Normal}, Route: inventory.Route{Driver: "proxmox-rollback", Address: "prod/100"}}
	if c := backWith(p, "proxmox-rollback").Check(t.Context(), at); c.Platform != nil || c.Rights != nil || c.Refused != nil || c.Helper != nil {
		t.Errorf("all is there: %+v", c)
	}
	s.Deny("/vms/100", "VM.Snapshot.Rollback")
	var lacks *inventory.RightError
	if c := backWith(p, "proxmox-rollback").Check(t.Context(), at); !errors.As(c.Rights, &lacks) || lacks.Right != "VM.Snapshot.Rollback on /vms/100" || s.Actions() != 0 {
		t.Errorf("%+v", c)
	}
	at.Host.Tier = inventory.Dependency
	if c := backWith(p, "proxmox-rollback").Check(t.Context(), at); c.Refused == nil || c.Rights != nil {
		t.Errorf("a domain controller: %+v", c)
	}
}

// The same on a vCenter.
func TestCheckVSphere(t *testing.T) {
	c := newVCenter(t)
	vm := c.add(t, "ws1")
	keep(t, vm, "nightly")
	_, conn := c.connect(t)
	p := rollback.VSphere(rollback.VSphereOptions{Conns: []*source.Conn{conn}})
	at := remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "ws1", Tier: inventory.Normal}, Route: inventory.Route{Driver: "vsphere-rollback", Address: conn.Host() + "/" + c.InstanceUUID(vm)}}
	before := c.Actions()
	if c := backWith(p, "vsphere-rollback").Check(t.Context(), at); c.Platform != nil || c.Rights != nil || c.Refused != nil {
		t.Errorf("all is there: %+v", c)
	}
	c.Allow("VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn", "VirtualMachine.State.CreateSnapshot")
	var lacks *inventory.RightError
	if f := backWith(p, "vsphere-rollback").Check(t.Context(), at); !errors.As(f.Rights, &lacks) || lacks.Right != "VirtualMachine.State.RevertToSnapshot on virtual machine "+vm.Reference().Value || c.Actions() != before {
		t.Errorf("%+v", f)
	}
}
