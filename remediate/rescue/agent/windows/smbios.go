package windows

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"unbrick/remediate/rescue/wire"
)

// errSMBIOS means that the firmware's table does not say what host this is.
var errSMBIOS = errors.New("the firmware's SMBIOS table does not describe the system")

// parseSMBIOS reads the identity of a host in what GetSystemFirmwareTable('RSMB') returns: a
// header of 8 bytes with the version at 1 and 2 and the length at 4, then the structures of
// SMBIOS. It takes any bytes. What is not told stays empty.
func parseSMBIOS(raw []byte) (wire.Identity, error) {
	const header, system, end = 8, 1, 127
	if len(raw) < header {
		return wire.Identity{}, errSMBIOS
	}
	major, minor := raw[1], raw[2]
	table := raw[header:]
	if n := binary.LittleEndian.Uint32(raw[4:]); uint64(n) < uint64(len(table)) {
		table = table[:n]
	}
	for len(table) >= 4 {
		kind, size := table[0], int(table[1])
		if size < 4 || size > len(table) {
			break
		}
		body := table[:size]
		strs, rest := smbiosStrings(table[size:])
		switch kind {
		case system:
			return systemIdentity(body, strs, major > 2 || major == 2 && minor >= 6), nil
		case end:
			return wire.Identity{}, errSMBIOS
		}
		table = rest
	}
	return wire.Identity{}, errSMBIOS
}

// smbiosStrings returns the strings behind a structure, and what follows them.
func smbiosStrings(b []byte) (strs []string, rest []byte) {
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			return strs, nil
		}
		if i == 0 {
			if len(strs) == 0 { // a structure without strings ends in two zeros
				return nil, b[min(2, len(b)):]
			}
			return strs, b[1:]
		}
		strs, b = append(strs, string(b[:i])), b[i+1:]
	}
}

// systemIdentity reads the structure of type 1: vendor, product and serial are numbers of
// strings at 4, 5 and 7, the UUID is at 8. Since SMBIOS 2.6 its first three fields are
// little-endian; before, Linux takes them as they stand, and an inventory filled from there
// has it so.
func systemIdentity(b []byte, strs []string, mixed bool) wire.Identity {
	text := func(at int) string {
		if at >= len(b) || b[at] == 0 || int(b[at]) > len(strs) {
			return ""
		}
		return strings.ToValidUTF8(strings.TrimSpace(strs[b[at]-1]), "")
	}
	id := wire.Identity{Vendor: text(4), Product: text(5), Serial: text(7)}
	if len(b) >= 24 {
		id.UUID = smbiosUUID([16]byte(b[8:24]), mixed)
	}
	return id
}

func smbiosUUID(u [16]byte, mixed bool) string {
	if u == [16]byte{} || u == [16]byte(bytes.Repeat([]byte{0xFF}, 16)) {
		return "" // not set, or not settable
	}
	if mixed {
		u[0], u[1], u[2], u[3] = u[3], u[2], u[1], u[0]
		u[4], u[5] = u[5], u[4]
		u[6], u[7] = u[7], u[6]
	}
	h := hex.EncodeToString(u[:])
	return fmt.Sprintf("%s-%s-%s-%s-%s", h[:8], h[8:12], h[12:16], h[16:20], h[20:])
}
