package amt

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// An address is where AMT is, and what it boots.
type address struct {
	name  string // host name or IP address
	host  string // host:port
	winre bool
}

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
		return address{}, fmt.Errorf("amt address %q: %s, such as 10.1.2.3 or https://10.1.2.3/winre", shown, want)
	}
	switch {
	case err != nil || u.Hostname() == "" || strings.ContainsAny(u.Hostname(), "[] @/\\"):
		return bad("want a host name or an IP address")
	case u.Scheme != "https" || u.Port() == "16992":
		return bad("want https (port 16993): without TLS anybody on the way could read and change what is said")
	case u.User != nil:
		return bad("credentials do not belong into an address; want one")
	case u.RawQuery != "" || u.Fragment != "":
		return bad("want one without ? and #")
	}
	port := u.Port()
	if port == "" {
		port = "16993"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return bad("want a port between 1 and 65535")
	}
	a := address{name: strings.ToLower(u.Hostname())}
	a.host = net.JoinHostPort(a.name, port)
	switch strings.TrimRight(u.Path, "/") {
	case "", "/wsman":
	case "/winre":
		a.winre = true
	default:
		return bad("want no path but /winre")
	}
	return a, nil
}
