package linux

import (
	"slices"
	"strings"
	"testing"
)

// page83 makes a device identification page of designators.
func page83(designators ...string) []byte {
	all := strings.Join(designators, "")
	return append([]byte{0, 0x83, byte(len(all) >> 8), byte(len(all))}, all...)
}

func TestVendorNames(t *testing.T) {
	google := "\x02\x00\x00\x14unbrick-cafecafecafe"
	for name, c := range map[string]struct {
		page []byte
		want []string
	}{
		"google":          {page83(google), []string{"unbrick-cafecafecafe"}},
		"others before":   {page83("\x01\x03\x00\x08\x50\x00\xc5\x00\x01\x02\x03\x04", "\x02\x01\x00\x05ATA x", google), []string{"unbrick-cafecafecafe"}},
		"of the port":     {page83("\x02\x10\x00\x04port"), nil},
		"binary":          {page83("\x01\x00\x00\x04unit"), nil},
		"cut off":         {page83(google)[:20], nil},
		"another page":    {[]byte("\x00\x80\x00\x04abcd"), nil},
		"nothing":         {nil, nil},
		"not one word":    {page83("\x02\x00\x00\x05a b c"), nil},
		"padded with NUL": {page83("\x02\x00\x00\x06abcd\x00\x00"), []string{"abcd"}},
	} {
		if got := vendorNames(c.page); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Every name is in the page, is one word, and could be printed.
func FuzzVendorNames(f *testing.F) {
	f.Add(page83("\x02\x00\x00\x14unbrick-cafecafecafe"))
	f.Add([]byte("\x00\x83\xff\xff\x02\x00\x00\xff"))
	f.Fuzz(func(t *testing.T, page []byte) {
		for _, n := range vendorNames(page) {
			if n == "" || printable(n) != n || !strings.Contains(string(page), n) {
				t.Errorf("%q of %q", n, page)
			}
		}
	})
}
