package rescue

import (
	"fmt"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/remediate/rescue/wire"
)

// placeholders are UUIDs and serials that boards have when nobody wrote any. They name
// nobody.
var placeholders = []string{
	"00000000000000000000000000000000", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
	"03000200040005000006000700080009", "00020003000400050006000700080009",
	"12345678123456789012123456789012", "1234567812345678123456789ABCDEF0",
	"0", "00000000", "0123456789", "123456789", "1234567890", "XXXXXXXX",
	"DEFAULTSTRING", "TOBEFILLEDBYO.E.M.", "TOBEFILLEDBYOEM", "SYSTEMSERIALNUMBER",
	"CHASSISSERIALNUMBER", "NOTSPECIFIED", "NOTSETTABLE", "NOTAPPLICABLE", "NOTAVAILABLE",
	"NONE", "N/A", "NA", "UNKNOWN", "INVALID", "EMPTY", "O.E.M.", "OEM",
}

// Identify compares what a host says of itself with the inventory. It returns what agrees
// ("uuid", "serial", "mac"), and an error if the host contradicts the inventory in its UUID
// or serial: then it is another host. A MAC never contradicts: adapters come and go.
func Identify(h inventory.Host, id wire.Identity) (agrees []string, err error) {
	want, got := plainUUID(h.UUID), plainUUID(id.UUID)
	if want != "" && got != "" {
		if got != want && got != swapped(want) {
			return nil, wrongHost(h, "UUID", h.UUID, id.UUID)
		}
		agrees = append(agrees, "uuid")
	}
	want, got = named(h.Serial), named(id.Serial)
	if want != "" && got != "" {
		if got != want {
			return nil, wrongHost(h, "serial number", h.Serial, id.Serial)
		}
		agrees = append(agrees, "serial")
	}
	for _, mac := range id.MAC {
		same := func(m string) bool { return plainMAC(m) == plainMAC(mac) }
		if plainMAC(mac) != "" && slices.ContainsFunc(h.MAC, same) {
			return append(agrees, "mac"), nil
		}
	}
	return agrees, nil
}

func wrongHost(h inventory.Host, what, want, got string) error {
	return fmt.Errorf("the wrong host booted the image of %s: it has the %s %.64q, and the inventory says %.64q; correct the inventory, or the address of the route", h.Name, what, got, want)
}

// named returns the value in the form in which it is compared, or nothing if it names nobody.
func named(s string) string {
	s = strings.ToUpper(strings.Join(strings.Fields(s), ""))
	if slices.Contains(placeholders, s) {
		return ""
	}
	return s
}

func plainUUID(s string) string {
	return named(strings.NewReplacer("-", "", "{", "", "}", "").Replace(s))
}

// swapped returns the UUID with the bytes of its first three fields turned round: half of
// the tools read SMBIOS that way.
func swapped(u string) string {
	if len(u) != 32 {
		return u
	}
	return u[6:8] + u[4:6] + u[2:4] + u[0:2] + u[10:12] + u[8:10] + u[14:16] + u[12:14] + u[16:]
}

// plainMAC returns twelve hex digits, or nothing if s is not the address of an adapter.
func plainMAC(s string) string {
	s = strings.ToLower(strings.NewReplacer(":", "", "-", "", ".", "").Replace(strings.TrimSpace(s)))
	if len(s) != 12 || s == "000000000000" || s == "ffffffffffff" {
		return ""
	}
	return s
}
