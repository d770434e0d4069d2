// Package ports holds ports of loopback for those who listen later: a run that a lab is written
// for, a server of another project's. A port that was only found free is anybody's until then.
package ports

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
)

// A Port of 127.0.0.1 is given to nobody else by this package, in any process, until it is closed.
type Port struct {
	Number int
	lock   io.Closer
}

// TCP holds a port that nobody listens on. Its lock is the UDP port of the same number.
func TCP() (*Port, error) { return hold(udp, tcp) }

// UDP holds a port that nobody has. Its lock is the TCP port of the same number.
func UDP() (*Port, error) { return hold(tcp, udp) }

// ForTest is TCP or UDP until the test ends.
func ForTest(t testing.TB, hold func() (*Port, error)) *Port {
	t.Helper()
	p, err := hold()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// Address returns 127.0.0.1 and the port.
func (p *Port) Address() string { return address(p.Number) }

// Close gives the port back. Who listens on it goes on.
func (p *Port) Close() error { return p.lock.Close() }

func hold(lock, use func(string) (io.Closer, error)) (*Port, error) {
	var err error
	low, high := outside()
	for range 100 {
		n := low + rand.IntN(high-low)
		var held, tried io.Closer
		if held, err = lock(address(n)); err != nil {
			continue
		}
		if tried, err = use(address(n)); err != nil {
			held.Close()
			continue
		}
		return &Port{n, held}, tried.Close()
	}
	return nil, fmt.Errorf("cannot find a port on loopback: none of 100 was free, the last: %w", err)
}

func tcp(address string) (io.Closer, error) { return net.Listen("tcp", address) }
func udp(address string) (io.Closer, error) { return net.ListenPacket("udp", address) }

func address(n int) string { return fmt.Sprintf("127.0.0.1:%d", n) }

// outside returns a range of ports, low ≤ n < high, that the system gives to nobody by itself: not
// to those who listen on port 0, and not to connections. It is below the system's own range
// (ip-sysctl.rst of Linux: ip_local_port_range), or above it where that begins too low.
func outside() (low, high int) {
	const first, enough = 10_000, 2_000
	from, to := 32_768, 60_999 // as Linux has it; other systems begin later
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		fmt.Sscan(string(b), &from, &to)
	}
	switch {
	case from-first >= enough:
		return first, from
	case 65_535-to >= enough:
		return to + 1, 65_536
	}
	return first, 65_536
}
