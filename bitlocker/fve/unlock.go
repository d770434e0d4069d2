package fve

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"

	"unbrick/bitlocker"
)

// masterSize is the size of the key that protectors protect, in bytes.
const masterSize = 32

// Unlock opens the volume with a recovery key. The protector with that id alone is tried. It
// takes as long as [bitlocker.Key.Stretch] does.
//
// It fails with an error that wraps ErrWrongKey, ErrTampered or ErrConverting.
func (v *Volume) Unlock(key bitlocker.Key, id bitlocker.KeyID) (*Unlocked, error) {
	if err := v.Converted(); err != nil {
		return nil, err
	}
	salt, err := v.Salt(id)
	if err != nil {
		return nil, err
	}
	stretched, err := key.Stretch(salt)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrWrongKey, err)
	}
	return v.UnlockStretched(stretched, id)
}

// UnlockStretched is Unlock with a key that was stretched with the Salt of the protector.
func (v *Volume) UnlockStretched(key bitlocker.Stretched, id bitlocker.KeyID) (*Unlocked, error) {
	if err := v.Converted(); err != nil {
		return nil, err
	}
	p, err := v.password(id)
	if err != nil {
		return nil, err
	}
	b := key.Bytes()
	defer clear(b[:])
	return v.open(p.vmk, b[:])
}

// Salt returns what a key is stretched with for the protector with that id. It is not secret.
func (v *Volume) Salt(id bitlocker.KeyID) ([]byte, error) {
	p, err := v.password(id)
	return p.salt, err
}

// password returns the recovery password with that id.
func (v *Volume) password(id bitlocker.KeyID) (Protector, error) {
	for _, p := range v.Protectors {
		if p.ID == id && p.Kind == RecoveryPassword && p.salt != nil {
			return p, nil
		}
	}
	return Protector{}, fmt.Errorf("the volume has no recovery password with id %s", id)
}

// UnlockSuspended opens a volume whose protection is suspended: it holds its own key in clear.
func (v *Volume) UnlockSuspended() (*Unlocked, error) {
	if err := v.Converted(); err != nil {
		return nil, err
	}
	for _, p := range v.Protectors {
		if p.Kind == ClearKey && p.clear != nil {
			return v.open(p.vmk, p.clear)
		}
	}
	return nil, errors.New("the volume's protection is not suspended: it holds no key in clear")
}

// UnlockMaster opens the volume with its master key, which is what a TPM gives to Windows.
// Nothing that goes out to a host may: no rotation of keys revokes it.
func (v *Volume) UnlockMaster(master [masterSize]byte) (*Unlocked, error) {
	if err := v.Converted(); err != nil {
		return nil, err
	}
	return v.unseal(master[:])
}

// open opens the master key with the key of a protector, and the volume with that.
func (v *Volume) open(vmk sealed, key []byte) (*Unlocked, error) {
	master, ok := vmk.openKey(key)
	defer clear(master)
	if !ok || len(master) < masterSize {
		return nil, ErrWrongKey
	}
	return v.unseal(master[:masterSize])
}

// unseal checks the metadata with the master key and opens the key of the sectors.
func (v *Volume) unseal(master []byte) (*Unlocked, error) {
	s, ok := methods[v.Method]
	if !ok {
		return nil, fmt.Errorf("cannot open the volume: it is encrypted by an unknown %s", v.Method)
	}
	fvek, ok := v.fvek.openKey(master)
	if !ok {
		return nil, ErrWrongKey
	}
	const hash = 0x2005 // SHA-256
	sum, ok := v.seal.open(master)
	if !ok || len(sum) != 12+len(v.sum) || le.Uint32(sum[8:]) != hash || subtle.ConstantTimeCompare(sum[12:], v.sum[:]) != 1 {
		clear(fvek)
		return nil, ErrTampered
	}
	if len(fvek) < s.keySize {
		clear(fvek)
		return nil, errors.New("cannot open the volume: its key is too short")
	}
	return &Unlocked{v: v, spec: s, key: func() []byte { return fvek }}, nil
}

// An Unlocked is an open volume. It holds the key of the sectors, which no rotation revokes,
// and does not print, log or encode it. Close it.
type Unlocked struct {
	v    *Volume
	spec spec
	key  func() []byte // behind a function: fmt prints unexported fields without asking
}

// Volume returns what the volume says of itself, which is proved now.
func (u *Unlocked) Volume() *Volume { return u.v }

// Close forgets the key.
func (u *Unlocked) Close() error {
	clear(u.key())
	u.key = func() []byte { return nil }
	return nil
}

const redacted = "[open BitLocker volume]"

// Format prints a placeholder, whatever the verb.
func (u *Unlocked) Format(s fmt.State, _ rune) { fmt.Fprint(s, redacted) }

// LogValue logs a placeholder.
func (u *Unlocked) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText writes a placeholder.
func (u *Unlocked) MarshalText() ([]byte, error) { return []byte(redacted), nil }
