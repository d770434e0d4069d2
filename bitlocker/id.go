package bitlocker

import (
	"encoding/hex"
	"errors"
	"strings"
)

// A KeyID is the GUID of a key protector, in the byte order of its text: what the recovery
// screen shows. It is not secret. The zero KeyID names nothing.
type KeyID [16]byte

// ParseKeyID reads a GUID in any case, with or without braces. Its error does not repeat s.
func ParseKeyID(s string) (id KeyID, err error) {
	t := strings.TrimSpace(s)
	if strings.HasPrefix(t, "{") && strings.HasSuffix(t, "}") {
		t = t[1 : len(t)-1]
	}
	plain := strings.ReplaceAll(t, "-", "")
	b, err := hex.DecodeString(plain)
	if err != nil || len(b) != len(id) || len(t) != 36 || t[8] != '-' || t[13] != '-' || t[18] != '-' || t[23] != '-' {
		// The text is not repeated: where columns were swapped it is a recovery key.
		return id, errors.New("not a key id: it is a GUID such as 4290B6C0-B17A-497A-8552-272CC30E80D4")
	}
	copy(id[:], b)
	return id, nil
}

// String writes the id as the recovery screen does: upper case, without braces.
func (id KeyID) String() string {
	s := strings.ToUpper(hex.EncodeToString(id[:]))
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// IsZero says whether the id names nothing.
func (id KeyID) IsZero() bool { return id == KeyID{} }

// MarshalText writes String.
func (id KeyID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what ParseKeyID reads.
func (id *KeyID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseKeyID(string(b))
	return err
}
