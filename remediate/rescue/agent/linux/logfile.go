package linux

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Log says how Windows left the journal ($LogFile) of an NTFS volume.
//
// Windows 8 and later raise the version to 2.0 while a volume is mounted and go back to 1.1
// at a clean dismount, so a host that stops at boot has an unclean 2.0 log as a rule.
type Log struct {
	Major, Minor int
	Clean        bool
	Empty        bool // all ones: nothing was ever logged, as mkntfs leaves it
}

func (l Log) String() string {
	switch {
	case l.Empty:
		return "empty"
	case l.Clean:
		return fmt.Sprintf("%d.%d clean", l.Major, l.Minor)
	default:
		return fmt.Sprintf("%d.%d unclean", l.Major, l.Minor)
	}
}

// What a boot sector says at offset 3.
const (
	ntfsSignature      = "NTFS    "
	bitlockerSignature = "-FVE-FS-"
)

const (
	restartMagic   = "RSTR"
	logHead        = 64 << 10 // both restart pages are in here, whatever the page size
	noClient       = 0xffff
	restartClean   = 0x0002
	fixupStride    = 512
	restartMinimum = 30 // bytes of the header of a restart page
)

// ParseLog reads the two restart pages at the start of a journal and goes by the newer one.
// It fails if neither can be trusted.
func ParseLog(head []byte) (Log, error) {
	if len(head) < 4096 {
		return Log{}, errors.New("the journal is shorter than a page")
	}
	if len(bytes.Trim(head[:4096], "\xff")) == 0 {
		return Log{Clean: true, Empty: true}, nil
	}
	var best Log
	var newest uint64
	found := false
	// The second page starts one page after the first, wherever that is.
	for at := 0; at+4096 <= len(head); at += 4096 {
		l, lsn, err := parseRestart(head[at:])
		if err != nil {
			continue
		}
		if !found || lsn > newest {
			best, newest, found = l, lsn, true
		}
	}
	if !found {
		return Log{}, errors.New("the journal has no intact restart page")
	}
	return best, nil
}

// parseRestart reads one restart page: its state and the log sequence number it is from.
func parseRestart(b []byte) (Log, uint64, error) {
	le := binary.LittleEndian
	if len(b) < restartMinimum || string(b[:4]) != restartMagic {
		return Log{}, 0, errors.New("not a restart page")
	}
	size := le.Uint32(b[16:])
	if size < fixupStride || size > logHead || size&(size-1) != 0 || int(size) > len(b) {
		return Log{}, 0, fmt.Errorf("page size %d", size)
	}
	page, err := applyFixups(b[:size], restartMagic)
	if err != nil {
		return Log{}, 0, err
	}
	area := int(le.Uint16(page[24:]))
	if area < restartMinimum || area+16 > len(page) {
		return Log{}, 0, fmt.Errorf("restart area at %d", area)
	}
	client, flags := le.Uint16(page[area+12:]), le.Uint16(page[area+14:])
	return Log{
		Major: int(int16(le.Uint16(page[28:]))),
		Minor: int(int16(le.Uint16(page[26:]))),
		Clean: client == noClient || flags&restartClean != 0,
	}, le.Uint64(page[area:]), nil
}

// applyFixups returns a copy of a multi-sector record with the last two bytes of each sector
// put back. It fails if a sector is of another write than the rest.
func applyFixups(record []byte, magic string) ([]byte, error) {
	le := binary.LittleEndian
	if len(record) < 48 || string(record[:4]) != magic {
		return nil, fmt.Errorf("not a %s record", magic)
	}
	at, count := int(le.Uint16(record[4:])), int(le.Uint16(record[6:]))
	if count != len(record)/fixupStride+1 || at+2*count > len(record) {
		return nil, fmt.Errorf("%s record has %d fixups at %d", magic, count, at)
	}
	out := bytes.Clone(record)
	for i := 1; i < count; i++ {
		end := out[i*fixupStride-2 : i*fixupStride]
		if !bytes.Equal(end, record[at:at+2]) {
			return nil, fmt.Errorf("%s record is torn at sector %d", magic, i-1)
		}
		copy(end, record[at+2*i:])
	}
	return out, nil
}

