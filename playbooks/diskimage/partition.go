package diskimage

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"unicode/utf16"
)

// typeKind names partitions that are known by their type alone: those whose content is
// nobody's business, and those that hold volumes which cannot be read here. GUIDs as on disk.
func typeKind(guid string) Kind {
	return map[string]Kind{
		"\x16\xe3\xc9\xe3\x5c\x0b\xb8\x4d\x81\x7d\xf9\x2d\xf0\x02\x15\xae": reserved,
		"\x48\x61\x68\x21\x49\x64\x6f\x6e\x74\x4e\x65\x65\x64\x45\x46\x49": reserved, // GRUB, on BIOS
		"\xaa\xc8\x08\x58\x8f\x7e\xe0\x42\x85\xd2\xe1\xe9\x04\x34\xcf\xb3": reserved, // dynamic disk's table
		"\xa0\x60\x9b\xaf\x31\x14\x62\x4f\xbc\x68\x33\x11\x71\x4a\x69\xad": dynamic,
		"\x8f\xaf\x5c\xe7\x80\xf6\xee\x4c\xaf\xa3\xb0\x01\xe5\x6e\xfc\x2d": spaces,
	}[guid]
}

const (
	reserved Kind = "reserved"
	dynamic  Kind = "dynamic disk"
	spaces   Kind = "Storage Spaces"
)

var errDamaged = errors.New("the partition table is damaged, and so is its copy at the end: is the image whole?")

// partitions reads the table of a disk of size bytes. A disk without a table is one
// partition.
func partitions(r io.ReaderAt, size int64) ([]Partition, error) {
	var parts []Partition
	var err error
	sector, isGPT := gptSector(r)
	whole, kerr := kindOf(r, size)
	switch {
	case kerr != nil:
		return nil, kerr
	case isGPT:
		parts, err = gpt(r, size, sector)
	case whole != Unknown && whole != "ISO 9660":
		parts = []Partition{{Size: size}}
	default:
		parts, err = mbr(r)
	}
	if err != nil {
		return nil, err
	}
	for i := range parts {
		identify(r, size, &parts[i])
	}
	return parts, nil
}

// identify looks into the partition. One that Windows could be in, and that cannot be read,
// has an error.
func identify(r io.ReaderAt, size int64, p *Partition) {
	if p.Start < 0 || p.Size <= 0 || p.Start > size || p.Size > size-p.Start {
		p.Kind = Unknown
		p.Err = fmt.Errorf("the image is cut off: the partition ends at byte %d and the image has %d", p.Start+p.Size, size)
		return
	}
	part := io.NewSectionReader(r, p.Start, p.Size)
	if p.Kind == "" {
		p.Kind, p.Err = kindOf(part, p.Size)
	}
	switch p.Kind {
	case NTFS:
		p.Err = fits(part, p.Size)
	case Unknown:
		p.Err = cmp.Or(p.Err, errors.New("nothing known is in it: it is damaged, or encrypted by another product than BitLocker"))
	case ReFS, dynamic, spaces:
		p.Err = fmt.Errorf("%s cannot be read here: use a Windows helper", p.Kind)
	}
}

// gptSector returns the sector size of a GPT disk.
func gptSector(r io.ReaderAt) (int64, bool) {
	b := make([]byte, 8)
	for _, sector := range []int64{512, 4096} {
		if _, err := r.ReadAt(b, sector); err == nil && string(b) == "EFI PART" {
			return sector, true
		}
	}
	// A table that was overwritten leaves the protective MBR: the copy at the end may do.
	mbr := make([]byte, 512)
	if _, err := r.ReadAt(mbr, 0); err == nil && mbr[450] == 0xee && mbr[510] == 0x55 && mbr[511] == 0xaa {
		return 512, true
	}
	return 0, false
}

func gpt(r io.ReaderAt, size, sector int64) ([]Partition, error) {
	for _, at := range []int64{sector, size - sector, size/sector*sector - sector} {
		if parts, err := gptAt(r, at, sector); err == nil {
			return parts, nil
		}
	}
	return nil, errDamaged
}

