package remediate_test

import (
	"fmt"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/remediate"
)

func route(way, address string) inventory.Route {
	return inventory.Route{Driver: way, Address: address}
}

func host(routes ...inventory.Route) inventory.Host {
	return inventory.Host{Name: "h", Technician: "kim", Routes: routes}
}

func ladder(ways ...string) remediate.Ladder {
	l := remediate.Ladder{}
	for _, w := range ways {
		l = append(l, remediate.Rung{Way: w, Derive: true})
	}
	return l
}

func listed(ways []inventory.Route) string {
	var s []string
	for _, r := range ways {
		s = append(s, r.Driver+" "+r.Address)
	}
	return strings.Join(s, ", ")
}

func TestWays(t *testing.T) {
	withMAC := host(route("ipmi", "10.0.0.1"))
	withMAC.MAC = []string{"52:54:00:00:00:01"}
	for _, c := range []struct {
		name   string
		ladder remediate.Ladder
		host   inventory.Host
		want   string
	}{
		{"no ladder: as the inventory has it", nil, host(route("restart", "auto"), route("redfish", "b")), "restart auto, redfish b"},
		{"the ladder's order", ladder("winrm", "redfish"), host(route("redfish", "b"), route("winrm", "w")), "winrm w, redfish b"},
		{"not on the ladder", ladder("winrm"), host(route("redfish", "b"), route("winrm", "w")), "winrm w"},
		{"an empty ladder", ladder(), host(route("redfish", "b")), ""},
		{"two addresses for one way", ladder("redfish"), host(route("redfish", "b"), route("redfish", "c")), "redfish b, redfish c"},
		{"restarts by the controller", ladder("redfish", "restart"), host(route("redfish", "b")), "redfish b, restart auto"},
		{"restarts by IPMI, which is no way in itself", ladder("restart"), host(route("ipmi", "b")), "restart auto"},
		{"restarts by AMT", ladder("restart"), host(route("amt", "b")), "restart auto"},
		{"nothing to restart by", ladder("restart", "winrm"), host(route("winrm", "w")), "winrm w"},
		{"restarts as the inventory says", ladder("restart"), host(route("restart", "ipmi:10.0.0.1"), route("redfish", "b")), "restart ipmi:10.0.0.1"},
		{"network boot", ladder("netboot"), withMAC, "netboot auto"},
		{"network boot without a MAC", ladder("netboot"), host(route("ipmi", "10.0.0.1")), ""},
		{"network boot without power", ladder("netboot"), inventory.Host{MAC: []string{"52:54:00:00:00:01"}}, ""},
		{"back to a snapshot of the same machine", ladder("vsphere", "vsphere-rollback"), host(route("vsphere", "vc1/WS")), "vsphere vc1/WS, vsphere-rollback vc1/WS"},
		{"no snapshot of another platform", ladder("libvirt-rollback"), host(route("vsphere", "vc1/WS")), ""},
		{"a person for every host", ladder("manual"), host(), "manual -"},
		{"by default restarts, and nobody is sent", remediate.DefaultLadder(), withMAC, "restart auto"},
		{"by default, whom the inventory names", remediate.DefaultLadder(), host(route("manual", "floor 3"), route("redfish", "b")), "redfish b, restart auto, manual floor 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := listed(c.ladder.Ways(c.host)); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestSubnet(t *testing.T) {
	h := host(route("redfish", "https://10.1.2.3"))
	for _, c := range []struct{ way, address, want string }{
		{"redfish", "10.1.2.3", "10.1.2.0/24"},
		{"redfish", "https://10.1.2.3:8443/redfish/v1", "10.1.2.0/24"},
		{"ipmi", "10.1.2.3:623", "10.1.2.0/24"},
		{"amt", "[2001:db8:1:2:3::4]:16993", "2001:db8:1:2::/64"},
		{"redfish", "https://[2001:db8:1:2:3::4%25eth0]/", "2001:db8:1:2::/64"},
		{"restart", "auto", "10.1.2.0/24"},
		{"restart", "ipmi:10.9.9.9", "10.9.9.0/24"},
		{"netboot", "auto", "10.1.2.0/24"},
		{"redfish", "bmc-12.example", ""},
		{"redfish", "https://127.0.0.1:4000", ""},
		{"redfish", "", ""},
		{"winrm", "10.1.2.3", ""},
		{"manual", "kim", ""},
	} {
		if got := remediate.Subnet(h, route(c.way, c.address)); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.way, c.address, got, c.want)
		}
	}
}

// A host that every way fails takes each as often as it has tries, in the order of the ladder,
// and then a person.
func TestClimb(t *testing.T) {
	for _, c := range []struct {
		name  string
		tries string            // by way
		enter func(string) bool // whether the way gets to enter
		want  string
	}{
		{"one way, twice", "a2", all, "a a"},
		{"others first, then again", "a2 b2", all, "a b a b"},
		{"as often as it has tries", "a1 b3 c2", all, "a b c b c b"},
		{"what is not reached is not asked again", "a2 b2", none, "a b"},
		{"one that was entered has the others tried again too", "a2 b2", only("b"), "a b a b"},
		{"a person comes last, once", "manual1 a2", all, "a a manual"},
		{"a person when nothing is reached", "a2 manual2", none, "a manual"},
		{"a person alone", "manual1", all, "manual"},
		{"nothing", "", all, ""},
		{"no tries", "a0 b1", all, "b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ways []inventory.Route
			tries := map[string]int{}
			for _, f := range strings.Fields(c.tries) {
				way := f[:len(f)-1]
				ways = append(ways, route(way, "x"))
				tries[way] = int(f[len(f)-1] - '0')
			}
			var got []string
			var climb remediate.Climb
			for range 20 {
				r, on, ok := climb.Next(ways, func(way string) int { return tries[way] })
				if !ok {
					break
				}
				got = append(got, r.Driver)
				climb = on.Failed(r, c.enter(r.Driver))
			}
			if fmt.Sprint(got) != fmt.Sprint(strings.Fields(c.want)) {
				t.Errorf("%v, want %s", got, c.want)
			}
		})
	}
}

func all(string) bool                   { return true }
func none(string) bool                  { return false }
func only(way string) func(string) bool { return func(w string) bool { return w == way } }

func TestStop(t *testing.T) {
	for _, c := range []struct {
		stop          remediate.Stop
		ended, failed int
		want          string
	}{
		{remediate.Stop{}, 1000, 1000, ""},
		{remediate.Stop{Failed: 0.5}, 19, 19, ""}, // too few to say
		{remediate.Stop{Failed: 0.5}, 20, 10, ""},
		{remediate.Stop{Failed: 0.5}, 20, 11, "11 of 20 failed, and it stops above 50 %"},
		{remediate.Stop{Failed: 0.5, After: 4}, 4, 3, "3 of 4 failed, and it stops above 50 %"},
		{remediate.Stop{Failures: 3}, 3000, 2, ""},
		{remediate.Stop{Failures: 3}, 3000, 3, "3 of 3000 failed, and it stops at 3"},
		{remediate.Stop{Failures: 3, Failed: 0.1}, 100, 2, ""},
	} {
		if why, stop := c.stop.Reached(c.ended, c.failed); why != c.want || stop != (why != "") {
			t.Errorf("%+v, %d of %d: %q, %v", c.stop, c.failed, c.ended, why, stop)
		}
	}
}
