package netboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// address returns by which address hosts reach this machine.
func (cfg Config) address() (net.IP, error) {
	if cfg.Address != "" {
		ip := net.ParseIP(cfg.Address).To4()
		if ip == nil || ip.IsUnspecified() {
			return nil, fmt.Errorf("%q is not an IPv4 address by which hosts reach this machine", cfg.Address)
		}
		return ip, nil
	}
	if cfg.Interface != "" {
		return interfaceIP(cfg.Interface)
	}
	// Nothing is sent: connecting a UDP socket only asks for the route. The address is one
	// reserved for documentation.
	c, err := net.Dial("udp4", "192.0.2.1:9")
	if err != nil {
		return nil, errors.New("cannot tell by which address hosts reach this machine: it has no default route; name the network card or the address for network boot")
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP.To4(), nil
}

func interfaceIP(name string) (net.IP, error) {
	card, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("cannot use the network card %s for network boot: %w", name, err)
	}
	addrs, err := card.Addrs()
	if err != nil {
		return nil, fmt.Errorf("cannot use the network card %s for network boot: %w", name, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.To4(), nil
		}
	}
	return nil, fmt.Errorf("the network card %s has no IPv4 address: network boot needs one", name)
}

// maskOf returns the mask of the network that this machine has an address in, or nil.
func maskOf(ip net.IP) net.IPMask {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.Equal(ip) {
			return net.IPMask(net.IP(n.Mask).To4())
		}
	}
	return nil
}

// listen opens all ports, and begins to answer when all are open.
func (s *Server) listen(ctx context.Context) error {
	var ports [2]*net.UDPConn
	for i, addr := range []string{s.cfg.DHCP, s.cfg.PXE} {
		c, err := s.listenDHCP(addr)
		if err != nil {
			return cannotListen("DHCP", addr, err)
		}
		ports[i], s.conns = c, append(s.conns, c)
	}
	var lc net.ListenConfig
	tftp, err := lc.ListenPacket(ctx, "udp4", s.cfg.TFTP)
	if err != nil {
		return cannotListen("TFTP", s.cfg.TFTP, err)
	}
	s.conns = append(s.conns, tftp)
	web, err := lc.Listen(ctx, "tcp4", s.cfg.HTTP)
	if err != nil {
		return cannotListen("HTTP", s.cfg.HTTP, err)
	}
	port := strconv.Itoa(web.Addr().(*net.TCPAddr).Port)
	s.web = "http://" + net.JoinHostPort(s.ip.String(), port) + "/"
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serveHTTP), ReadHeaderTimeout: 15 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.wg.Go(func() { s.serveDHCP(ports[0], onDHCP) })
	s.wg.Go(func() { s.serveDHCP(ports[1], onPXE) })
	s.wg.Go(func() { s.serveTFTP(tftp) })
	s.wg.Go(func() { _ = s.http.Serve(web) })
	return nil
}

// listenDHCP opens a port that hears broadcasts of one network card, and may send them. On
// Linux the site's own DHCP server may have the same port on this machine.
func (s *Server) listenDHCP(addr string) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr("udp4", addr)
	if err != nil {
		return nil, err
	}
	return server4.NewIPv4UDPConn(s.cfg.Interface, a)
}

// ErrTaken means that another process has a port of network boot.
var ErrTaken = errors.New("another process has that port")

func cannotListen(what, addr string, err error) error {
	err = fmt.Errorf("cannot listen for %s on %s: %w", what, addr, err)
	if text := err.Error(); strings.Contains(text, "address already in use") || strings.Contains(text, "Only one usage of each socket address") {
		return fmt.Errorf("%w: %w", err, ErrTaken)
	}
	// The DHCP library does not wrap what the system said.
	if text := err.Error(); strings.Contains(text, "permission denied") || strings.Contains(text, "not permitted") {
		return fmt.Errorf("%w\nnetwork boot needs ports below 1024: run as root, or once: setcap cap_net_bind_service,cap_net_raw+ep unbrick", err)
	}
	return err
}
