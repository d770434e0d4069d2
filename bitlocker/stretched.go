package bitlocker

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
)

// SaltSize is the size in bytes of the salt that a volume keeps beside a recovery password.
const SaltSize = 16

// stretchRounds is how often BitLocker hashes.
const stretchRounds = 1 << 20

// A Stretched key is what a recovery key becomes with the salt of one protector of one volume.
// It opens that volume by that protector, and nothing else: who has it cannot tell the digits,
// and removing the protector revokes it. It does not print, log or encode itself. The zero
// Stretched is no key.
type Stretched struct{ bytes func() [sha256.Size]byte }

// Stretch returns the key stretched with a salt of SaltSize bytes, as documented in libbde's
// "BitLocker Drive Encryption (BDE) format". It takes a million rounds of SHA-256: 0.2 s, or
// some seconds in an emulator.
func (k Key) Stretch(salt []byte) (Stretched, error) {
	if len(salt) != SaltSize || k.IsZero() {
		return Stretched{}, errors.New("cannot stretch a recovery key: no key, or a salt of another size")
	}
	var buf [sha256.Size + sha256.Size + SaltSize + 8]byte // last hash, hash of the key, salt, round
	b := k.Bytes()
	first := sha256.Sum256(b[:])
	copy(buf[32:], first[:])
	copy(buf[64:], salt)
	for n := range uint64(stretchRounds) {
		binary.LittleEndian.PutUint64(buf[80:], n)
		last := sha256.Sum256(buf[:])
		copy(buf[:], last[:])
	}
	out := [sha256.Size]byte(buf[:])
	clear(buf[:])
	clear(first[:])
	clear(b[:])
	return Stretched{func() [sha256.Size]byte { return out }}, nil
}

// NewStretched returns what [Stretched.Bytes] gave out elsewhere.
func NewStretched(b []byte) (Stretched, error) {
	if len(b) != sha256.Size {
		return Stretched{}, fmt.Errorf("a stretched key has %d bytes, not %d", sha256.Size, len(b))
	}
	key := [sha256.Size]byte(b)
	return Stretched{func() [sha256.Size]byte { return key }}, nil
}

// Bytes returns the key itself.
func (s Stretched) Bytes() (b [sha256.Size]byte) {
	if s.bytes == nil {
		return b
	}
	return s.bytes()
}

// Format prints a placeholder, whatever the verb.
func (s Stretched) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue logs a placeholder.
func (s Stretched) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes a placeholder; encoding/json uses it too.
func (s Stretched) MarshalText() ([]byte, error) { return []byte(redacted), nil }
