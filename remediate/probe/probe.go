// Package probe looks for signs of life of Windows over the network.
//
// That a connection is accepted proves nothing: a NAT, a firewall or an emulator accepts for
// hosts that are off. Each probe asks something in the protocol of a service of Windows, and
// only an answer in that protocol counts. Whether it is this host that answers is beyond it:
// nothing here authenticates anybody.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"unbrick/inventory"
)

// DefaultTimeout is how long a probe waits for an answer: much longer than any Windows that is
// up takes, on any line.
const DefaultTimeout = 3 * time.Second

// Options change how a Prober looks.
type Options struct {
	Timeout time.Duration // of one look at one host; 0 means DefaultTimeout
	// Dial connects; nil means the network of this process.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Prober implements remediate.Prober. It asks WinRM, SMB and RDP, all at once; the first
// answer decides.
type Prober struct{ opt Options }

// New returns a Prober.
func New(opt Options) *Prober {
	if opt.Timeout <= 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.Dial == nil {
		opt.Dial = new(net.Dialer).DialContext
	}
	return &Prober{opt}
}

// A BlindError says that nobody could look: what it says of the host is nothing.
type BlindError struct {
	Host string // the address that was to be looked at
	Err  error
}

// Error says why, and what to do about a name that has no address.
func (e *BlindError) Error() string {
	hint := ""
	if dns := (*net.DNSError)(nil); errors.As(e.Err, &dns) && dns.IsNotFound {
		hint = "; give the host an address in the inventory"
	}
	return fmt.Sprintf("cannot look for signs of life of %s: %v%s", e.Host, e.Err, hint)
}

func (e *BlindError) Unwrap() error { return e.Err }

// A service is one way Windows answers.
type service struct {
	name string
	port string
	ask  func(c net.Conn, host string) (detail string, err error)
}

// services lists what Windows listens on. A port that is none of these is spoken to as WinRM.
var services = [...]service{
	{"WinRM", "5985", askHTTP},
	{"WinRM", "5986", askHTTPS},
	{"SMB", "445", askSMB},
	{"RDP", "3389", askRDP},
}

// Probe returns what shows that Windows is up at h.Address, or at h.Name if that is empty:
// "WinRM answered at 10.1.2.3:5985 (Microsoft-HTTPAPI/2.0)". It returns the empty string if
// nothing answers as Windows does, be it refused, silent or garbage. It fails with a
// *[BlindError] if it could not look at any port: the name is not known, or this process has
// no network.
func (p *Prober) Probe(ctx context.Context, h inventory.Host) (evidence string, err error) {
	host, asked, err := targets(h)
	if err != nil {
		return "", &BlindError{host, err}
	}
	look, cancel := context.WithTimeout(ctx, p.opt.Timeout)
	defer cancel()
	type answer struct {
		evidence string
		err      error
	}
	answers := make(chan answer)
	for _, s := range asked {
		go func() {
			evidence, err := p.ask(look, s, host)
			answers <- answer{evidence, err}
		}()
	}
	var blind error
	looked := false
	for range asked {
		a := <-answers
		switch {
		case a.err == nil && evidence == "":
			evidence = a.evidence
			cancel() // the others end at once
		case isBlind(a.err):
			blind = a.err
		default:
			looked = true
		}
	}
	switch {
	case evidence != "":
		return evidence, nil
	case ctx.Err() != nil: // the caller's patience, not the host's silence
		return "", &BlindError{host, context.Cause(ctx)}
	case !looked:
		return "", &BlindError{host, blind}
	}
	return "", nil
}

const notAddress = "%q is not an address; it is a name or an IP address, with :port if it is not a standard one"

// targets returns the host to connect to and the services to ask.
func targets(h inventory.Host) (host string, asked []service, err error) {
	address := h.Address
	if address == "" {
		address = h.Name
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		// No port, then: a name, or an IPv6 address with or without brackets.
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
		if host == "" || strings.ContainsAny(host, "/[] ") {
			return address, nil, fmt.Errorf(notAddress, address)
		}
		return host, services[:], nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ ") {
		return address, nil, fmt.Errorf(notAddress, address)
	}
	for _, s := range services {
		if s.port == port {
			return host, []service{s}, nil
		}
	}
	return host, []service{{"WinRM", port, askHTTP}}, nil
}

// ask connects and asks, and returns the evidence or why there is none.
func (p *Prober) ask(ctx context.Context, s service, host string) (evidence string, err error) {
	c, err := p.opt.Dial(ctx, "tcp", net.JoinHostPort(host, s.port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	// Closing is what makes a silent host's reader return when the context ends.
	defer context.AfterFunc(ctx, func() { c.Close() })()
	detail, err := s.ask(c, host)
	if err != nil {
		return "", err
	}
	if detail != "" {
		detail = " (" + detail + ")"
	}
	return fmt.Sprintf("%s answered at %s%s", s.name, c.RemoteAddr(), detail), nil
}

// isBlind says whether a connection failed before anything was asked of the host. All other
// failures are the silence of a host that is down.
func isBlind(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENETUNREACH)
}