func gptAt(r io.ReaderAt, at, sector int64) ([]Partition, error) {
	h := make([]byte, 512)
	if _, err := r.ReadAt(h, at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	length := le.Uint32(h[12:])
	if string(h[:8]) != "EFI PART" || length < 92 || length > 512 {
		return nil, errDamaged
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	count, each := int64(le.Uint32(h[80:])), int64(le.Uint32(h[84:]))
	if crc32.ChecksumIEEE(h[:length]) != sum || each < 128 || each > 4096 || count > 4096 || count*each > 1<<20 {
		return nil, errDamaged
	}
	entries := make([]byte, count*each)
	if _, err := r.ReadAt(entries, int64(le.Uint64(h[72:]))*sector); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(h[88:]) {
		return nil, errDamaged
	}
	var parts []Partition
	for i := range count {
		if p, ok := gptEntry(entries[i*each:], sector); ok {
			p.Number = int(i) + 1
			parts = append(parts, p)
		}
	}
	return parts, nil
}

func gptEntry(e []byte, sector int64) (Partition, bool) {
	le := binary.LittleEndian
	kind := string(e[:16])
	if strings.Trim(kind, "\x00") == "" {
		return Partition{}, false
	}
	first, last := int64(le.Uint64(e[32:])), int64(le.Uint64(e[40:]))
	name := make([]uint16, 36)
	for i := range name {
		name[i] = le.Uint16(e[56+2*i:])
	}
	text, _, _ := strings.Cut(string(utf16.Decode(name)), "\x00")
	return Partition{Name: text, Kind: typeKind(kind), Start: first * sector, Size: (last - first + 1) * sector}, true
}

// mbr reads the four entries of a master boot record, and the chain of logical partitions.
func mbr(r io.ReaderAt) ([]Partition, error) {
	var parts []Partition
	entries, err := mbrAt(r, 0)
	if err != nil {
		return nil, err
	}
	logical := 5
	for i, e := range entries {
		if !e.extended {
			if e.size > 0 {
				parts = append(parts, Partition{Number: i + 1, Kind: e.kind, Start: e.start, Size: e.size})
			}
			continue
		}
		// Each link of the chain has one partition and the next link, which is relative to
		// the first. A chain that runs in a circle ends by the limit.
		for next, n := e.start, 0; next > 0 && n < 128; n++ {
			link, err := mbrAt(r, next)
			if err != nil {
				return nil, fmt.Errorf("the chain of logical partitions is broken: %w", err)
			}
			if link[0].size > 0 {
				parts = append(parts, Partition{Number: logical, Start: next + link[0].start, Size: link[0].size})
				logical++
			}
			if next = 0; link[1].extended && link[1].size > 0 {
				next = e.start + link[1].start
			}
		}
	}
	if len(parts) == 0 {
		return nil, errors.New("the partition table has no partition")
	}
	return parts, nil
}

type mbrEntry struct {
	start, size int64
	extended    bool
	kind        Kind // as far as the type tells
}

func mbrAt(r io.ReaderAt, at int64) (e [4]mbrEntry, err error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, at); err != nil {
		return e, fmt.Errorf("the image is cut off: %w", err)
	}
	if b[510] != 0x55 || b[511] != 0xaa {
		return e, errors.New("there is no partition table and no known file system: is it a raw disk image?")
	}
	for i := range e {
		raw := b[446+16*i:]
		if raw[0]&0x7f != 0 {
			return e, errors.New("there is no partition table and no known file system: is it a raw disk image?")
		}
		e[i].start = int64(binary.LittleEndian.Uint32(raw[8:])) * 512
		e[i].size = int64(binary.LittleEndian.Uint32(raw[12:])) * 512
		e[i].extended = raw[4] == 0x05 || raw[4] == 0x0f || raw[4] == 0x85
		switch raw[4] {
		case 0:
			e[i] = mbrEntry{}
		case 0x42:
			e[i].kind = dynamic
		}
	}
	return e, nil
}
