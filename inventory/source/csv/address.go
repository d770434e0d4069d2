package csv

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"unbrick/inventory"
)

// separates says that c stands between the values of one cell.
func separates(c rune) bool {
	switch c {
	case ' ', ',', ';', '|', '\n', '\r', '\t':
		return true
	}
	return false
}

// setAddress takes one address. Of several, which ConfigMgr writes, it takes the first IPv4
// address, else the first.
func setAddress(r *rows, _ *column, v string) error {
	best := ""
	for a := range strings.FieldsFuncSeq(v, separates) {
		if err := hostPort(a); err != nil {
			return err
		}
		ip, err := netip.ParseAddr(a)
		if best == "" || err == nil && ip.Is4() && !isIPv4(best) {
			best = a
		}
	}
	r.host.Address = best
	return nil
}

// isIPv4 says that s is an IPv4 address.
func isIPv4(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is4()
}

// checkAddress puts aside an address of Windows that is really the BMC's, a common slip of
// exports: a BMC that answers would count as a sign of life.
func (r *rows) checkAddress() {
	if r.host.Address == "" {
		return
	}
	for _, way := range r.host.Routes {
		if way.Driver != "redfish" && way.Driver != "ipmi" || hostOf(way.Address) != hostOf(r.host.Address) {
			continue
		}
		for i := range r.cols {
			if r.cols[i].field == "address" && !isLoopback(r.host.Address) {
				r.aside(&r.cols[i], r.host.Address, "the address of the BMC, not of Windows", "where Windows answers, or nothing")
				r.host.Address = ""
				return
			}
		}
	}
}

// isLoopback says that a host is this machine: in a lab Windows and BMC both answer there.
func isLoopback(a string) bool {
	h := hostOf(a)
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && ip.IsLoopback()
}

// hostOf returns the host of an address or URL in lower case.
func hostOf(a string) string {
	if _, rest, ok := strings.Cut(a, "://"); ok {
		a, _, _ = strings.Cut(rest, "/")
	}
	if h, _, err := net.SplitHostPort(a); err == nil {
		a = h
	}
	return strings.ToLower(strings.Trim(a, "[]"))
}

// route sets a way in, whose driver is the field's name.
func route(check func(string) error) setter { return routeUnless(mayHoldLogin, check) }

// routeUnless sets a way in unless login finds one in its address.
func routeUnless(login func(string) bool, check func(string) error) setter {
	return func(r *rows, c *column, v string) error {
		if err := printable(v); err != nil {
			return err
		}
		if login(v) {
			return &inventory.ValueError{Reason: "holds a user name or password", Want: "the address alone; logins are named in unbrick.yaml by reference"}
		}
		r.host.Routes = append(r.host.Routes, inventory.Route{Driver: c.field, Address: v})
		return check(v)
	}
}

// mayHoldLogin says that an address carries what belongs to a login: "user:password@host" or
// a query. Such a value is not repeated.
func mayHoldLogin(v string) bool {
	at := strings.LastIndexByte(v, '@')
	return at >= 0 && strings.Contains(v[:at], ":") || strings.Contains(v, "://") && strings.ContainsAny(v, "?@")
}

// holdsUser says that an address names a user. What stands in its query is no login.
func holdsUser(v string) bool { return strings.Contains(v, "@") }

// hostOrURL takes "10.0.0.5", "bmc7:8443", "[fe80::1]:443" or an http or https URL.
func hostOrURL(v string) error {
	if !strings.Contains(v, "://") {
		return hostPort(v)
	}
	if bare, ok := strings.CutPrefix(v, "https://"); ok && hostPort(bare) == nil {
		return nil
	}
	bad := &inventory.ValueError{Reason: "not an address", Want: "https://host[:port] or host[:port]"}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || hostPort(u.Host) != nil {
		return bad
	}
	return nil
}

// hostPort takes a name or an IP address, with or without a port.
func hostPort(v string) error {
	bad := &inventory.ValueError{Reason: "not an address", Want: "a name or IP address, with :port if need be"}
	host := v
	switch strings.Count(v, ":") {
	case 0:
	case 1:
		var port string
		host, port, _ = strings.Cut(v, ":")
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return bad
		}
	default: // IPv6, which needs brackets if a port follows
		if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(v, "["), "]")); err == nil {
			return nil
		}
		if ap, err := netip.ParseAddrPort(v); err != nil || ap.Port() == 0 {
			return bad
		}
		return nil
	}
	if looksNumeric(host) {
		if _, err := netip.ParseAddr(host); err != nil { // 10.0.0.256 is no name either
			return bad
		}
		return nil
	}
	if host == "" || len(host) > 253 || host[0] == '-' || host[0] == '.' || strings.Contains(host, "..") ||
		strings.ContainsFunc(host, notInName) {
		return bad
	}
	return nil
}

// notInName says that r stands in no host name. Underscores do, against RFC 952.
func notInName(r rune) bool {
	return r != '-' && r != '.' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

// looksNumeric says that s can only be an IPv4 address, or a slip of one.
func looksNumeric(s string) bool {
	return s != "" && strings.Trim(s, "0123456789.") == ""
}

// powerSwitch takes what switches the host on: its own controller, or one that is named.
func powerSwitch(v string) error {
	kind, address, named := strings.Cut(v, ":")
	switch {
	case v == "auto" || v == "yes":
		return nil
	case named && address != "" && (kind == "redfish" || kind == "ipmi" || kind == "amt"):
		return nil
	}
	return errors.New("not a controller (want auto for the host's own, or one such as ipmi:10.1.2.3)")
}

// anyAddress leaves it to the driver to judge the address.
func anyAddress(string) error { return nil }
