package amt

import (
	"net"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]address{
		"10.1.2.3":                        {"10.1.2.3", "10.1.2.3:16993", false},
		"Desk1.example.com:443":           {"desk1.example.com", "desk1.example.com:443", false},
		"https://10.1.2.3/winre":          {"10.1.2.3", "10.1.2.3:16993", true},
		"https://10.1.2.3:16993/wsman/":   {"10.1.2.3", "10.1.2.3:16993", false},
		"fe80::1":                         {"fe80::1", "[fe80::1]:16993", false},
		"https://[2001:db8::1]:443/winre": {"2001:db8::1", "[2001:db8::1]:443", true},
	} {
		if got, err := parseAddress(in); got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "http://10.1.2.3", "10.1.2.3:16992", "https://admin:secret@10.1.2.3", "https://10.1.2.3?a=b", "10.1.2.3/bios", "https://", "]", "10.1.2.3:99999"} {
		if got, err := parseAddress(in); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
}

// FuzzParseAddress: what is taken can be dialled, and is taken again.
func FuzzParseAddress(f *testing.F) {
	f.Add("https://[2001:db8::1]:443/winre")
	f.Add("10.1.2.3")
	f.Add("]")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := parseAddress(in)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(a.host)
		if err != nil || host != a.name || port == "" {
			t.Errorf("%q: %+v: %v", in, a, err)
		}
	})
}
