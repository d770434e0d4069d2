package fve

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// A Target is one line of a device-mapper table. Its parameters hold the key of the volume, so
// it does not print.
type Target struct {
	Start, Length uint64 // in sectors of 512 bytes, whatever those of the volume
	Type          string // crypt or zero

	params func(b []byte) []byte
}

// AppendParams appends the parameters of the target to b. They hold the volume's key: whoever
// has them clears them.
func (t Target) AppendParams(b []byte) []byte { return t.params(b) }

// Format prints the target without its parameters, whatever the verb.
func (t Target) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "%d %d %s", t.Start, t.Length, t.Type) }

// Table returns the table by which device-mapper shows the decrypted volume that lies on
// device, for reading and writing. It is of no use after Close.
func (u *Unlocked) Table(device string) []Target {
	const sector = 512 // device-mapper's
	var table []Target
	for _, s := range u.v.Segments() {
		t := Target{Start: uint64(s.Offset / sector), Length: uint64(s.Length / sector)}
		if s.Zero {
			t.Type, t.params = "zero", func(b []byte) []byte { return b }
		} else {
			t.Type, t.params = "crypt", func(b []byte) []byte { return u.appendCrypt(b, device, s.Source/sector) }
		}
		table = append(table, t)
	}
	return table
}

// appendCrypt appends cipher, key, offset of the initialisation vectors, device, offset there.
func (u *Unlocked) appendCrypt(b []byte, device string, source int64) []byte {
	b = append(b, u.spec.dm...)
	b = append(b, ' ')
	key := u.key()
	if u.v.Method == Elephant128 && len(key) >= u.spec.keySize {
		b = hex.AppendEncode(b, key[:16]) // the kernel takes the halves that are used
		b = hex.AppendEncode(b, key[32:48])
	} else {
		b = hex.AppendEncode(b, key[:min(u.spec.keySize, len(key))])
	}
	b = append(b, ' ')
	b = strconv.AppendInt(b, source, 10)
	b = append(b, ' ')
	b = append(b, device...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, source, 10)
	if u.v.SectorSize != 512 {
		b = fmt.Appendf(b, " 2 sector_size:%d iv_large_sectors", u.v.SectorSize)
	}
	return b
}
