package rescue

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

func listen(ctx context.Context, lc *net.ListenConfig, whom, addr string) (net.Listener, error) {
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for %s on %s: %w; stop what has the port, or choose another address", whom, addr, err)
	}
	return l, nil
}

// setURLs completes how hosts reach the two listeners, and refuses what a host could not use.
func (s *Server) setURLs(agents, images net.Listener) (err error) {
	if s.cfg.AgentURL, err = publicURL("https", s.cfg.AgentURL, agents.Addr().(*net.TCPAddr)); err != nil {
		return err
	}
	s.cfg.ImageURL, err = publicURL("http", s.cfg.ImageURL, images.Addr().(*net.TCPAddr))
	return err
}

func publicURL(scheme, given string, addr *net.TCPAddr) (string, error) {
	if given != "" {
		u, err := url.Parse(given)
		if err != nil || u.Scheme != scheme || u.Host == "" || u.RawQuery != "" || u.User != nil {
			return "", fmt.Errorf("%q is not where hosts can reach the rescue server; write %s://ADDRESS:PORT", given, scheme)
		}
		return strings.TrimSuffix(given, "/"), nil
	}
	host := addr.IP
	if host.IsUnspecified() {
		if host = routeIP(); host == nil {
			return "", errors.New("cannot tell by which address hosts reach this machine; give the rescue server's URL")
		}
	}
	return scheme + "://" + net.JoinHostPort(host.String(), strconv.Itoa(addr.Port)), nil
}

// routeIP is this machine's address on its default route, or nil. Nothing is sent: connecting
// a UDP socket only asks for the route. The address is one reserved for documentation.
func routeIP() net.IP {
	c, err := net.Dial("udp", "192.0.2.1:9")
	if err != nil {
		return nil
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).IP
}
