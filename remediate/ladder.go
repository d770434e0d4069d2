package remediate

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
)

// A Rung is one way into hosts, as a run uses it.
type Rung struct {
	Way string `json:"way"` // the driver of its routes
	// Hosts is how many are in treatment by this way at once; 0: as many as the run has. Of the
	// way Manual it is how many persons have in hand together: those that wait count.
	Hosts  int           `json:"hosts,omitempty"`
	Budget time.Duration `json:"budget,omitempty"` // for check, enter and repair of a host together; 0: what the stages have
	Tries  int           `json:"tries,omitempty"`  // at a host that it failed and was put back; 0: as the run says
	// Derive says that the way serves hosts whose inventory names no address for it too, where
	// one can be told from the rest.
	Derive bool `json:"derive,omitempty"`
	Stop   Stop `json:"stop,omitzero"` // when no more hosts are begun by the way
}

// A Stop says when a way is given up, for a person to look at: its hosts wait, and the other ways
// go on. A treatment has failed that ended without a repair, also where the host could not be
// reached. The zero Stop never does; nothing stops persons.
type Stop struct {
	Failed   float64 // a larger share than this of the treatments that ended, from 0 to 1; 0: no share
	After    int     // treatments before the share counts; 20 if 0
	Failures int     // so many; 0: no number
}

// Reached says whether so many treatments of which so many failed are enough, and why.
func (s Stop) Reached(ended, failed int) (why string, stop bool) {
	switch {
	case s.Failures > 0 && failed >= s.Failures:
		return fmt.Sprintf("%d of %d failed, and it stops at %d", failed, ended, s.Failures), true
	case s.Failed > 0 && ended >= cmp.Or(s.After, 20) && float64(failed) > s.Failed*float64(ended):
		return fmt.Sprintf("%d of %d failed, and it stops above %.0f %%", failed, ended, 100*s.Failed), true
	}
	return "", false
}

// A Ladder is the ways into hosts, cheapest first. A way that is not on it is not used. The
// nil Ladder is what the inventory says of each host, in its order.
type Ladder []Rung

// Manual is the way of a person who goes to the host. It is the last resort: it is taken when
// every other way has had all its tries.
const Manual = "manual"

// DefaultLadder returns the order in which ways are tried if nobody says otherwise. Restarts
// are counted where a controller can do them. A person is sent only where the inventory says so.
func DefaultLadder() Ladder {
	var l Ladder
	for _, way := range []string{
		"winrm", "redfish", "netboot", "amt", // in place, or by the rescue image
		"libvirt", "ec2", "azure", "gce", "vsphere", "vsphere-iso", "hyperv", "proxmox", "openstack", // the volume on a helper
		"restart", Manual,
	} {
		l = append(l, Rung{Way: way, Derive: way == "restart"})
	}
	return l
}

// Only returns the rungs whose ways are known. The nil Ladder stays nil.
func (l Ladder) Only(known func(way string) bool) Ladder {
	if l == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(l), func(r Rung) bool { return !known(r.Way) })
}

// Rung returns the rung of a way, or one without limits.
func (l Ladder) Rung(way string) Rung {
	if i := slices.IndexFunc(l, func(r Rung) bool { return r.Way == way }); i >= 0 {
		return l[i]
	}
	return Rung{Way: way}
}

// Ways returns the ways into a host, in the order of the ladder.
func (l Ladder) Ways(h inventory.Host) []inventory.Route {
	if l == nil {
		return h.Routes
	}
	var ways []inventory.Route
	for _, r := range l {
		named := false
		for _, route := range h.Routes {
			if route.Driver == r.Way {
				ways, named = append(ways, route), true
			}
		}
		if !named && r.Derive {
			if address, ok := derived(h, r.Way); ok {
				ways = append(ways, inventory.Route{Driver: r.Way, Address: address})
			}
		}
	}
	return ways
}

// derived returns the address of a way that the inventory does not name one for, if there can
// be one: "auto" is the host's own controller.
func derived(h inventory.Host, way string) (address string, ok bool) {
	switch way {
	case "restart":
		return "auto", controller(h) != ""
	case "netboot":
		return "auto", controller(h) != "" && len(h.MAC) > 0
	case Manual:
		return "-", true // nobody said where it stands
	}
	if platform, ok := strings.CutSuffix(way, "-rollback"); ok { // the same machine, by another way
		i := slices.IndexFunc(h.Routes, func(r inventory.Route) bool { return r.Driver == platform })
		if i >= 0 {
			return h.Routes[i].Address, true
		}
	}
	return "", false
}

