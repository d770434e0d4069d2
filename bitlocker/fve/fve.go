// Package fve reads BitLocker volumes: what a locked one says of itself without any key, and
// all of it with one.
//
// It never writes. Whoever has to write takes the table of an opened volume to the kernel's
// device-mapper. Layout and constants: libbde, "BitLocker Drive Encryption (BDE) format", and
// cryptsetup, lib/bitlk; "FVE" (full volume encryption) is what the volumes call themselves.
package fve

import (
	"errors"
	"fmt"
	"time"

	"unbrick/bitlocker"
)

var (
	// ErrNotBitLocker means that there is no BitLocker volume.
	ErrNotBitLocker = errors.New("not a BitLocker volume")
	// ErrVista means a volume as Windows Vista made them, which has another layout.
	ErrVista = errors.New("the volume was encrypted by Windows Vista, which is not supported")
	// ErrEncryptOnWrite means a volume that encrypts only what is written to it.
	ErrEncryptOnWrite = errors.New("the volume encrypts on write, which is not supported")
	// ErrConverting means that the volume is partly encrypted: its conversion runs or is
	// paused. Where it stands changes with every write.
	ErrConverting = errors.New("the volume is being encrypted or decrypted, or that was paused; let Windows finish it")
	// ErrWrongKey means that the key is not that of the protector.
	ErrWrongKey = errors.New("the key is not that of this protector")
	// ErrTampered means that the metadata is not what whoever held the volume's key wrote.
	ErrTampered = errors.New("the volume's metadata was changed by somebody without its key")
)

// A Volume is what a locked volume says of itself. All of it can be forged until a key has
// opened the volume.
type Volume struct {
	ID          bitlocker.KeyID // of the volume
	Description string          // "PC1 C: 19.07.2024"
	Method      Method
	SectorSize  int   // bytes: 512 or 4096
	Size        int64 // of the encrypted volume, in bytes
	State, Next State // as it is, and as it is to become
	Protectors  []Protector
	Notes       []string // what is wrong and did not keep it from being read

	meta       [3]int64 // offsets of the metadata blocks
	header     int64    // offset of the copy of what was in the first headerSize bytes
	headerSize int64
	fvek       sealed   // the key of the sectors
	seal       sealed   // the hash of the metadata
	sum        [32]byte // that hash, computed
}

// A Protector is one way to open a volume.
type Protector struct {
	ID      bitlocker.KeyID
	Kind    Kind
	Created time.Time

	salt  []byte // of a recovery password
	vmk   sealed // the master key
	clear []byte // what opens vmk, where that is no secret
}

// Suspended says whether protection is suspended: the volume's key lies beside it in clear.
func (v *Volume) Suspended() bool {
	for _, p := range v.Protectors {
		if p.Kind == ClearKey {
			return true
		}
	}
	return false
}

// RecoveryIDs returns the ids of the recovery passwords, in the order of the volume.
func (v *Volume) RecoveryIDs() (ids []bitlocker.KeyID) {
	for _, p := range v.Protectors {
		if p.Kind == RecoveryPassword {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// A Kind says what a protector asks for.
type Kind uint16

// The kinds, by their numbers on the disk.
const (
	ClearKey         Kind = 0x0000 // nothing: protection is suspended
	TPM              Kind = 0x0100
	StartupKey       Kind = 0x0200 // a file on a USB stick
	TPMAndStartupKey Kind = 0x0300
	TPMAndPIN        Kind = 0x0500
	RecoveryPassword Kind = 0x0800 // the 48 digits
	PublicKey        Kind = 0x1000 // a smart card
	Password         Kind = 0x2000
)

var kinds = map[Kind]string{
	ClearKey: "clear key", TPM: "TPM", StartupKey: "startup key", TPMAndStartupKey: "TPM and startup key",
	TPMAndPIN: "TPM and PIN", RecoveryPassword: "recovery password", PublicKey: "public key", Password: "password",
}

func (k Kind) String() string {
	if s, ok := kinds[k]; ok {
		return s
	}
	return fmt.Sprintf("protector of kind %#04x", uint16(k))
}

// A Method says how sectors are encrypted.
type Method uint16

// The methods, by their numbers on the disk.
const (
	Elephant128 Method = 0x8000 // AES-CBC with diffuser
	Elephant256 Method = 0x8001
	CBC128      Method = 0x8002
	CBC256      Method = 0x8003
	XTS128      Method = 0x8004
	XTS256      Method = 0x8005
)

// A spec is what a Method stands for.
type spec struct {
	name    string
	dm      string // the kernel's name
	keySize int    // of the key that the volume holds, in bytes; the kernel takes all of it but for Elephant128
}

var methods = map[Method]spec{
	Elephant128: {"AES-CBC 128 with Elephant diffuser", "aes-cbc-elephant", 64},
	Elephant256: {"AES-CBC 256 with Elephant diffuser", "aes-cbc-elephant", 64},
	CBC128:      {"AES-CBC 128", "aes-cbc-eboiv", 16},
	CBC256:      {"AES-CBC 256", "aes-cbc-eboiv", 32},
	XTS128:      {"XTS-AES 128", "aes-xts-plain64", 32},
	XTS256:      {"XTS-AES 256", "aes-xts-plain64", 64},
}

func (m Method) String() string {
	if s, ok := methods[m]; ok {
		return s.name
	}
	return fmt.Sprintf("method %#04x", uint16(m))
}

// A State is how far the encryption of a volume is.
type State uint16

// The states, by their numbers on the disk.
const (
	Decrypted  State = 1
	Encrypting State = 2
	Encrypted  State = 4
	Decrypting State = 5
)

var states = map[State]string{Decrypted: "decrypted", Encrypting: "encrypting", Encrypted: "encrypted", Decrypting: "decrypting"}

func (s State) String() string {
	if t, ok := states[s]; ok {
		return t
	}
	return fmt.Sprintf("state %d", uint16(s))
}

// Converted returns nil if the volume is encrypted from end to end and to stay so, and
// otherwise an error that wraps ErrConverting.
func (v *Volume) Converted() error {
	if v.State == Encrypted && v.Next == Encrypted {
		return nil
	}
	return fmt.Errorf("%w (it is %s, to become %s)", ErrConverting, v.State, v.Next)
}
