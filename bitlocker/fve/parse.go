package fve

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"unbrick/bitlocker"
)

const (
	signature = "-FVE-FS-"
	toGo      = "MSWIN4.1" // removable volumes look like FAT to systems that know no BitLocker

	blockSize   = 64 << 10 // one metadata block, of which there are three
	blockHeader = 64
	metaHeader  = 48
	entryHeader = 8
	maxHeader   = 1 << 20 // bytes of the volume's beginning that are kept elsewhere; 8192 in practice
	maxSize     = 1 << 60
	maxEntries  = 1000
)

var (
	le = binary.LittleEndian
	// As they are on the disk, where the first three groups are little-endian.
	normalGUID = [16]byte{0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99, 0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01}
	eowGUID    = [16]byte{0x3b, 0x4d, 0xa8, 0x92, 0x80, 0xdd, 0x0e, 0x4d, 0x9e, 0x4e, 0xb1, 0xe3, 0x28, 0x4e, 0xae, 0xd8}
)

// Parse reads what the volume at the beginning of r says of itself. It takes the first of the
// three metadata blocks that is whole, and notes what it finds of the others.
//
// It fails with ErrNotBitLocker, ErrVista or ErrEncryptOnWrite, or because no block is whole.
func Parse(r io.ReaderAt) (*Volume, error) {
	head := make([]byte, 512)
	if _, err := r.ReadAt(head, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, ErrNotBitLocker
		}
		return nil, fmt.Errorf("cannot read the volume: %w", err)
	}
	info, err := findInfo(head)
	if err != nil {
		return nil, err
	}
	sector := int(le.Uint16(head[11:]))
	if sector == 0 {
		sector = 512 // as cryptsetup takes it
	}
	if sector != 512 && sector != 4096 {
		return nil, fmt.Errorf("cannot read the volume: its sectors have %d bytes", sector)
	}
	var found *Volume
	var bad []string
	for i := range 3 {
		v, err := readBlock(r, int64(le.Uint64(info[16+8*i:])), i, sector)
		switch {
		case err != nil:
			bad = append(bad, fmt.Sprintf("metadata block %d of 3: %v", i+1, err))
		case found == nil:
			found = v
		case found.sum != v.sum:
			bad = append(bad, fmt.Sprintf("metadata block %d of 3 differs from the one before", i+1))
		}
	}
	if found == nil {
		return nil, fmt.Errorf("cannot read the volume: %s", strings.Join(bad, "; "))
	}
	found.Notes = bad
	return found, nil
}

// findInfo returns the part of a volume's first sector that begins with a GUID and goes on
// with the offsets of the metadata.
func findInfo(head []byte) ([]byte, error) {
	at := 0
	switch string(head[3:11]) {
	case signature:
		if bytes.Equal(head[:3], []byte{0xeb, 0x52, 0x90}) {
			return nil, ErrVista
		}
		at = 160
	case toGo:
		at = 424
	default:
		return nil, ErrNotBitLocker
	}
	switch guid := [16]byte(head[at:]); {
	case guid == normalGUID:
		return head[at:], nil
	case guid == eowGUID:
		return nil, ErrEncryptOnWrite
	case at == 424:
		return nil, ErrNotBitLocker // a FAT volume of old
	}
	return nil, errors.New("cannot read the volume: its header is damaged or of an unknown kind")
}

// readBlock reads and checks one metadata block.
func readBlock(r io.ReaderAt, at int64, index, sector int) (*Volume, error) {
	if at < int64(sector) || at > maxSize || at%int64(sector) != 0 {
		return nil, errors.New("it is at an impossible place")
	}
	b := make([]byte, blockSize)
	if _, err := r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("cannot read it: %w", err)
	}
	if string(b[:8]) != signature || le.Uint16(b[10:]) != 2 {
		return nil, errors.New("it has no signature of version 2")
	}
	size := int(le.Uint16(b[8:])) * 16
	if size < blockHeader+metaHeader || size+entryHeader > len(b) {
		return nil, errors.New("its size is impossible")
	}
	if crc32.ChecksumIEEE(b[:size]) != le.Uint32(b[size+4:]) {
		return nil, errors.New("its checksum is wrong")
	}
	v := &Volume{SectorSize: sector, State: State(le.Uint16(b[12:])), Next: State(le.Uint16(b[14:]))}
	v.Size = int64(le.Uint64(b[16:]))
	v.headerSize = int64(le.Uint32(b[28:])) * int64(sector)
	for i := range v.meta {
		v.meta[i] = int64(le.Uint64(b[32+8*i:]))
	}
	v.header = int64(le.Uint64(b[56:]))
	v.sum = sha256.Sum256(b[:size])
	if v.meta[index] != at {
		return nil, errors.New("it is not where it says it is")
	}
	if err := v.readMetadata(b[blockHeader:size]); err != nil {
		return nil, err
	}
	v.readSeal(b[size:])
	return v, v.checkLayout()
}

