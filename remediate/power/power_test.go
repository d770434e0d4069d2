package power_test

import (
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/power"
	"unbrick/remediate/power/powertest"
)

func TestFor(t *testing.T) {
	ipmi, amt := &powertest.Fake{}, &powertest.Fake{}
	known := power.Switches{"ipmi": ipmi, "amt": amt}
	routes := []inventory.Route{
		{Driver: "netboot", Address: "auto"}, {Driver: "amt", Address: "10.0.0.9"},
		{Driver: "ipmi", Address: "10.0.0.8"}, {Driver: "redfish", Address: "10.0.0.7"},
	}
	for _, c := range []struct {
		address string
		routes  []inventory.Route
		want    power.Switch
		route   inventory.Route
		err     string
	}{
		{"ipmi:10.1.2.3", nil, ipmi, inventory.Route{Driver: "ipmi", Address: "10.1.2.3"}, ""},
		{"amt:[2001:db8::1]:16993", nil, amt, inventory.Route{Driver: "amt", Address: "[2001:db8::1]:16993"}, ""},
		{"auto", routes, ipmi, routes[2], ""}, // redfish comes first, and is not known here
		{"yes", routes[:2], amt, routes[1], ""},
		{"auto", routes[:1], nil, inventory.Route{}, "no redfish, ipmi or amt address"},
		{"10.1.2.3", routes, nil, inventory.Route{}, "neither auto nor a controller"},
		{"redfish:10.1.2.3", routes, nil, inventory.Route{}, "neither auto nor a controller"},
	} {
		target := remediate.Target{Host: inventory.Host{Name: "h1", Routes: c.routes}, Route: inventory.Route{Driver: "restart", Address: c.address}}
		sw, got, err := known.For(target)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want one with %q", c.address, err, c.err)
			}
		case err != nil || sw != c.want || got.Route != c.route:
			t.Errorf("%s: %v %+v %v", c.address, sw, got.Route, err)
		}
	}
}