// ReadLog reads the journal's state from an NTFS volume that nobody has mounted for writing.
func ReadLog(volume io.ReaderAt) (Log, error) {
	boot := make([]byte, 512)
	if _, err := volume.ReadAt(boot, 0); err != nil {
		return Log{}, fmt.Errorf("cannot read the boot sector: %w", err)
	}
	g, err := parseBoot(boot)
	if err != nil {
		return Log{}, err
	}
	record := make([]byte, g.record)
	const logRecord = 2 // of the MFT; the first sixteen lie together
	if _, err := volume.ReadAt(record, g.mft+logRecord*g.record); err != nil {
		return Log{}, fmt.Errorf("cannot read the MFT record of the journal: %w", err)
	}
	if record, err = applyFixups(record, "FILE"); err != nil {
		return Log{}, err
	}
	start, length, err := firstRun(record)
	if err != nil {
		return Log{}, err
	}
	head := make([]byte, min(logHead, length*g.cluster))
	if _, err := volume.ReadAt(head, start*g.cluster); err != nil {
		return Log{}, fmt.Errorf("cannot read the journal: %w", err)
	}
	return ParseLog(head)
}

// A geometry says where things are on an NTFS volume, in bytes.
type geometry struct{ cluster, record, mft int64 }

// parseBoot reads an NTFS boot sector.
func parseBoot(b []byte) (geometry, error) {
	if len(b) < 512 || string(b[3:11]) != ntfsSignature {
		return geometry{}, errors.New("not an NTFS boot sector")
	}
	sector := int64(binary.LittleEndian.Uint16(b[11:]))
	perCluster := int64(b[13])
	if b[13] > 0x80 { // a negative power of two since Windows 10: clusters up to 2 MiB
		perCluster = 1 << min(256-int64(b[13]), 32)
	}
	g := geometry{cluster: sector * perCluster}
	if n := int8(b[64]); n > 0 {
		g.record = int64(n) * g.cluster
	} else {
		g.record = 1 << min(-int64(n), 32)
	}
	lcn := int64(binary.LittleEndian.Uint64(b[48:]))
	if g.cluster < 256 || g.cluster > 2<<20 || g.record < 512 || g.record > 64<<10 || lcn <= 0 || lcn > 1<<40 {
		return geometry{}, errors.New("the NTFS boot sector makes no sense")
	}
	g.mft = lcn * g.cluster
	return g, nil
}

// firstRun returns the first run of clusters of a file's unnamed data.
func firstRun(record []byte) (start, length int64, err error) {
	le := binary.LittleEndian
	const data, end = 0x80, 0xffffffff
	for at := int(le.Uint16(record[20:])); at >= 42 && at+64 <= len(record); {
		kind, size := le.Uint32(record[at:]), int(le.Uint32(record[at+4:]))
		if kind == end || size < 24 || size > len(record)-at {
			break
		}
		if attr := record[at : at+size]; kind == data && attr[8] == 1 && attr[9] == 0 && size >= 64 {
			return decodeRun(attr[min(int(le.Uint16(attr[32:])), size):])
		}
		at += size
	}
	return 0, 0, errors.New("the MFT record of the journal has no data outside itself")
}

// decodeRun reads the first pair of a run list: how many clusters, from which on.
func decodeRun(b []byte) (start, length int64, err error) {
	if len(b) > 0 {
		n, m := int(b[0]&15), int(b[0]>>4)
		if n > 0 && n <= 6 && m > 0 && m <= 6 && len(b) > n+m {
			for i := n; i > 0; i-- {
				length = length<<8 | int64(b[i])
			}
			for i := n + m; i > n; i-- {
				start = start<<8 | int64(b[i])
			}
			if length > 0 && length < 1<<40 && start > 0 && start < 1<<40 {
				return start, length, nil
			}
		}
	}
	return 0, 0, errors.New("the run list of the journal makes no sense")
}
