package redfish

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// An address is where a Redfish service is, and which of its systems is meant.
type address struct {
	host   string // host:port
	system string // path of a system, or empty
}

func (a address) endpoint() string { return "https://" + strings.TrimSuffix(a.host, ":443") }

// parseAddress reads the address of a route: see Driver.
func parseAddress(s string) (address, error) {
	text := strings.TrimSpace(s)
	if !strings.Contains(text, "://") {
		if ip := net.ParseIP(text); ip != nil && ip.To4() == nil {
			text = "[" + text + "]"
		}
		text = "https://" + text
	}
	u, err := url.Parse(text)
	bad := func(want string) (address, error) {
		shown := s[strings.LastIndex(s, "@")+1:] // not the credentials before it
		return address{}, fmt.Errorf("redfish address %q: %s, such as 10.1.2.3 or https://bmc1.example.com", shown, want)
	}
	switch {
	case err != nil || u.Hostname() == "":
		return bad("want a host name or an IP address")
	case u.Scheme != "https":
		return bad("want https, or credentials could be read on the way")
	case u.User != nil:
		return bad("credentials do not belong into an address; want one")
	case u.RawQuery != "" || u.Fragment != "":
		return bad("want one without ? and #")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	a := address{host: net.JoinHostPort(strings.ToLower(u.Hostname()), port)}
	switch path := strings.TrimRight(u.Path, "/"); {
	case path == "" || path == "/redfish" || path == "/redfish/v1":
	case strings.HasPrefix(path, "/redfish/v1/Systems/"):
		a.system = path
	default:
		return bad("the path must be one of a system: /redfish/v1/Systems/ID")
	}
	return a, nil
}
