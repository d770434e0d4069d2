package azure_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/rest"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/driver/azure/azuretest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

func checked(t *testing.T, c *azuretest.Cloud) swap.Checkup {
	d := swap.New(swap.Options{Way: "azure", Platform: platform(t, newLine(t, c).URL, nil), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}, Snapshot: true})
	before := c.Actions()
	found := d.Check(t.Context(), target(host))
	if c.Actions() != before {
		t.Error("something was changed")
	}
	return found
}

// Check names the actions that are missing, and at which scope.
func TestCheck(t *testing.T) {
	c := newCloud()
	c.Change("ws1", func(m *azuretest.Machine) { m.Address = "10.0.0.4" })
	if f := checked(t, c); f.Platform != nil || f.Rights != nil || f.Refused != nil || f.Helper != nil || len(f.Helpers) != 1 {
		t.Errorf("all is there: %+v", f)
	}
	c.Deny("Microsoft.Compute/virtualMachines/deallocate/action", "Microsoft.Compute/virtualMachines/attachDetachDataDisks/action", "Microsoft.Compute/disks/delete",
		"Microsoft.Compute/snapshots/write", "Microsoft.Network/networkInterfaces/join/action")
	const want = "Microsoft.Compute/virtualMachines/deallocate/action on virtual machine ws1; Microsoft.Compute/disks/delete, Microsoft.Compute/snapshots/write on resource group Hosts; " +
		"Microsoft.Network/networkInterfaces/join/action on network card ws1-nic; Microsoft.Compute/virtualMachines/attachDetachDataDisks/action on helper unbrick-helper"
	var lacks *inventory.RightError
	if f := checked(t, c); !errors.As(f.Rights, &lacks) || !strings.EqualFold(lacks.Right, want) {
		t.Errorf("got  %v\nwant %s", f.Rights, want)
	}
	c.Deny("Microsoft.Authorization/permissions/read")
	var unasked *swap.UnaskedError
	if f := checked(t, c); !errors.As(f.Rights, &unasked) || !strings.HasPrefix(unasked.Right, "Microsoft.Authorization/permissions/read on ") || len(f.Helpers) != 1 {
		t.Errorf("nobody may ask: %+v", f)
	}
}

// Check says what is wrong with the helper.
func TestCheckHelper(t *testing.T) {
	for want, change := range map[string]func(m *azuretest.Machine){
		"unbrick-helper is not there": func(m *azuretest.Machine) { m.Name = "other" },
		"does not run":                func(m *azuretest.Machine) { m.Power = "deallocated" },
		"host in zone 2":              func(m *azuretest.Machine) { m.Zone = "1" },
	} {
		c := newCloud()
		changeHelper(change)(c)
		if f := checked(t, c); f.Helper == nil || !strings.Contains(f.Helper.Error(), want) {
			t.Errorf("%q: %+v", want, f)
		}
	}
}

// Where nobody answers, somebody who waits is not kept for repeated reads.
func TestCheckDead(t *testing.T) {
	p := platform(t, "http://127.0.0.1:1", func(o *azure.Options) { o.Backoff = time.Hour })
	d := swap.New(swap.Options{Way: "azure", Platform: p, Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}})
	if f := d.Check(rest.Briefly(t.Context()), target(host)); f.Platform == nil || !strings.Contains(f.Platform.Error(), "connection to Azure broke") {
		t.Errorf("%+v", f)
	}
}
