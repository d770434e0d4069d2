package ipmi_test

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"unbrick/remediate/driver/ipmi"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3": "10.1.2.3:623", " BMC1.example.com ": "bmc1.example.com:623", "10.1.2.3:9623": "10.1.2.3:9623",
		"2001:db8::1": "[2001:db8::1]:623", "[2001:db8::1]": "[2001:db8::1]:623", "[2001:db8::1]:9623": "",
	} {
		got, err := ipmi.ParseAddress(in)
		if want == "" {
			want = in
		}
		if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// FuzzParseAddress: what is taken is a host and a port that can be dialled, means the same
// when it is read again, and holds no credentials.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"10.1.2.3", "[::1]:623", "::1", "bmc:1", "a@b", "a:b:c", "[]", "[10.0.0.1]:5", ":623"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ipmi.ParseAddress(s)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(a)
		n, _ := strconv.Atoi(port)
		if err != nil || host == "" || n < 1 || n > 65535 || strings.Contains(a, "@") {
			t.Errorf("%q became %q", s, a)
		}
		if again, err := ipmi.ParseAddress(a); err != nil || again != a {
			t.Errorf("%q became %q, and that %q, %v", s, a, again, err)
		}
	})
}
