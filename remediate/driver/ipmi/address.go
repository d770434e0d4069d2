package ipmi

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

const defaultPort = "623"

// parseAddress returns the host:port that the address of a route means.
func parseAddress(s string) (string, error) {
	text := strings.TrimSpace(s)
	bad := func() (string, error) {
		shown := s[strings.LastIndex(s, "@")+1:] // not the credentials before it
		return "", fmt.Errorf("ipmi address %q: want a host name or an IP address, with a port if it is not %s, such as 10.1.2.3", shown, defaultPort)
	}
	if bare := strings.Trim(text, "[]"); net.ParseIP(bare) != nil {
		return net.JoinHostPort(bare, defaultPort), nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, defaultPort
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 || host == "" || strings.ContainsAny(host, "/@:[] \t?#") {
		return bad()
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.Itoa(n)), nil
}
