package netboot

import (
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Answer is what the server says to a packet, and where to, if anything.
func (s *Server) Answer(pxe bool, m *dhcpv4.DHCPv4, from *net.UDPAddr) (*dhcpv4.DHCPv4, *net.UDPAddr) {
	p := onDHCP
	if pxe {
		p = onPXE
	}
	r := s.answer(p, m)
	if r == nil {
		return nil, nil
	}
	return r, replyTo(p, m, from)
}

// Addresses of the ports that tests ask at, and of what is on the web.
func (s *Server) PXEAddr() *net.UDPAddr  { return s.conns[1].LocalAddr().(*net.UDPAddr) }
func (s *Server) TFTPAddr() *net.UDPAddr { return s.conns[2].LocalAddr().(*net.UDPAddr) }
func (s *Server) Web() string            { return s.web }

// Tie makes an address that of a host.
func (s *Server) Tie(mac, ip string) {
	hw, _ := net.ParseMAC(mac)
	if err := s.hosts.tie(hw, net.ParseIP(ip)); err != nil {
		panic(err)
	}
}

var FileName = fileName

// ParseRequest reads a TFTP request, and returns its name and how its file would be sent.
func ParseRequest(p []byte, size int) (name string, block, window int, ok bool) {
	r, ok := parseRequest(p)
	t := agree(r, size, 0)
	return r.name, t.block, t.window, ok
}
