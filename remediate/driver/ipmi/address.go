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
	host, port, err := net.SplitHostPort(text)
	if err != nil { // no port, or an IPv6 address without brackets
		host, port = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), defaultPort
	}
	n, err := strconv.Atoi(port)
	name := host != "" && !strings.ContainsAny(host, "/@:[] \t\r\n?#%")
	if err != nil || n < 1 || n > 65535 || !name && net.ParseIP(host) == nil {
		shown := s[strings.LastIndex(s, "@")+1:] // not the credentials before it
		return "", fmt.Errorf("ipmi address %q: want a host name or an IP address, with a port if it is not %s, such as 10.1.2.3", shown, defaultPort)
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.Itoa(n)), nil
}
