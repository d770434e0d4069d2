package fvetest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"unicode/utf16"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
)

var le = binary.LittleEndian

// created is when all of it was made, in 100 ns since 1601: on 2024-07-18.
const created = 133657344000000000

func u16(v uint16) []byte { return le.AppendUint16(nil, v) }
func u32(v uint32) []byte { return le.AppendUint32(nil, v) }
func u64(v uint64) []byte { return le.AppendUint64(nil, v) }

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// entry is a role, a type, a version and data, with the size of it all before it.
func entry(role, kind uint16, data ...[]byte) []byte {
	b := slices.Concat(u16(0), u16(role), u16(kind), u16(1), slices.Concat(data...))
	le.PutUint16(b, uint16(len(b)))
	return b
}

// guid is the id as it is on the disk, where the first three groups are little-endian.
func guid(id bitlocker.KeyID) []byte {
	b := slices.Clone(id[:])
	slices.Reverse(b[:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return b
}

// sealed is an entry with something encrypted under a key.
func (m *maker) sealed(role uint16, key, plain []byte) []byte {
	m.nonces++
	nonce := slices.Concat(u64(created), u32(m.nonces))
	return entry(role, 5, nonce, sealCCM(key, nonce, plain))
}

// Numbers of what keys are for, beside those of fve.Method.
const (
	forStretching = 0x1000
	forSealing    = 0x2003
	isSHA256      = 0x2005
)

// key is a key with what it is for.
func key(purpose uint32, k []byte) []byte {
	return slices.Concat(u16(uint16(12+len(k))), u16(0), u16(1), u16(0), u32(purpose), k)
}

// protector is the entry of one protector.
func (m *maker) protector(p Protector) []byte {
	master := key(forSealing, m.master[:])
	var nested []byte
	switch p.Kind {
	case fve.RecoveryPassword:
		salt, bytes := random(16), p.Key.Bytes()
		// Windows keeps the password itself too, under the master key.
		nested = slices.Concat(entry(0, 3, u32(forStretching), salt, m.sealed(0x12, m.master[:], key(forStretching, bytes[:]))),
			m.sealed(0, stretch(bytes, salt), master))
	case fve.ClearKey:
		clear := random(32)
		nested = slices.Concat(entry(0, 1, u32(forSealing), clear), m.sealed(0, clear, master))
	case fve.TPM:
		nested = entry(0, 6, random(220)) // only the TPM that made it could open a real one
	}
	return entry(2, 8, guid(p.ID), u64(created), u16(0), u16(uint16(p.Kind)), nested)
}

// block is a metadata block of 64 KiB. The three are the same.
func (m *maker) block() []byte {
	var name []byte
	for _, c := range utf16.Encode([]rune(m.Description + "\x00")) {
		name = append(name, u16(c)...)
	}
	entries := entry(7, 2, name)
	for _, p := range m.Protectors {
		entries = append(entries, m.protector(p)...)
	}
	entries = append(entries, m.sealed(3, m.master[:], key(uint32(m.Method), m.volumeKey))...)
	entries = append(entries, entry(15, 15, u64(uint64(m.header())), u64(headerSize))...)

	const blockHeader, metaHeader = 64, 48
	metaSize := uint32(metaHeader + len(entries))
	size := (blockHeader + int(metaSize) + 15) / 16 * 16
	b := slices.Concat([]byte("-FVE-FS-"), u16(uint16(size/16)), u16(2), u16(uint16(m.State)), u16(uint16(m.Next)),
		u64(uint64(m.size)), u32(0), u32(uint32(headerSize/m.SectorSize)),
		u64(uint64(m.Blocks[0])), u64(uint64(m.Blocks[1])), u64(uint64(m.Blocks[2])), u64(uint64(m.header())),
		u32(metaSize), u32(1), u32(metaHeader), u32(metaSize), random(16), u32(m.nonces+1), u32(uint32(m.Method)), u64(created),
		entries)
	b = append(b, make([]byte, size-len(b))...)
	b = append(b, m.validation(b)...)
	return append(b, make([]byte, blockSize-len(b))...)
}

// validation is what follows the metadata: its checksum, and its hash under the master key.
func (m *maker) validation(b []byte) []byte {
	sum := sha256.Sum256(b)
	hash := m.sealed(0, m.master[:], entry(0, 1, u32(isSHA256), sum[:]))
	return slices.Concat(u16(uint16(8+len(hash))), u16(2), u32(crc32.ChecksumIEEE(b)), hash)
}

// bootSector is the beginning of the volume that systems without a key see.
func (m *maker) bootSector() []byte {
	b := make([]byte, headerSize)
	copy(b, "\xeb\x58\x90-FVE-FS-")
	le.PutUint16(b[11:], uint16(m.SectorSize))
	b[13], b[21] = byte(4096/m.SectorSize), 0xf8
	le.PutUint16(b[24:], 63)
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[36:], 0x1fe0)
	le.PutUint16(b[48:], 1)
	le.PutUint16(b[50:], 6)
	b[64], b[66] = 0x80, 0x29
	copy(b[71:], "NO NAME    FAT32   ")
	copy(b[160:], "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01")
	for i, at := range m.Blocks {
		le.PutUint64(b[176+8*i:], uint64(at))
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}
