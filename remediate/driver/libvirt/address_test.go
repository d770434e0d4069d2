package libvirt

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]address{
		"qemu+unix:///system?name=WS-0001":              {scheme: "qemu", transport: "unix", path: "/system", domain: "WS-0001"},
		"qemu:///session?name=w&socket=/run/s&disk=sdb": {scheme: "qemu", transport: "unix", path: "/session", domain: "w", socket: "/run/s", disk: "sdb"},
		"qemu://hv1.corp.example/WS-0001":               {scheme: "qemu", transport: "tls", host: "hv1.corp.example", path: "/system", domain: "WS-0001"},
		"qemu+tcp://10.1.2.3:5000/system?name=a+b":      {scheme: "qemu", transport: "tcp", host: "10.1.2.3", port: "5000", path: "/system", domain: "a b"},
		"qemu+tls://[fe80::1]/a?pkipath=/etc/pki/x":     {scheme: "qemu", transport: "tls", host: "fe80::1", path: "/system", domain: "a", pki: "/etc/pki/x"},
		"test+unix:///default?name=test":                {scheme: "test", transport: "unix", path: "/default", domain: "test"},
	} {
		if got, err := parseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"WS-0001":                       "is no address of a libvirt domain",
		"qemu:///system":                "names no domain",
		"qemu+ssh://hv1/system?name=a":  "forward its socket with ssh -L",
		"qemu+udp://hv1/system?name=a":  "no transport",
		"qemu+unix://hv1/system?name=a": "a socket is on this machine",
		"qemu+tcp:///system?name=a":     "a socket is on this machine",
		"qemu://hv1/a?name=b":           "names two domains",
		"qemu://root:secret@hv1/a":      "is no address",
		"qemu+unix:///system?name=a#b":  "is no address",
		"://":                           "is no address",
	} {
		if _, err := parseAddress(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
