package gce_test

import (
	"strings"
	"testing"

	"unbrick/remediate/driver/gce"
)

// What an address is read as is read as itself, and has nothing in it that a path of the API
// could be led astray with.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"corp-prod/europe-west1-b/ws1", "example.com:p/z/1234", "https://x/projects/p/zones/z/instances/i", "a/../b", "a/b/c?d", "//"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		is, err := gce.ParseAddress(text)
		if err != nil {
			return
		}
		if again, err := gce.ParseAddress(is); err != nil || again != is {
			t.Errorf("%q is %q, which is %q, %v", text, is, again, err)
		}
		if strings.Count(is, "/") != 2 || strings.ContainsAny(is, "?#% \n") || strings.HasPrefix(is, ".") || strings.Contains(is, "/.") {
			t.Errorf("%q is %q", text, is)
		}
	})
}
