package winrm

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// An address is where a host's WinRM service listens.
type address struct {
	host string // host:port
	name string // host
	tls  bool
}

func (a address) url() string {
	if a.tls {
		return "https://" + a.host + "/wsman"
	}
	return "http://" + a.host + "/wsman"
}

// Default ports of WinRM.
const (
	portHTTP  = "5985"
	portHTTPS = "5986"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$`)

// CheckAddress says what is wrong with an address, without connecting to it.
func CheckAddress(text string) error {
	_, err := parseAddress(text)
	return err
}

func parseAddress(text string) (address, error) {
	bad := func(why string) (address, error) {
		return address{}, fmt.Errorf("cannot use WinRM address %q: %s. Write a host name or IP address, host:port, https://host:port, or http://host:port for NTLM", text, why)
	}
	a := address{tls: true}
	rest, port := strings.TrimSpace(text), ""
	if scheme, tail, ok := strings.Cut(rest, "://"); ok {
		a.tls = strings.EqualFold(scheme, "https")
		if !a.tls && !strings.EqualFold(scheme, "http") {
			return bad("its scheme is neither https nor http")
		}
		u, err := url.Parse(rest)
		if err != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return bad("it is not a plain URL")
		}
		if path := strings.Trim(u.Path, "/"); path != "" && path != "wsman" {
			return bad("it has a path")
		}
		rest = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(tail, "/"), "/wsman"), "/")
		port = map[bool]string{true: portHTTPS, false: portHTTP}[a.tls]
	}
	explicit := port != ""
	host, p, err := net.SplitHostPort(rest)
	switch {
	case err == nil:
		port = p
	case net.ParseIP(strings.Trim(rest, "[]")) != nil || !strings.Contains(rest, ":"):
		host = strings.Trim(rest, "[]")
	default:
		return bad("it has no port after its last colon")
	}
	if port == portHTTP && !explicit {
		a.tls = false
	}
	if port == "" {
		port = portHTTPS
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("its port is no number from 1 to 65535")
	}
	if net.ParseIP(host) == nil && !hostName.MatchString(host) {
		return bad("it has no host name and no IP address")
	}
	a.name, a.host = host, net.JoinHostPort(host, port)
	return a, nil
}
