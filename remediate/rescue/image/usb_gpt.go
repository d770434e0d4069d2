package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
)

// The GUID partition table, as the UEFI specification has it in 5.3. All numbers are little
// endian, all places in sectors.
const (
	gptSector    = 512
	gptSignature = "EFI PART"
	gptEntry     = 128 // bytes of an entry: every table that xorriso writes has this size

	// Offsets in the header.
	gptHeaderSize = 12
	gptHeaderCRC  = 16
	gptSelf       = 24
	gptOther      = 32
	gptFirst      = 40
	gptLast       = 48
	gptTable      = 72
	gptCount      = 80
	gptEntrySize  = 84
	gptTableCRC   = 88

	// Offsets in an entry.
	entryGUID  = 16
	entryStart = 32
	entryEnd   = 40
	entryName  = 56
)

// Types of partitions, as they are on the disk.
var (
	typeData = []byte{0xA2, 0xA0, 0xD0, 0xEB, 0xE5, 0xB9, 0x33, 0x44, 0x87, 0xC0, 0x68, 0xB6, 0xB7, 0x26, 0x99, 0xC7} // Microsoft basic data
	// Windows gives no letter to these. To others that it cannot read it does, and offers to
	// format them.
	typeLinux = []byte{0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47, 0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4}
	typeESP   = []byte{0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B}
)

// A table is a GUID partition table: its header, and its entries one after the other.
type table struct{ header, entries []byte }

// addPartition makes the disk image of a hybrid ISO larger by a data partition, the only one
// that Windows shows, and returns where that begins, in bytes.
func addPartition(f *os.File, size, add int64) (start int64, err error) {
	const mib = 1 << 20
	start = (size + mib - 1) / mib * mib
	end := start + add
	total := end + mib // room for the second table
	t, err := readTable(f)
	if err != nil {
		return 0, err
	}
	if err := t.insert(uint64(start/gptSector), uint64(end/gptSector)-1); err != nil {
		return 0, err
	}
	if err := f.Truncate(total); err != nil {
		return 0, err
	}
	last := uint64(total/gptSector) - 1
	room := uint64((len(t.entries) + gptSector - 1) / gptSector)
	binary.LittleEndian.PutUint64(t.header[gptLast:], last-room-1)
	for _, copy := range []struct{ self, other, entries uint64 }{
		{1, last, binary.LittleEndian.Uint64(t.header[gptTable:])},
		{last, 1, last - room},
	} {
		if err := t.write(f, copy.self, copy.other, copy.entries); err != nil {
			return 0, err
		}
	}
	return start, protect(f, last)
}

func readTable(r io.ReaderAt) (*table, error) {
	errNone := errors.New("the ISO has no partition table that could be extended: build the image with this release")
	header := make([]byte, gptSector)
	if _, err := r.ReadAt(header, gptSector); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header[gptHeaderSize:])
	count := binary.LittleEndian.Uint32(header[gptCount:])
	if string(header[:8]) != gptSignature || size < 92 || size > gptSector || count == 0 || count > 1024 ||
		binary.LittleEndian.Uint32(header[gptEntrySize:]) != gptEntry {
		return nil, errNone
	}
	t := &table{header[:size], make([]byte, count*gptEntry)}
	if _, err := r.ReadAt(t.entries, int64(binary.LittleEndian.Uint64(header[gptTable:]))*gptSector); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(t.entries) != binary.LittleEndian.Uint32(header[gptTableCRC:]) {
		return nil, errNone
	}
	return t, nil
}

// insert gives a partition the first free entry. All others but the one that firmware starts
// from become ones that Windows does not show.
func (t *table) insert(first, last uint64) error {
	var free []byte
	for e := t.entries; len(e) > 0; e = e[gptEntry:] {
		kind := e[:16]
		switch {
		case bytes.Equal(kind, make([]byte, 16)):
			if free == nil {
				free = e[:gptEntry]
			}
		case !bytes.Equal(kind, typeESP):
			copy(kind, typeLinux)
		}
	}
	if free == nil {
		return errors.New("the partition table of the ISO is full")
	}
	copy(free, typeData)
	copy(free[entryGUID:], "unbrick stick da") // unique on the disk, which is all that it needs
	binary.LittleEndian.PutUint64(free[entryStart:], first)
	binary.LittleEndian.PutUint64(free[entryEnd:], last)
	for i, c := range "unbrick reports" {
		binary.LittleEndian.PutUint16(free[entryName+2*i:], uint16(c))
	}
	return nil
}

// write writes one of the two copies of the table, with its header in sector self.
func (t *table) write(f *os.File, self, other, entries uint64) error {
	h := bytes.Clone(t.header)
	binary.LittleEndian.PutUint64(h[gptSelf:], self)
	binary.LittleEndian.PutUint64(h[gptOther:], other)
	binary.LittleEndian.PutUint64(h[gptTable:], entries)
	binary.LittleEndian.PutUint32(h[gptTableCRC:], crc32.ChecksumIEEE(t.entries))
	binary.LittleEndian.PutUint32(h[gptHeaderCRC:], 0)
	binary.LittleEndian.PutUint32(h[gptHeaderCRC:], crc32.ChecksumIEEE(h))
	_, err := f.WriteAt(h, int64(self)*gptSector)
	_, err2 := f.WriteAt(t.entries, int64(entries)*gptSector)
	return errors.Join(err, err2)
}

// protect has the old partition table cover the whole disk, as programs want that know only
// that one. The code beside it, by which a BIOS starts, stays.
func protect(f *os.File, last uint64) error {
	const entry, kind, size = 446, 4, 12
	b := make([]byte, 64)
	if _, err := f.ReadAt(b, entry); err != nil {
		return err
	}
	for e := b; len(e) > 0; e = e[16:] {
		if e[kind] == 0xEE {
			binary.LittleEndian.PutUint32(e[size:], uint32(min(last, 0xFFFFFFFF)))
		}
	}
	_, err := f.WriteAt(b, entry)
	return err
}
