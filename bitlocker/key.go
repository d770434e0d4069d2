package bitlocker

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
)

// A Key is a recovery key: 128 bits that a person sees as 48 digits. It does not print, log
// or encode itself; only [Key.Reveal] and [Key.Bytes] give it out. The zero Key is no key.
//
// The bytes sit behind a function because fmt and slog print the unexported fields of a
// struct that holds a Key without asking its methods.
type Key struct{ bytes func() [16]byte }

const (
	groups      = 8
	groupDigits = 6
	keyDigits   = groups * groupDigits
	divisor     = 11              // every group is a multiple of it
	groupLimit  = divisor * 65536 // and below this one: 720896
)

// NewKey returns the key of these bytes: eight little-endian numbers, each an eleventh of the
// group of digits at its place. Sixteen zeros are no key.
func NewKey(b [16]byte) Key {
	if b == ([16]byte{}) {
		return Key{}
	}
	return Key{func() [16]byte { return b }}
}

// ParseKey reads the 48 digits, whatever separates them, and checks each of the eight groups.
// It fails with a *[KeyError]. A key that parses has the right form; whether it opens a volume
// only the volume can tell: two groups exchanged pass.
func ParseKey(s string) (Key, error) {
	parts, err := normalise(s)
	if err != nil {
		return Key{}, err
	}
	digits := strings.Join(parts, "")
	if len(digits) != keyDigits {
		return Key{}, diagnoseLength(parts, digits)
	}
	b, err := decode(digits)
	if err != nil {
		if uneven := diagnoseParts(parts); uneven != nil {
			return Key{}, uneven // the digits are there, in the wrong groups: say that instead
		}
		return Key{}, err
	}
	return NewKey(b), nil
}

// Reveal returns the key as a person types it: eight groups of six digits with hyphens. It is
// empty for the zero Key.
func (k Key) Reveal() string {
	if k.IsZero() {
		return ""
	}
	b := k.bytes()
	text := make([]byte, 0, keyDigits+groups-1)
	for g := range groups {
		if g > 0 {
			text = append(text, '-')
		}
		text = fmt.Appendf(text, "%06d", divisor*int(binary.LittleEndian.Uint16(b[2*g:])))
	}
	return string(text)
}

// Bytes returns the 16 bytes that the volume's key is stretched from. They are as secret as
// the digits. The zero Key has zeros.
func (k Key) Bytes() [16]byte {
	if k.IsZero() {
		return [16]byte{}
	}
	return k.bytes()
}

// IsZero says whether k is no key.
func (k Key) IsZero() bool { return k.bytes == nil }

// Equal says whether both are the same key, in a time that does not depend on their digits.
func (k Key) Equal(o Key) bool {
	a, b := k.Bytes(), o.Bytes()
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

const redacted = "[recovery key]"

// Format prints a placeholder, whatever the verb.
func (k Key) Format(s fmt.State, _ rune) { fmt.Fprint(s, redacted) }

// LogValue logs a placeholder.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes a placeholder; encoding/json and encoding/xml use it too.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
