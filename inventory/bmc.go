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
// two sources give to two hosts would restart the wrong one.
func (m *merger) routesOnce(hosts []Host) {
	first, shared := map[string]int{}, map[string][]int{}
	for i := range hosts {
		for _, r := range hosts[i].Routes {
			if r.Driver == "manual" {
				continue
			}
			key := routeKey(r)
			was, ok := first[key]
			switch {
			case !ok:
				first[key] = i
			case was != i:
				if shared[key] == nil {
					shared[key] = []int{was}
				}
				shared[key] = append(shared[key], i)
			}
		}
	}
	for i := range hosts {
		h := &hosts[i]
		h.Routes = slices.DeleteFunc(slices.Clone(h.Routes), func(r Route) bool {
			all := shared[routeKey(r)]
			if all == nil {
				return false
			}
			if all[0] == i {
				m.claimed(hosts, all, r)
			}
			return true
		})
	}
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

func routeKey(r Route) string { return r.Driver + "\x00" + strings.ToLower(bareAddress(r.Address)) }

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
