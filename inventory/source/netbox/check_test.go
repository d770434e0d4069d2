package netbox_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/netbox"
	"unbrick/inventory/sourcetest"
)

func TestCheck(t *testing.T) {
	for _, test := range []struct{ list, right string }{
		{"dcim/devices", "dcim.device"}, {"dcim/sites", "dcim.site"}, {"dcim/interfaces", "dcim.interface"},
	} {
		lacking, stale := newBox(t, 3), newBox(t, 3)
		lacking.denied, stale.stale = test.list, true
		sourcetest.CheckRights(t, sourcetest.Rights{
			Good:    open(t, newBox(t, 3), &sourcetest.Service{}, nil),
			Refused: open(t, stale, &sourcetest.Service{Authorization: "Token " + sourcetest.Wrong}, nil),
			Lacking: open(t, lacking, &sourcetest.Service{}, nil), Right: `"view" on ` + test.right,
		})
	}
	empty := open(t, newBox(t, 0), &sourcetest.Service{}, nil)
	if err := inventory.Check(t.Context(), empty); err == nil || !strings.Contains(err.Error(), "dcim.device") {
		t.Errorf("a token that is shown no device: %v", err)
	}
	b := newBox(t, 3)
	b.lists["virtualization/virtual-machines"], b.denied = nil, "virtualization/interfaces"
	vms := open(t, b, &sourcetest.Service{}, func(c *netbox.Config) { c.VMs = true })
	if err := inventory.Check(t.Context(), vms); err == nil || !strings.Contains(err.Error(), "virtualization.vminterface") {
		t.Errorf("without the right on interfaces of virtual machines: %v", err)
	}
}
