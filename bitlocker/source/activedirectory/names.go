package activedirectory

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"unbrick/bitlocker"
)

// windowsOrder exchanges the byte order of a GUID's text with that of Windows, in which the
// first three fields are little-endian. Doing it twice changes nothing.
func windowsOrder(id bitlocker.KeyID) bitlocker.KeyID {
	slices.Reverse(id[0:4])
	slices.Reverse(id[4:6])
	slices.Reverse(id[6:8])
	return id
}

// guidFilter writes the id as a value in a search filter.
func guidFilter(id bitlocker.KeyID) string {
	var b strings.Builder
	for _, c := range windowsOrder(id) {
		fmt.Fprintf(&b, `\%02x`, c)
	}
	return b.String()
}

func fromGUID(raw []byte) (id bitlocker.KeyID, err error) {
	if len(raw) != len(id) {
		return id, errors.New("its object has no GUID: no volume can ask for it")
	}
	copy(id[:], raw)
	return windowsOrder(id), nil
}

// hostOf returns the name of the computer that a recovery object lies below, or "" if dn is
// none of such an object: CN=2023-10-10T10:00:00-08:00{GUID},CN=PC1,OU=Sydney,DC=corp,DC=example.
func hostOf(dn string) string {
	parsed, err := ldap.ParseDN(dn)
	if err != nil || len(parsed.RDNs) < 2 || len(parsed.RDNs[1].Attributes) != 1 {
		return ""
	}
	parent := parsed.RDNs[1].Attributes[0]
	if !strings.EqualFold(parent.Type, "CN") {
		return ""
	}
	return parent.Value
}
