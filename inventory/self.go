package inventory

import (
	"fmt"
	"slices"
	"strings"
)

// A Contradiction is how a machine shows that it is another one than the inventory means.
type Contradiction struct {
	What      string // "UUID" or "serial number"
	Got, Want string // what the machine says, and what the inventory does
}

// String says both, as the end of a sentence about the machine.
func (c *Contradiction) String() string {
	return fmt.Sprintf("it has the %s %.64q, and the inventory says %.64q", c.What, c.Got, c.Want)
}

// Compare tells whether a machine is the host by what it, or a controller in its name, says of
// itself: its SMBIOS UUID, and its serial number under whatever names it has one. It returns
// what agrees ("uuid", "serial"), or else the first of the two that contradicts: one that
// agrees does not make up for that, because firmware shares UUIDs among the nodes of a chassis
// and serial numbers get copied. Placeholders and what one side does not know prove nothing.
// A UUID may have the bytes of its first three fields in either order.
func (h *Host) Compare(uuid string, serials ...string) (agrees []string, wrong *Contradiction) {
	if want, got := plainUUID(h.UUID), plainUUID(uuid); want != "" && got != "" {
		if got != want {
			return nil, &Contradiction{"UUID", uuid, h.UUID}
		}
		agrees = append(agrees, "uuid")
	}
	want := plainSerial(h.Serial)
	serials = slices.DeleteFunc(slices.Clone(serials), func(s string) bool { return plainSerial(s) == "" })
	if want == "" || len(serials) == 0 {
		return agrees, nil
	}
	if !slices.ContainsFunc(serials, func(s string) bool { return plainSerial(s) == want }) {
		return nil, &Contradiction{"serial number", strings.Join(serials, " or "), h.Serial}
	}
	return append(agrees, "serial"), nil
}

// plainSerial returns a serial number as it is compared, or nothing if it names nobody.
func plainSerial(s string) string {
	if FakeSerial(s) {
		return ""
	}
	return strings.ToUpper(strings.Join(strings.Fields(s), ""))
}

// plainUUID returns what is the same of one UUID however it is written, or nothing if it names
// nobody.
func plainUUID(s string) string {
	u, err := ParseUUID(s)
	if err != nil {
		return ""
	}
	return uuidKey(u)
}
