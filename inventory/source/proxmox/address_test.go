package proxmox_test

import (
	"testing"

	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
)

// A host has the fixed address that cloud-init gives it, and none that it gets elsewhere.
func TestAddress(t *testing.T) {
	for name, c := range map[string]struct {
		config map[string]string
		want   string
	}{
		"none":        {nil, ""},
		"fixed":       {map[string]string{"ipconfig0": "ip=10.1.2.3/24,gw=10.1.2.1"}, "10.1.2.3"},
		"dhcp":        {map[string]string{"ipconfig0": "ip=dhcp,ip6=auto"}, ""},
		"second card": {map[string]string{"ipconfig0": "ip=dhcp", "ipconfig1": "gw=10.1.2.1,ip=10.1.2.4/24"}, "10.1.2.4"},
		"v6 alone":    {map[string]string{"ipconfig0": "ip6=2001:db8::5/64"}, "2001:db8::5"},
		"v4 first":    {map[string]string{"ipconfig0": "ip6=2001:db8::5/64", "ipconfig1": "ip=10.1.2.5/24"}, "10.1.2.5"},
		"nonsense":    {map[string]string{"ipconfig0": "ip=10.1.2/24"}, ""},
	} {
		s := cluster()
		s.Change(100, func(v *proxmoxtest.VM) {
			for key, value := range c.config {
				v.Config[key] = value
			}
		})
		for h, err := range open(t, s, &sourcetest.Service{}, nil).Hosts(t.Context()) {
			if err != nil || h.Address != c.want {
				t.Errorf("%s: %q, %v; want %q", name, h.Address, err, c.want)
			}
			break
		}
	}
}
