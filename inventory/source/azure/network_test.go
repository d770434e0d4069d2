package azure_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/source/azure"
	"unbrick/inventory/sourcetest"
)

// A host has the address of its machine's primary card, and the MAC addresses of all, however it
// is asked for; the public address only if that is asked for.
func TestAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(*azure.Config)
		address string
		asked   int // requests: two machines, in one page, have six cards, in three
	}{
		"private": {func(*azure.Config) {}, "10.0.1.1", 4},
		"public":  {func(c *azure.Config) { c.Public = true }, "203.0.113.11", 6},
		"group":   {func(c *azure.Config) { c.Groups = []string{"hosts"} }, "10.0.1.1", 4},
		"ids":     {func(c *azure.Config) { c.Subscriptions, c.IDs = nil, []string{subscription + "/hosts/pcx"} }, "10.0.1.1", 3},
		"ids, public": {func(c *azure.Config) {
			c.Subscriptions, c.IDs, c.Public = nil, []string{subscription + "/hosts/pcx"}, true
		}, "203.0.113.11", 5},
	} {
		t.Run(name, func(t *testing.T) {
			a := newARM(2)
			a.connect(0)
			a.connect(1)
			h := load(t, open(t, a, &sourcetest.Service{}, c.change))["PCX"]
			if h.Address != c.address || fmt.Sprint(h.MAC) != "[00:0d:3a:00:01:01 00:0d:3a:00:01:00]" {
				t.Errorf("address %s, MAC %v", h.Address, h.MAC)
			}
			if len(a.asked) != c.asked {
				t.Errorf("%d requests, want %d: %q", len(a.asked), c.asked, a.asked)
			}
		})
	}
}

// Without the right to read cards there are hosts all the same: that is said once, and Check says
// which right it is.
func TestAddressesDenied(t *testing.T) {
	for kind, right := range map[string]string{"networkInterfaces": "Microsoft.Network/networkInterfaces/read", "publicIPAddresses": "Microsoft.Network/publicIPAddresses/read"} {
		for _, ids := range [][]string{nil, {subscription + "/hosts/pc", subscription + "/hosts/pcx"}} {
			a := newARM(2)
			a.connect(0)
			a.connect(1)
			a.denied = kind
			s := open(t, a, &sourcetest.Service{}, func(c *azure.Config) { c.IDs, c.Public = ids, true })
			f, err := inventory.Load(t.Context(), inventory.Options{}, s)
			if err != nil || len(f.Hosts) != 2 {
				t.Fatal(len(f.Hosts), err)
			}
			if all := slices.Concat(f.Problems.Lines(), f.Warnings.Lines()); len(all) != 1 || !strings.Contains(all[0], right) {
				t.Errorf("said: %q", all)
			}
			for _, h := range f.Hosts {
				if public := strings.HasPrefix(h.Address, "203."); public || (h.Address == "") != (kind == "networkInterfaces") {
					t.Errorf("%s: %s has the address %q", kind, h.Name, h.Address)
				}
			}
			var lacks *inventory.RightError
			if err := s.Check(t.Context()); !errors.As(err, &lacks) || !strings.HasPrefix(lacks.Right, right) || lacks.Without == "" {
				t.Errorf("check: %v", err)
			}
		}
	}
}

func TestPermissions(t *testing.T) {
	p := azure.Permissions{
		{Actions: []string{"*/read", "Microsoft.Compute/*"}, NotActions: []string{"Microsoft.Compute/disks/delete"}},
		{Actions: []string{"microsoft.compute/virtualMachines/*/action"}},
	}
	for action, want := range map[string]bool{
		"Microsoft.Compute/virtualMachines/read": true, "Microsoft.Authorization/locks/read": true, "Microsoft.Compute/disks/write": true,
		"Microsoft.Compute/disks/delete": false, "Microsoft.Network/networkInterfaces/join/action": false, "Microsoft.Compute/virtualMachines/start/action": true,
	} {
		if p.Allow(action) != want {
			t.Errorf("%s: %t", action, !want)
		}
	}
}