// controller returns the address of what switches the host on and off, or nothing.
func controller(h inventory.Host) string {
	for _, way := range []string{"redfish", "ipmi", "amt"} {
		if i := slices.IndexFunc(h.Routes, func(r inventory.Route) bool { return r.Driver == way }); i >= 0 {
			return h.Routes[i].Address
		}
	}
	return ""
}

// Streams says whether a host that is entered by the way fetches the rescue image over the
// uplink of its site.
func Streams(way string) bool { return way == "redfish" || way == "netboot" || way == "amt" }

// OutOfBand says whether the way speaks to a controller beside the host, and switches its power.
func OutOfBand(way string) bool {
	return Streams(way) || way == "ipmi" || way == "restart"
}

// Subnet returns the network of the controller that a way into the host speaks to: the /24 of
// an IPv4 address, the /64 of an IPv6 one. It is empty for other ways, for names, which say
// nothing of the network, and for loopback, which has no network between.
func Subnet(h inventory.Host, r inventory.Route) string {
	if !OutOfBand(r.Driver) {
		return ""
	}
	address := r.Address
	if address == "auto" || address == "yes" {
		address = controller(h)
	}
	for _, kind := range []string{"redfish:", "ipmi:", "amt:"} {
		address = strings.TrimPrefix(address, kind)
	}
	ip, ok := addressOf(address)
	if !ok || ip.IsLoopback() {
		return ""
	}
	bits := 24
	if ip.Is6() {
		bits = 64
	}
	net, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return net.String()
}

// addressOf reads the IP address of a URL, or of "10.1.2.3:443", "[fe80::1]:443" and the like.
func addressOf(s string) (netip.Addr, bool) {
	if u, err := url.Parse(s); err == nil && u.Hostname() != "" {
		s = u.Hostname()
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		s = ap.Addr().String()
	}
	s, _, _ = strings.Cut(s, "/")
	ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return ip.Unmap().WithZone(""), err == nil
}

// A Climb is how far a host has come on the ladder. The zero Climb is at its foot.
type Climb struct {
	Round    int               `json:"round,omitempty"`    // that ended: every way had that many tries
	Tried    []inventory.Route `json:"tried,omitempty"`    // ways that failed in this round
	Entered  bool              `json:"entered,omitempty"`  // one of them got so far that another round may end better
	Relapses int               `json:"relapses,omitempty"` // it was fixed, and went down again
	Detour   *Detour           `json:"detour,omitempty"`   // out of its turn; there is one on a climb
}

// Failed returns the climb after a way failed and the host was put back.
func (c Climb) Failed(r inventory.Route, entered bool) Climb {
	c.Tried = append(slices.Clone(c.Tried), r)
	c.Entered = c.Entered || entered && r.Driver != Manual
	c.Detour = c.Detour.failed(r, entered)
	return c
}

// Next returns the way that a host takes next, of the ways that there are, and the climb that
// it takes it on; ok is false at the top. Each way has tries. Every way is tried before one is
// tried again, and again only if something was entered: what cannot be reached now is not
// reached by asking twice. A person is the last resort. A detour comes before all of them.
func (c Climb) Next(ways []inventory.Route, tries func(way string) int) (next inventory.Route, on Climb, ok bool) {
	if next, c.Detour, ok = c.Detour.next(ways); ok {
		return next, c, true
	}
	for {
		more := false
		for _, r := range ways {
			if r.Driver == Manual {
				continue
			}
			if tries(r.Driver) > c.Round && !slices.Contains(c.Tried, r) {
				return r, c, true
			}
			more = more || tries(r.Driver) > c.Round+1
		}
		if !c.Entered || !more {
			break
		}
		c.Round, c.Tried, c.Entered = c.Round+1, nil, false
	}
	for _, r := range ways {
		if r.Driver == Manual && !slices.Contains(c.Tried, r) {
			return r, c, true
		}
	}
	return inventory.Route{}, c, false
}
