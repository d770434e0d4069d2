package windows

import (
	"encoding/hex"
	"reflect"
	"testing"
	"unicode/utf8"

	"unbrick/remediate/rescue/wire"
)

// table is what GetSystemFirmwareTable returns: a BIOS structure, then the system's.
func table(major, minor byte, system string) []byte {
	body := []byte{0, 5, 0, 0, 1}
	body = append(body, "Some BIOS\x00\x00"...)
	body = append(body, system...)
	body = append(body, 127, 4, 0, 0, 0, 0)
	return append([]byte{0, major, minor, 0, byte(len(body)), 0, 0, 0}, body...)
}

const (
	uuidBytes = "\x44\x45\x4c\x4c\x42\x00\x10\x35\x80\x52\xb4\xc0\x4f\x4e\x31\x32"
	dell      = "\x01\x1b\x00\x01\x01\x02\x00\x03" + uuidBytes + "\x06\x00\x00Dell Inc.\x00Latitude\x00 5FBNA12 \x00\x00"
	bare      = "\x01\x08\x00\x01\x00\x00\x00\x00\x00\x00" // SMBIOS 2.0, no strings
	unset     = "\x01\x1b\x00\x01\x00\x00\x00\x09\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x06\x00\x00\x00\x00"
)

func TestSMBIOS(t *testing.T) {
	for name, c := range map[string]struct {
		raw  []byte
		want wire.Identity
		ok   bool
	}{
		"since 2.6":  {table(2, 6, dell), wire.Identity{Vendor: "Dell Inc.", Product: "Latitude", Serial: "5FBNA12", UUID: "4c4c4544-0042-3510-8052-b4c04f4e3132"}, true},
		"3.0":        {table(3, 0, dell), wire.Identity{Vendor: "Dell Inc.", Product: "Latitude", Serial: "5FBNA12", UUID: "4c4c4544-0042-3510-8052-b4c04f4e3132"}, true},
		"before 2.6": {table(2, 4, dell), wire.Identity{Vendor: "Dell Inc.", Product: "Latitude", Serial: "5FBNA12", UUID: "44454c4c-4200-1035-8052-b4c04f4e3132"}, true},
		"bare":       {table(2, 0, bare), wire.Identity{}, true},
		"not set":    {table(2, 6, unset), wire.Identity{}, true},
		"none":       {table(2, 6, ""), wire.Identity{}, false},
		"nothing":    {nil, wire.Identity{}, false},
	} {
		got, err := parseSMBIOS(c.raw)
		if !reflect.DeepEqual(got, c.want) || (err == nil) != c.ok {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// Law: any bytes give an identity that JSON can carry, or an error, and never both.
func FuzzSMBIOS(f *testing.F) {
	for _, s := range []string{dell, bare, unset, ""} {
		f.Add(table(2, 6, s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, err := parseSMBIOS(raw)
		if err != nil && !reflect.DeepEqual(id, wire.Identity{}) {
			t.Errorf("%v, and %+v", err, id)
		}
		for _, s := range []string{id.Vendor, id.Product, id.Serial, id.UUID} {
			if !utf8.ValidString(s) {
				t.Errorf("%s is no text", hex.EncodeToString([]byte(s)))
			}
		}
	})
}
