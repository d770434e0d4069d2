package netboot

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// A port is one of the two that DHCP comes in by.
type port int

// The ports: DHCP, where everybody's broadcasts are heard, and the PXE boot server's, where a
// firmware asks again once it has an address.
const (
	onDHCP port = iota
	onPXE
)

// The classes of clients that want to boot, as the first part of option 60.
const (
	classPXE  = "PXEClient"
	classHTTP = "HTTPClient"
)

// serveDHCP answers what comes in, one packet after the other.
func (s *Server) serveDHCP(conn net.PacketConn, p port) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(buf)
		if s.ctx.Err() != nil {
			return
		}
		if err != nil {
			s.log.Debug("cannot read a DHCP packet", "err", err)
			s.breathe()
			continue
		}
		if peer, ok := from.(*net.UDPAddr); ok {
			s.heard(conn, p, buf[:n], peer)
		}
	}
}

// heard answers one packet, if it is due an answer. Anybody can send one, and what reads it is
// not ours: should it break down, that is the end of the packet and not of the run.
func (s *Server) heard(conn net.PacketConn, p port, packet []byte, from *net.UDPAddr) {
	defer func() {
		if x := recover(); x != nil {
			s.log.Error("cannot read a DHCP packet", "from", from, "panic", x)
		}
	}()
	m, err := dhcpv4.FromBytes(packet)
	if err != nil {
		return
	}
	reply := s.answer(p, m)
	if reply == nil {
		return
	}
	to := replyTo(p, m, from)
	log := s.log.With("mac", m.ClientHWAddr.String(), "to", to)
	if _, err := conn.WriteTo(reply.ToBytes(), to); err != nil {
		log.Warn("cannot answer a host that wants to boot from the network", "err", err)
		return
	}
	log.Info("network boot offered", "file", reply.BootFileName, "lent", reply.YourIPAddr)
}

// breathe waits a little, so that a card that is gone does not keep the processor busy.
func (s *Server) breathe() {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-s.ctx.Done():
	}
}

// answer returns what to say to a packet, or nil where nothing is said. It learns the address
// of a host that is allowed from what that host asks of its own DHCP server.
func (s *Server) answer(p port, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != iana.HWTypeEthernet || len(m.ClientHWAddr) != 6 {
		return nil
	}
	if _, ok := s.hosts.find(m.ClientHWAddr); !ok {
		return nil
	}
	s.learn(m)
	c := clientOf(m)
	is := s.due(p, m, c)
	if is == dhcpv4.MessageTypeNone {
		return nil
	}
	file := s.bootFile(c)
	if file == "" {
		s.log.Debug("no answer to a firmware that no image fits", "mac", m.ClientHWAddr.String(), "class", m.ClassIdentifier(), "arch", c.arch.String())
		return nil
	}
	r := s.reply(m, is, c, file)
	if p == onDHCP && s.lends(m, c) {
		ip, err := s.hosts.lend(m.ClientHWAddr, s.pool)
		if err != nil {
			s.log.Warn("cannot lend an address", "mac", m.ClientHWAddr.String(), "err", err)
			return r
		}
		s.setLease(r, ip)
	}
	return r
}

// due returns what is to be answered to a message, if anything.
func (s *Server) due(p port, m *dhcpv4.DHCPv4, c client) dhcpv4.MessageType {
	kind := m.MessageType()
	switch {
	case p == onDHCP && kind == dhcpv4.MessageTypeDiscover:
		return dhcpv4.MessageTypeOffer
	case p == onDHCP && kind == dhcpv4.MessageTypeRequest && s.lends(m, c) && s.ip.Equal(m.ServerIdentifier()):
		return dhcpv4.MessageTypeAck // it took our offer
	case p == onPXE && (kind == dhcpv4.MessageTypeRequest || kind == dhcpv4.MessageTypeInform):
		return dhcpv4.MessageTypeAck
	}
	return dhcpv4.MessageTypeNone
}

// learn ties a host to the address that it wants or has.
func (s *Server) learn(m *dhcpv4.DHCPv4) {
	kind := m.MessageType()
	if kind != dhcpv4.MessageTypeRequest && kind != dhcpv4.MessageTypeInform {
		return
	}
	ip := m.RequestedIPAddress()
	if ip == nil {
		ip = m.ClientIPAddr
	}
	if err := s.hosts.tie(m.ClientHWAddr, ip); err != nil {
		s.log.Error("cannot note the address of a host", "mac", m.ClientHWAddr.String(), "err", err)
	}
}

// A client is what wants to boot.
type client struct {
	class string // classPXE, classHTTP, or empty: it does not want to boot
	arch  iana.Arch
	ipxe  bool
}

func clientOf(m *dhcpv4.DHCPv4) (c client) {
	id := m.ClassIdentifier()
	for _, class := range []string{classPXE, classHTTP} {
		if id == class || strings.HasPrefix(id, class+":") {
			c.class = class
		}
	}
	// RFC 4578 allows several; firmware sends one.
	if archs := m.ClientArch(); len(archs) > 0 {
		c.arch = archs[0]
	}
	// RFC 3004 puts a length before the name, iPXE does not.
	c.ipxe = bytes.Contains(m.Options.Get(dhcpv4.OptionUserClassInformation), []byte("iPXE"))
	return c
}

// bootFile returns what a client is told to load, or the empty string.
func (s *Server) bootFile(c client) string {
	uefi := c.arch == iana.EFI_X86_64 || c.arch == iana.EFI_BC || c.arch == iana.EFI_X86_64_HTTP
	switch {
	case c.class == "":
	case c.ipxe && (uefi || c.arch == iana.INTEL_X86PC):
		return s.web + Script
	case c.class == classHTTP && c.arch == iana.EFI_X86_64_HTTP:
		return s.web + ISO
	case c.class == classPXE && uefi:
		return Shim
	case c.class == classPXE && c.arch == iana.INTEL_X86PC:
		return LoaderBIOS
	}
	return ""
}

// reply makes the answer, without an address for the client.
//
// BIOS is told, in option 43, to load the file named here without asking further. UEFI
// firmware is not: much of it ignores an offer with that, and all of it asks again at port
// 4011 where it is absent. The file's name is in the header, where the shim looks for the
// folder that it came from.
func (s *Server) reply(m *dhcpv4.DHCPv4, is dhcpv4.MessageType, c client, file string) *dhcpv4.DHCPv4 {
	r, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(is),
		dhcpv4.WithServerIP(s.ip),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.ip)),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(c.class)),
	)
	if err != nil {
		return nil
	}
	r.BootFileName = file
	if id := m.Options.Get(dhcpv4.OptionClientMachineIdentifier); id != nil {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, slices.Clone(id)))
	}
	if c.class == classPXE && c.arch == iana.INTEL_X86PC {
		const control, bootNow, end = 6, 8, 255
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{control, 1, bootNow, end}))
	}
	return r
}

// replyTo returns where the answer goes: to the relay that brought the packet, to the client
// where it has an address, and else to everybody in its network.
func replyTo(p port, m *dhcpv4.DHCPv4, from *net.UDPAddr) *net.UDPAddr {
	switch {
	case m.GatewayIPAddr != nil && !m.GatewayIPAddr.IsUnspecified():
		return &net.UDPAddr{IP: m.GatewayIPAddr, Port: dhcpv4.ServerPort}
	case p == onPXE && !from.IP.IsUnspecified():
		return from
	case m.ClientIPAddr != nil && !m.ClientIPAddr.IsUnspecified():
		return &net.UDPAddr{IP: m.ClientIPAddr, Port: dhcpv4.ClientPort}
	}
	return &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
}
