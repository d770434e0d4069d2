package rescue

import (
	"fmt"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/remediate/rescue/wire"
)

// Identify compares what a host says of itself with the inventory. It returns what agrees
// ("uuid", "serial", "mac"), and an error if the host contradicts the inventory in its UUID
// or serial: then it is another host. A MAC never contradicts: adapters come and go.
func Identify(h inventory.Host, id wire.Identity) (agrees []string, err error) {
	agrees, wrong := h.Compare(id.UUID, id.Serial)
	if wrong != nil {
		return nil, fmt.Errorf("the wrong host booted the image of %s: %v; correct the inventory, or the address of the route", h.Name, wrong)
	}
	for _, mac := range id.MAC {
		same := func(m string) bool { return plainMAC(m) == plainMAC(mac) }
		if plainMAC(mac) != "" && slices.ContainsFunc(h.MAC, same) {
			return append(agrees, "mac"), nil
		}
	}
	return agrees, nil
}

// named returns a serial number as hosts that wait are listed by it, or nothing if it names
// nobody. Records have it: the form stays.
func named(s string) string {
	if inventory.FakeSerial(s) {
		return ""
	}
	return strings.ToUpper(strings.Join(strings.Fields(s), ""))
}

// plainUUID returns a UUID as hosts that wait are listed by it, 32 upper-case digits, or
// nothing if it names nobody.
func plainUUID(s string) string {
	u, err := inventory.ParseUUID(s)
	if err != nil || inventory.FakeUUID(u) {
		return ""
	}
	return strings.ToUpper(strings.ReplaceAll(u, "-", ""))
}

// swapped returns what plainUUID does with the bytes of its first three fields turned round:
// half of the tools read SMBIOS that way.
func swapped(u string) string {
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
