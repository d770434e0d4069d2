package inventory

import (
	"net/netip"
	"slices"
	"strings"
)

// When rows that share a serial number, a UUID or a MAC address are two machines all the same.
//
// One machine has one name in most systems. Under two names it was renamed, or a CMDB calls it
// by its asset tag and a hypervisor by what its administrator typed: then what else is known
// agrees, or is not known to both. Copied virtual machines share serial number and UUID, blades
// the serial number of their chassis: they differ in their MAC addresses and in the ways to them.

// apartIn says that two of the rows, under two names, are two machines.
func (m *merger) apartIn(c cluster) bool {
	_, _, two := m.firstApart(c)
	return two
}

// firstApart returns two rows that are two machines, if there are any. The cluster has one row
// of each source at most.
func (m *merger) firstApart(c cluster) (a, b int32, two bool) {
	if !m.twoNames(c) {
		return 0, 0, false
	}
	kin := make([]cluster, len(c))
	for i := range c {
		kin[i] = m.kin(c[i])
	}
	for i, a := range c {
		for j, b := range c[:i] {
			if m.keys.name[a] != m.keys.name[b] && m.apart(kin[i], kin[j]) {
				return b, a, true
			}
		}
	}
	return 0, 0, false
}

// twoNames says that the rows do not all have one name.
func (m *merger) twoNames(c cluster) bool {
	for _, r := range c[1:] {
		if m.keys.name[r] != m.keys.name[c[0]] {
			return true
		}
	}
	return false
}

// kin returns r and the rows of its name, which say more of its machine; r alone if several
// machines go by that name.
func (m *merger) kin(r int32) cluster {
	name := m.keys.name[r]
	i, _ := slices.BinarySearchFunc(m.names, name, func(k keyed, name uint64) int {
		if k.key < name {
			return -1
		}
		return 1
	})
	var all cluster
	for ; i < len(m.names) && m.names[i].key == name; i++ {
		all = append(all, m.names[i].row)
	}
	if !m.onePerSource(all) {
		return cluster{r}
	}
	for i, a := range all {
		for _, b := range all[:i] {
			for _, key := range [][]uint64{m.keys.serial, m.keys.uuid} {
				if key[a] != key[b] && key[a] != 0 && key[b] != 0 {
					return cluster{r}
				}
			}
		}
	}
	return all
}

// apart says that what is known of two names is not of one machine. A way that names a virtual
// machine decides; of other machines a MAC address or an address in common outweighs that a
// BMC has another address in one place, or that one source knows another of their cards.
func (m *merger) apart(a, b cluster) bool {
	if m.waysApart(a, b, isGuest) {
		return true
	}
	common, both := m.macsOf(a, b)
	if common || m.sameAddress(a, b) {
		return false
	}
	return both || m.waysApart(a, b, isOwnWay)
}

// macsOf says whether two groups of rows have a MAC address in common, and whether both have one.
func (m *merger) macsOf(a, b cluster) (common, both bool) {
	has := func(c cluster, good func(string) bool) bool {
		return slices.ContainsFunc(c, func(r int32) bool {
			return slices.ContainsFunc(m.rows.at(r).MAC, func(mac string) bool { return !FakeMAC(mac) && good(mac) })
		})
	}
	some := func(string) bool { return true }
	common = has(a, func(mac string) bool { return has(b, func(o string) bool { return o == mac }) })
	return common, common || has(a, some) && has(b, some)
}

// sameAddress says that Windows answers at one address.
func (m *merger) sameAddress(a, b cluster) bool {
	for _, r := range a {
		at := controller(m.rows.at(r).Address)
		if at == "" || isLoopback(at) {
			continue
		}
		if slices.ContainsFunc(b, func(o int32) bool { return controller(m.rows.at(o).Address) == at }) {
			return true
		}
	}
	return false
}

// waysApart says that by one of the ways no two addresses of the two are the same.
func (m *merger) waysApart(a, b cluster, of func(driver string) bool) bool {
	known, same := map[string]bool{}, map[string]bool{}
	for _, r := range a {
		for _, way := range m.rows.at(r).Routes {
			for _, o := range b {
				for _, other := range m.rows.at(o).Routes {
					if other.Driver == way.Driver && of(way.Driver) {
						known[way.Driver] = true
						same[way.Driver] = same[way.Driver] || maybeSame(way, other)
					}
				}
			}
		}
	}
	for driver := range known {
		if !same[driver] {
			return true
		}
	}
	return false
}

// guests are the ways in whose address names one virtual machine.
var guests = []string{"ec2", "azure", "gce", "vsphere", "vsphere-iso", "hyperv", "libvirt", "proxmox", "openstack"}

func isGuest(driver string) bool { return slices.Contains(guests, driver) }

// isOwnWay says that a way leads to one host: not a technician, nor a word for another way.
func isOwnWay(driver string) bool {
	return driver != "manual" && driver != "restart" && driver != "netboot"
}

// maybeSame says that two addresses of one driver may be those of one machine: a name and an IP
// address cannot be compared, and the id of a virtual machine may stand alone or behind its place.
func maybeSame(a, b Route) bool {
	if isGuest(a.Driver) {
		x, y := strings.ToLower(bareAddress(a.Address)), strings.ToLower(bareAddress(b.Address))
		return x == y || strings.HasSuffix(x, "/"+y) || strings.HasSuffix(y, "/"+x)
	}
	x, okX := controls(a)
	y, okY := controls(b)
	if !okX || !okY {
		x.host, y.host = controller(a.Address), controller(b.Address)
	}
	if x.host == y.host {
		return x.port == y.port && (x.system == y.system || x.system == "" || y.system == "")
	}
	return isIP(x.host) != isIP(y.host) || !isIP(x.host) && sameShort(x.host, y.host)
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
