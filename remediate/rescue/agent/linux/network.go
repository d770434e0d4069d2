//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

const (
	carrierLimit = 10 * time.Second // a switch port may take its time
	leaseLimit   = 20 * time.Second
	dialLimit    = 5 * time.Second
)

// A lease is what DHCP gave to one network card.
type lease struct {
	card netlink.Link
	ack  *dhcpv4.DHCPv4
	err  error
}

// connect asks for an address on every network card with a link, and stays with the first
// through which the server answers: hosts have cards on several networks, and not all lead
// there. If none does it stays with the last that has an address, since the server may only
// be slow to come; without any address it is an error.
func connect(ctx context.Context, server string, log *slog.Logger) error {
	cards, err := networkCards()
	if err != nil {
		return err
	}
	leases := make(chan lease, len(cards))
	for _, card := range cards {
		go func() { leases <- request(ctx, card) }()
	}
	address := hostPort(server)
	var errs []error
	var have bool
	for range cards {
		l := <-leases
		if l.err == nil {
			l.err = l.apply()
		}
		if l.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", l.card.Attrs().Name, l.err))
			continue
		}
		have = true
		log.Info(l.String(), "phase", "network")
		c, err := net.DialTimeout("tcp", address, dialLimit)
		if err == nil {
			return c.Close()
		}
		log.Info(fmt.Sprintf("%s: the server does not answer: %v", l.card.Attrs().Name, err), "phase", "network")
	}
	if have {
		return nil
	}
	return fmt.Errorf("cannot get a network address: %w", errors.Join(append(errs, fmt.Errorf("%d network cards", len(cards)))...))
}

// hostPort is what to dial for a URL.
func hostPort(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// networkCards returns the real network cards, switched on, and switches loopback on.
func networkCards() ([]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list the network cards: %w", err)
	}
	var cards []netlink.Link
	for _, l := range links {
		name := l.Attrs().Name
		_, err := os.Stat(filepath.Join("/sys/class/net", name, "device"))
		if real := err == nil; !real && l.Attrs().Flags&net.FlagLoopback == 0 {
			continue
		}
		if err := netlink.LinkSetUp(l); err == nil && l.Attrs().Flags&net.FlagLoopback == 0 {
			cards = append(cards, l)
		}
	}
	return cards, nil
}

// request waits for the link of a card and asks for an address.
func request(ctx context.Context, card netlink.Link) lease {
	name := card.Attrs().Name
	carrier := filepath.Join("/sys/class/net", name, "carrier")
	for deadline := time.Now().Add(carrierLimit); ; {
		if b, err := os.ReadFile(carrier); err == nil && strings.TrimSpace(string(b)) == "1" {
			break
		}
		if time.Now().After(deadline) {
			return lease{card: card, err: errors.New("no link")}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return lease{card: card, err: err}
		}
	}
	c, err := nclient4.New(name, nclient4.WithTimeout(2*time.Second), nclient4.WithRetry(5))
	if err != nil {
		return lease{card: card, err: err}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, leaseLimit)
	defer cancel()
	l, err := c.Request(ctx)
	if err != nil {
		return lease{card: card, err: fmt.Errorf("no answer to DHCP: %w", err)}
	}
	return lease{card: card, ack: l.ACK}
}

// apply gives the card its address, and the host the lease's route and name servers. Leases
// outlast a repair, so none is renewed.
func (l lease) apply() error {
	address := &net.IPNet{IP: l.ack.YourIPAddr, Mask: l.ack.SubnetMask()}
	if address.Mask == nil {
		address.Mask = l.ack.YourIPAddr.DefaultMask()
	}
	if err := netlink.AddrReplace(l.card, &netlink.Addr{IPNet: address}); err != nil {
		return fmt.Errorf("cannot set the address %s: %w", address, err)
	}
	if routers := l.ack.Router(); len(routers) > 0 {
		all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.card.Attrs().Index, Dst: all, Gw: routers[0]}); err != nil {
			return fmt.Errorf("cannot set the route by %s: %w", routers[0], err)
		}
	}
	var names strings.Builder
	for _, ip := range l.ack.DNS() {
		fmt.Fprintf(&names, "nameserver %s\n", ip)
	}
	return os.WriteFile("/etc/resolv.conf", []byte(names.String()), 0o644)
}

func (l lease) String() string {
	return fmt.Sprintf("%s: %s by %v, names from %v", l.card.Attrs().Name, l.ack.YourIPAddr, l.ack.Router(), l.ack.DNS())
}