// readSeal takes the hash of the metadata, sealed with the master key, from what follows the
// metadata. Without one the volume cannot be opened.
func (v *Volume) readSeal(b []byte) {
	end := int(le.Uint16(b))
	if end < entryHeader || end > len(b) {
		return
	}
	_ = eachEntry(b[entryHeader:end], func(_, kind uint16, data []byte) error {
		if kind == typeSealed {
			v.seal = newSealed(data)
		}
		return nil
	})
}

// Numbers of entries: what they are for, and what they hold.
const (
	roleMasterKey   = 2
	roleVolumeKey   = 3
	roleDescription = 7
	roleHeader      = 15

	typeKey       = 1
	typeText      = 2
	typeStretched = 3
	typeSealed    = 5
	typeMasterKey = 8
	typeHeader    = 15
)

// readMetadata reads the metadata header and the entries after it.
func (v *Volume) readMetadata(b []byte) error {
	size := int64(le.Uint32(b))
	if size < metaHeader || size > int64(len(b)) || le.Uint32(b[8:]) != metaHeader {
		return errors.New("the size of its metadata is impossible")
	}
	v.ID = guid(b[16:])
	v.Method = Method(le.Uint16(b[36:]))
	return eachEntry(b[metaHeader:size], func(role, kind uint16, data []byte) error {
		switch {
		case role == roleMasterKey && kind == typeMasterKey:
			p, err := readProtector(data)
			if err != nil {
				return err
			}
			v.Protectors = append(v.Protectors, p)
		case role == roleVolumeKey && kind == typeSealed:
			v.fvek = newSealed(data)
		case role == roleDescription && kind == typeText:
			v.Description = text(data)
		case role == roleHeader && kind == typeHeader && len(data) >= 16:
			v.header, v.headerSize = int64(le.Uint64(data)), int64(le.Uint64(data[8:]))
		}
		return nil
	})
}

func readProtector(b []byte) (Protector, error) {
	const fixed = 28
	if len(b) < fixed {
		return Protector{}, errors.New("a protector in it is too short")
	}
	p := Protector{ID: guid(b), Kind: Kind(le.Uint16(b[26:])), Created: filetime(le.Uint64(b[16:]))}
	err := eachEntry(b[fixed:], func(_, kind uint16, data []byte) error {
		switch {
		case kind == typeKey && len(data) >= 4+32:
			p.clear = data[4 : 4+32]
		case kind == typeStretched && len(data) >= 4+16:
			p.salt = data[4 : 4+16]
		case kind == typeSealed:
			p.vmk = newSealed(data)
		}
		return nil
	})
	return p, err
}

// eachEntry calls f for each entry of a list that ends with b or with a size of zero.
func eachEntry(b []byte, f func(role, kind uint16, data []byte) error) error {
	for n := 0; len(b) >= entryHeader; n++ {
		size := int(le.Uint16(b))
		if size == 0 {
			return nil
		}
		if size < entryHeader || size > len(b) || n == maxEntries {
			return errors.New("a list in it does not end where it should")
		}
		if err := f(le.Uint16(b[2:]), le.Uint16(b[4:]), b[entryHeader:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	return nil
}

// guid reads a GUID of the disk, whose first three groups are little-endian.
func guid(b []byte) (id bitlocker.KeyID) {
	binary.BigEndian.PutUint32(id[:], le.Uint32(b))
	binary.BigEndian.PutUint16(id[4:], le.Uint16(b[4:]))
	binary.BigEndian.PutUint16(id[6:], le.Uint16(b[6:]))
	copy(id[8:], b[8:16])
	return id
}

func text(b []byte) string {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = le.Uint16(b[2*i:])
	}
	return strings.TrimRight(string(utf16.Decode(u)), "\x00")
}

// filetime converts Windows's count of 100 ns since 1601.
func filetime(n uint64) time.Time {
	const to1970 = 11644473600
	return time.Unix(int64(n/1e7)-to1970, int64(n%1e7)*100).UTC()
}
