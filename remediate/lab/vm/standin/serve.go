//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// serve brings the network up and answers on port 5985 as HTTP.SYS does. It returns only
// with an error.
func serve() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	addr, err := network(ctx)
	if err != nil {
		return fmt.Errorf("cannot bring the network up: %w", err)
	}
	ln, err := net.Listen("tcp", ":5985")
	if err != nil {
		return err
	}
	say("up: " + addr + " answers on port 5985")
	return http.Serve(ln, http.HandlerFunc(wsman))
}

// wsman answers as the WinRM listener of a Windows host does to a stranger.
func wsman(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "Microsoft-HTTPAPI/2.0")
	switch {
	case r.URL.Path != "/wsman":
		w.WriteHeader(http.StatusNotFound)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		w.Header().Set("WWW-Authenticate", "Negotiate")
		w.WriteHeader(http.StatusUnauthorized)
	}
}

// network asks for an address on the first Ethernet interface, sets it, and returns it.
func network(ctx context.Context) (string, error) {
	link, err := ethernet()
	if err != nil {
		return "", err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return "", err
	}
	client, err := nclient4.New(link.Attrs().Name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(20))
	if err != nil {
		return "", err
	}
	defer client.Close()
	lease, err := client.Request(ctx)
	if err != nil {
		return "", fmt.Errorf("no answer to DHCP: %w", err)
	}
	addr := &net.IPNet{IP: lease.ACK.YourIPAddr, Mask: lease.ACK.SubnetMask()}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: addr}); err != nil {
		return "", err
	}
	if gw := lease.ACK.Router(); len(gw) > 0 {
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw[0]}); err != nil {
			return "", err
		}
	}
	return addr.String(), nil
}

// ethernet returns the first interface that is not the loopback.
func ethernet() (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if a := l.Attrs(); a.Flags&net.FlagLoopback == 0 && len(a.HardwareAddr) == 6 {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no network interface among %d", len(links))
}
