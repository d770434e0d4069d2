package inventory

import (
	"bytes"
	"net"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A ValueError says what is wrong with a value and what would be right, without repeating
// the value: whoever knows where it was read decides whether it may be shown.
type ValueError struct {
	Reason string // "not a MAC address"
	Want   string // "six bytes, such as 52:54:00:12:34:56"
}

// Error says both in one line.
func (e *ValueError) Error() string { return e.Reason + " (want " + e.Want + ")" }

// maxName is the longest DNS name in bytes (RFC 1035, 2.3.4).
const maxName = 255

// ParseName returns a host's name without surrounding space. It refuses what neither NetBIOS
// nor DNS allows, since names become paths, arguments and ids further on.
func ParseName(s string) (string, error) {
	s = strings.TrimSpace(s)
	bad := &ValueError{"not a host name", `a NetBIOS or DNS name: no spaces, none of \ / : * ? " < > |, no dot or hyphen in front`}
	if s == "" {
		return "", &ValueError{"empty", "the name of the host"}
	}
	if len(s) > maxName || s[0] == '.' || s[0] == '-' || !utf8.ValidString(s) {
		return "", bad
	}
	for _, r := range s {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(`\/:*?"<>|`, r) {
			return "", bad
		}
	}
	return s, nil
}

// ParseUUID returns a UUID in lower case with hyphens. It takes what exports contain: any
// case, with or without hyphens or braces. The order of the bytes is left as it is.
func ParseUUID(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") {
		s = s[1 : len(s)-1]
	}
	bad := &ValueError{"not a UUID", "32 hexadecimal digits, such as 4c4c4544-0044-3510-8052-b4c04f4d3132"}
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		if !isHex(s[:8]) || !isHex(s[9:13]) || !isHex(s[14:18]) || !isHex(s[19:23]) || !isHex(s[24:]) {
			return "", bad
		}
		return s, nil
	}
	if len(s) != 32 || !isHex(s) {
		return "", bad
	}
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], nil
}

// isHex says that s is hexadecimal digits alone.
func isHex(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// ParseMAC returns a MAC address in lower case with colons. It takes colons, hyphens, Cisco's
// dots and bare digits; it refuses group addresses, which no adapter has.
func ParseMAC(s string) (string, error) {
	s = strings.TrimSpace(s)
	if plainMAC(s) {
		return s, nil
	}
	if len(s) == 12 && isHex(s) {
		s = s[:4] + "." + s[4:8] + "." + s[8:]
	}
	m, err := net.ParseMAC(s)
	if err != nil || len(m) != 6 {
		return "", &ValueError{"not a MAC address", "six bytes, such as 52:54:00:12:34:56"}
	}
	if m[0]&1 != 0 && !bytes.Equal(m, []byte{255, 255, 255, 255, 255, 255}) {
		return "", &ValueError{"a group address, not the address of an adapter", "an even first byte, such as 52:54:00:12:34:56"}
	}
	return m.String(), nil
}

// plainMAC says that s is what ParseMAC would return: most files have it so.
func plainMAC(s string) bool {
	if len(s) != 17 || !strings.ContainsRune("02468ace", rune(s[1])) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i%3 == 2 {
			if c != ':' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// fakeUUIDs are UUIDs that board makers left in many machines at once.
var fakeUUIDs = map[string]bool{
	"03000200-0400-0500-0006-000700080009": true, // AMI sample, as the firmware shows it
	"00020003-0004-0005-0006-000700080009": true, // the same, as Windows shows it
	"12345678-1234-5678-90ab-cddeefaabbcc": true,
	"12345678-1234-5678-9012-123456789012": true,
	"12345678-1234-5678-1234-56789abcdef0": true,
	"4c4c4544-0000-2010-8020-80c04f202020": true, // Dell without a service tag
}

// FakeUUID says that a UUID as [ParseUUID] returns it identifies no host: firmware shows it
// where the maker entered none.
func FakeUUID(uuid string) bool {
	return fakeUUIDs[uuid] || oneChar(uuid, '-')
}

// fakeSerials are what firmware shows where the maker entered none, in lower case and without
// spaces: some tools drop those.
var fakeSerials = map[string]bool{
	"tobefilledbyo.e.m.": true, "tobefilledbyo.e.m": true, "tobefilledbyoem": true,
	"o.e.m.": true, "oem": true, "defaultstring": true, "default": true, "empty": true,
	"systemserialnumber": true, "chassisserialnumber": true, "serialnumber": true,
	"baseboardserialnumber": true, "none": true, "null": true, "notsettable": true,
	"notspecified": true, "notavailable": true, "notapplicable": true, "n/a": true, "na": true,
	"unknown": true, "invalid": true, "undefined": true, "(null)": true,
	"0123456789": true, "123456789": true, "1234567890": true, "12345678": true, "1234567": true,
}

// FakeSerial says that a serial number identifies no host: "To be filled by O.E.M.", "0",
// "XXXXXXX" and their like.
func FakeSerial(serial string) bool {
	s := strings.TrimSpace(serial)
	if strings.ContainsAny(s, "0123456789") && strings.Trim(s, "0123456789") != "" {
		return false // letters and digits: the usual case, and no fake has both
	}
	s = strings.ToLower(strings.Join(strings.Fields(s), ""))
	return fakeSerials[s] || oneChar(s, 0)
}

// FakeMAC says that a MAC address as [ParseMAC] returns it belongs to no adapter.
func FakeMAC(mac string) bool { return oneChar(mac, ':') }

// oneChar says that s is one character, any number of times, apart from separators.
func oneChar(s string, separator byte) bool {
	for i := range len(s) {
		if s[i] != s[0] && s[i] != separator {
			return false
		}
	}
	return s != ""
}
