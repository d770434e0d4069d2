package netboot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// leaseTime is for how long an address is lent: a boot loader needs minutes, and the system
// that it starts asks the site's own DHCP server.
const leaseTime = time.Hour

// A pool holds the addresses that may be lent. The zero pool has none.
type pool struct {
	first, last netip.Addr
	mask        net.IPMask
}

// parsePool reads FIRST-LAST, all in the network of ip.
func parsePool(text string, ip net.IP, mask net.IPMask) (p pool, err error) {
	if text == "" {
		return p, nil
	}
	a, b, _ := strings.Cut(text, "-")
	first, err1 := netip.ParseAddr(strings.TrimSpace(a))
	last, err2 := netip.ParseAddr(strings.TrimSpace(b))
	if err := errors.Join(err1, err2); err != nil || !first.Is4() || !last.Is4() || last.Less(first) {
		return p, fmt.Errorf("%q is not a range of addresses to lend; write 10.1.2.240-10.1.2.250", text)
	}
	network := net.IPNet{IP: ip.Mask(mask), Mask: mask}
	if mask == nil || !network.Contains(first.AsSlice()) || !network.Contains(last.AsSlice()) {
		return p, fmt.Errorf("cannot lend %s: they are not all in the network of %s, which is where they are needed", text, ip)
	}
	return pool{first, last, mask}, nil
}

// lends says whether a client needs an address from us: GRUB, which UEFI hosts load, looks for
// its files at the next server of the answer that its address came with, and nowhere else.
// Packets that a relay brought come from another network.
func (s *Server) lends(m *dhcpv4.DHCPv4, c client) bool {
	direct := m.GatewayIPAddr == nil || m.GatewayIPAddr.IsUnspecified()
	return s.pool.mask != nil && direct && c.class == classPXE && !c.ipxe && c.arch != iana.INTEL_X86PC
}

// lend returns the address that is lent to a host: the same when asked again.
func (h *hosts) lend(mac net.HardwareAddr, p pool) (netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, ok := h.young(h.byMAC[mac.String()])
	if !ok || x.Lent.IsValid() {
		return x.Lent, nil
	}
	taken := map[netip.Addr]bool{}
	for _, other := range h.byMAC {
		if _, ok := h.young(other); ok {
			taken[other.Lent] = true
		}
	}
	for ip := p.first; ip.IsValid() && !p.last.Less(ip); ip = ip.Next() {
		if !taken[ip] {
			x.Lent = ip
			return ip, h.save(x)
		}
	}
	return netip.Addr{}, errors.New("all addresses are lent")
}

// setLease adds a lent address to an answer.
func (s *Server) setLease(r *dhcpv4.DHCPv4, ip netip.Addr) {
	r.YourIPAddr = ip.AsSlice()
	r.UpdateOption(dhcpv4.OptSubnetMask(s.pool.mask))
	r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
}
