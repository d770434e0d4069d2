package redfish

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]address{
		"10.1.2.3":                      {host: "10.1.2.3:443"},
		" bmc1.example.com ":            {host: "bmc1.example.com:443"},
		"BMC1:8443":                     {host: "bmc1:8443"},
		"https://10.1.2.3/":             {host: "10.1.2.3:443"},
		"https://10.1.2.3/redfish/v1/":  {host: "10.1.2.3:443"},
		"fe80::1":                       {host: "[fe80::1]:443"},
		"[fe80::1]:8443":                {host: "[fe80::1]:8443"},
		"c/redfish/v1/Systems/Blade-3/": {host: "c:443", system: "/redfish/v1/Systems/Blade-3"},
		"":                              {},
		"http://10.1.2.3":               {},
		"https://root:calvin@10.1.2.3":  {},
		"10.1.2.3/login":                {},
		"10.1.2.3?x=1":                  {},
		"10.1.2.3:port":                 {},
	} {
		got, err := parseAddress(text)
		if got != want || (err != nil) != (want == address{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "calvin") {
			t.Errorf("a password is in the error: %v", err)
		}
	}
}

// FuzzParseAddress: what parses, parses to the same when written as a URL.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"10.1.2.3", "bmc:1", "https://a/redfish/v1/Systems/1", "::1", "[::1]:5", "%", "a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddress(s)
		if err != nil {
			return
		}
		b, err := parseAddress(a.endpoint() + a.system)
		if err != nil || a != b {
			t.Errorf("%q is %+v; that is %+v, %v", s, a, b, err)
		}
	})
}
