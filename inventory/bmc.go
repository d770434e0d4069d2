package inventory

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// managed are the ways in whose address is that of a controller of its own.
var managed = []string{"redfish", "ipmi"}

// controller returns the host or IP address in the address of a controller.
func controller(address string) string {
	a := strings.ToLower(bareAddress(address))
	a, _, _ = strings.Cut(a, "/")
	if host, _, err := net.SplitHostPort(a); err == nil {
		return host
	}
	return strings.Trim(a, "[]")
}

// isLoopback says that a host is this machine: in a lab Windows and BMCs all answer there.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// putBMCsAside takes the addresses of BMCs away that a source has for those of Windows. A row
// that is nothing but such an address, as a DHCP server has one for every BMC, is no host.
func (m *merger) putBMCsAside() {
	bmcs := map[string]int32{} // address: a row that has it as a way in
	for i := range m.rows.n {
		for _, r := range m.rows.at(int32(i)).Routes {
			if a := controller(r.Address); slices.Contains(managed, r.Driver) && a != "" && !isLoopback(a) {
				if _, ok := bmcs[a]; !ok {
					bmcs[a] = int32(i)
				}
			}
		}
	}
	if len(bmcs) == 0 {
		return
	}
	alone := make([]int32, m.rows.n) // rows of a host that are not put aside
	for i := range m.rows.n {
		alone[m.set.find(int32(i))]++
	}
	for i := range m.rows.n {
		h := m.rows.at(int32(i))
		owner, ok := bmcs[controller(h.Address)]
		if !ok || h.Address == "" || m.state[i] == aside || m.state[i] == ambiguous {
			continue
		}
		r := int32(i)
		if host := m.set.find(r); host != m.set.find(owner) && alone[host] == 1 && h.Serial == "" && h.UUID == "" && len(h.Routes) == 0 {
			m.warn(r, "it is the BMC of "+m.rows.at(owner).Name+", and no host", "hosts alone", "address")
			m.state[i] = aside
			m.in.sum.Aside++
			continue
		}
		m.warn(r, "it is the address of the BMC of "+m.rows.at(owner).Name, "the address where Windows answers", "address")
		h.Address = ""
	}
}

// routesOnce takes ways in away that several hosts have after all sources were heard: a BMC that
// two sources give to two hosts would restart the wrong one. What one host alone of them that is
// in use has is its own.
func (m *merger) routesOnce(hosts []Host) {
	first, shared := map[string]claimedBy{}, map[string][]int{}
	for i := range hosts {
		for _, r := range hosts[i].Routes {
			for _, key := range routeKeys(r) {
				was, ok := first[key.at]
				switch {
				case !ok:
					first[key.at] = claimedBy{i, key.whole}
				case was.host == i:
					was.whole = was.whole || key.whole
					first[key.at] = was
				case was.whole || key.whole:
					if shared[key.at] == nil {
						shared[key.at] = []int{was.host}
					}
					if all := shared[key.at]; all[len(all)-1] != i {
						shared[key.at] = append(all, i)
					}
				}
			}
		}
	}
	if len(shared) == 0 {
		return
	}
	for i := range hosts {
		h := &hosts[i]
		var noted []string
		h.Routes = slices.DeleteFunc(slices.Clone(h.Routes), func(r Route) bool {
			for _, key := range routeKeys(r) {
				all := shared[key.at]
				if all == nil || onlyInUse(hosts, all) == i {
					continue
				}
				if all[0] == i && !slices.Contains(noted, key.at) {
					noted = append(noted, key.at)
					m.claimed(hosts, all, r)
				}
				return true
			}
			return false
		})
	}
}

// claimedBy is the first host that has an address, and whether it is all of it.
type claimedBy struct {
	host  int
	whole bool
}

// onlyInUse returns which of several hosts is the only one in use, -1 if there are none or more.
func onlyInUse(hosts []Host, all []int) int {
	one := -1
	for _, i := range all {
		if isOut(&hosts[i]) {
			continue
		}
		if one >= 0 {
			return -1
		}
		one = i
	}
	return one
}

// claimed notes with each of the hosts that they all have a way in.
func (m *merger) claimed(hosts []Host, all []int, r Route) {
	var said []Said
	for _, i := range all {
		at := origin(&hosts[i])
		said = append(said, Said{r.Address + " for " + hosts[i].Name, at.Source, at.Place})
	}
	for _, i := range all {
		hosts[i].note(r.Driver, said)
	}
	at := origin(&hosts[all[0]])
	m.in.warn(&RowError{Place: at.Place, Line: at.Line, Column: r.Driver, Value: r.Address,
		Reason: "sources give it to " + hosts[all[0]].Name + " and to " + hosts[all[1]].Name, Want: "one host for it; it is not used for any of them"})
}

// A routeKey is what an address leads to: all that is there, or one of the hosts of a controller.
type routeKey struct {
	at    string
	whole bool
}

// routeKeys returns what a way in leads to, nothing if that is no one host's alone.
func routeKeys(r Route) []routeKey {
	c, ok := controls(r)
	switch {
	case ok && c.system != "":
		all := c.host + "\x00" + c.port
		return []routeKey{{all, false}, {all + "\x00" + c.system, true}}
	case ok:
		return []routeKey{{c.host + "\x00" + c.port, true}}
	case ofOneHost(r):
		return []routeKey{{r.Driver + "\x00\x00" + strings.ToLower(bareAddress(r.Address)), true}}
	}
	return nil
}

// ports are those where controllers are spoken to, by driver; an address need not have them.
var ports = map[string][]string{"redfish": {"443", "80"}, "ipmi": {"623"}, "amt": {"16993", "16992"}}

// A controlled is what an address switches: a controller and, of one that has several hosts,
// which of them.
type controlled struct {
	host   string // lower case
	port   string // empty if it is one of ports: behind one address several may be forwarded
	system string // path of a Redfish system, or empty
}

// controls returns what a way in switches hosts by, whichever way it is: "10.0.0.7" and
// "https://10.0.0.7:443" by Redfish, "10.0.0.7" by IPMI and "ipmi:10.0.0.7" of netboot are one
// controller. It is false for a way that has none of its own.
func controls(r Route) (c controlled, ok bool) {
	driver, address := r.Driver, r.Address
	if driver == "netboot" || driver == "restart" {
		driver, address, _ = strings.Cut(address, ":")
	}
	standard, ok := ports[driver]
	if !ok {
		return c, false
	}
	c.host, c.system, _ = strings.Cut(strings.ToLower(bareAddress(strings.TrimSpace(address))), "/")
	if _, id, ok := strings.Cut("/"+c.system, "/redfish/v1/systems/"); ok {
		c.system = id
	} else {
		c.system = ""
	}
	if host, port, err := net.SplitHostPort(c.host); err == nil {
		c.host = host
		if !slices.Contains(standard, port) {
			c.port = port
		}
	}
	c.host = strings.Trim(c.host, "[]")
	if ip, err := netip.ParseAddr(c.host); err == nil {
		c.host = ip.Unmap().String()
	}
	return c, c.host != ""
}
