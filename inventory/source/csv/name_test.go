package csv

import (
	"testing"

	"unbrick/inventory"
)

// FuzzPlainName: a name that is taken without a closer look is what the closer look would return.
func FuzzPlainName(f *testing.F) {
	for _, s := range []string{"", "PC-1", "-PC", "pc.corp", "PC 1", "PC_1", "Ä", "a/b", "\x00", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if name, err := inventory.ParseName(s); plainName(s) && (err != nil || name != s) {
			t.Errorf("%q is taken; it is %q (%v)", s, name, err)
		}
	})
}
