package libvirt

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// An address is where a domain is, as a route has it:
//
//	qemu+unix:///system?name=WS-0001     on this machine; socket=PATH for another socket
//	qemu://hv1.corp.example/WS-0001      by TLS, with the certificates where libvirt has them
//	qemu+tcp://10.1.2.3/system?name=…    plain: for networks that nobody else is on
//
// A domain is named by its name or its UUID; disk=vda says which disk Windows starts from
// where it is not the first.
type address struct {
	scheme, transport string // qemu, and unix, tcp or tls
	host, port        string
	path              string // /system
	socket, pki       string
	domain, disk      string
}

const addressHint = "write qemu+unix:///system?name=DOMAIN or qemu://HYPERVISOR/DOMAIN"

// drivers are the paths of libvirt's own URIs; what else stands there is a domain.
var drivers = []string{"system", "session", "default"}

func parseAddress(text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return address{}, fmt.Errorf("%q is no address of a libvirt domain\n%s", text, addressHint)
	}
	q := u.Query()
	a := address{
		host: u.Hostname(), port: u.Port(), path: "/system",
		socket: q.Get("socket"), pki: q.Get("pkipath"), domain: q.Get("name"), disk: q.Get("disk"),
	}
	a.scheme, a.transport, _ = strings.Cut(u.Scheme, "+")
	if a.transport == "" {
		a.transport = "unix"
		if a.host != "" {
			a.transport = "tls"
		}
	}
	if rest := strings.Trim(u.Path, "/"); slices.Contains(drivers, rest) {
		a.path = "/" + rest
	} else if rest != "" && a.domain == "" {
		a.domain = rest
	} else if rest != "" {
		return address{}, fmt.Errorf("%q names two domains\n%s", text, addressHint)
	}
	return a, a.check(text)
}

func (a address) check(text string) error {
	switch {
	case a.transport == "ssh" || a.transport == "libssh" || a.transport == "libssh2":
		return fmt.Errorf("%q: unbrick does not reach libvirt by SSH\nforward its socket with ssh -L, and write qemu+unix:///system?socket=PATH&name=DOMAIN", text)
	case a.transport != "unix" && a.transport != "tcp" && a.transport != "tls":
		return fmt.Errorf("%q: no transport %q\n%s", text, a.transport, addressHint)
	case a.domain == "":
		return fmt.Errorf("%q names no domain\n%s", text, addressHint)
	case (a.transport == "unix") != (a.host == ""):
		return fmt.Errorf("%q: a socket is on this machine, and every other transport needs a hypervisor\n%s", text, addressHint)
	}
	return nil
}

// uri is what the daemon at the other end is asked for: it is local there.
func (a address) uri() string { return a.scheme + "://" + a.path }
