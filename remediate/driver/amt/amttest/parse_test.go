package amttest

import (
	"strings"
	"testing"
)

// FuzzParams: what is read is as much as was counted, and nothing makes it panic.
func FuzzParams(f *testing.F) {
	f.Add([]byte{0x86, 0x80, 1, 0, 3, 0, 0, 0, 'a', 'b', 'c', 0x86, 0x80, 20, 0, 1, 0, 0, 0, 1})
	f.Add([]byte{0x86, 0x80, 1, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		size, n := 0, 0
		count, err := parseParams(raw, func(_ int, value []byte) { size += 8 + len(value); n++ })
		if n != count || err == nil && size != len(raw) {
			t.Errorf("%d of %d parameters, %d of %d bytes: %v", n, count, size, len(raw), err)
		}
	})
}

// FuzzDigest: names and values come from the header, and nothing makes it panic.
func FuzzDigest(f *testing.F) {
	f.Add(`username="admin",realm="Digest:00",nonce="1",uri="/wsman",response="00",qop="auth",nc="00000001",cnonce="a"`)
	f.Add(`qop=auth, nc=00000001 , a="`)
	f.Fuzz(func(t *testing.T, header string) {
		for name, value := range parseDigest(header) {
			if !strings.Contains(strings.ToLower(header), name) || !strings.Contains(header, value) {
				t.Errorf("%q=%q is not in %q", name, value, header)
			}
		}
	})
}
