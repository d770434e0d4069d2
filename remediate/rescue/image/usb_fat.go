package image

import (
	"encoding/binary"
	"fmt"
	"os"
)

// formatFAT writes an empty FAT16 file system of size bytes, from 16 to 128 MiB, at an offset
// of f, where there are only zeros. The label has 11 characters.
func formatFAT(f *os.File, offset, size int64, label string, serial uint32) error {
	const (
		sector   = 512
		cluster  = 4 // sectors
		reserved = 4 // sectors; the boot sector is the first
		entries  = 512
		fats     = 2
	)
	if len(label) != 11 || size < 16<<20 || size > 128<<20 {
		return fmt.Errorf("cannot make a file system of %d bytes called %q", size, label)
	}
	sectors := uint32(size / sector)
	fat := (sectors/cluster+2)*2/sector + 1 // a little more than it needs
	b := make([]byte, sector)
	copy(b, "\xEB\x3C\x90UNBRICK ") // a jump to no code: nothing starts from here
	binary.LittleEndian.PutUint16(b[11:], sector)
	b[13] = cluster
	binary.LittleEndian.PutUint16(b[14:], reserved)
	b[16] = fats
	binary.LittleEndian.PutUint16(b[17:], entries)
	b[21] = 0xF8                                              // a disk that does not come out
	binary.LittleEndian.PutUint16(b[22:], uint16(fat))        //
	binary.LittleEndian.PutUint16(b[24:], 32)                 // sectors on a track and
	binary.LittleEndian.PutUint16(b[26:], 64)                 // heads, of which it has none
	binary.LittleEndian.PutUint32(b[28:], uint32(offset/512)) // sectors before it
	if sectors < 1<<16 {
		binary.LittleEndian.PutUint16(b[19:], uint16(sectors))
	} else {
		binary.LittleEndian.PutUint32(b[32:], sectors)
	}
	b[36], b[38] = 0x80, 0x29 // drive, and: the next three fields are there
	binary.LittleEndian.PutUint32(b[39:], serial)
	copy(b[43:], label+"FAT16   ")
	b[510], b[511] = 0x55, 0xAA

	root := make([]byte, 32) // its first entry is the label
	copy(root, label)
	root[11] = 0x08
	writes := map[int64][]byte{0: b, int64(reserved+fats*fat) * sector: root}
	for n := range uint32(fats) {
		writes[int64(reserved+n*fat)*sector] = []byte{0xF8, 0xFF, 0xFF, 0xFF}
	}
	for at, what := range writes {
		if _, err := f.WriteAt(what, offset+at); err != nil {
			return err
		}
	}
	return nil
}
