package hive

import (
	"encoding/binary"
	"fmt"
)

// An entry is one write to a hive: pages to put in their places, all or none.
type entry struct {
	sequence uint32
	flags    uint32
	binsSize uint32
	pages    []page
}

// A page is a piece of the bins.
type page struct {
	at   uint32 // in the bins
	data []byte // in the log
}

// A journal is a transaction log whose base block is valid.
type journal struct {
	name    string
	base    []byte // one sector
	kind    uint32
	entries []entry // as far as they are whole and follow each other
	why     string  // what ended them
}

func (j *journal) first() uint32 { return get(j.base, offPrimary) }

// logHeader is the size of an entry before its page references.
const logHeader = 40

// readLog reads a transaction log. An error says why it is none, or not whole.
func readLog(l Log) (*journal, error) {
	b := l.Content
	if len(b) == 0 {
		return nil, fmt.Errorf("%s is empty", l.Name)
	}
	if err := checkHeader(b); err != nil {
		return nil, fmt.Errorf("%s: %w", l.Name, err)
	}
	j := &journal{name: l.Name, base: b[:sectorSize], kind: get(b, offType)}
	switch {
	case j.first() != get(b, offSecondary):
		return nil, fmt.Errorf("%s was not written to its end", l.Name)
	case j.kind == typeLog:
		j.readEntries(b)
	case j.kind == typeLogXP || j.kind == typeLog2000:
		if err := j.readVector(b); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
	default:
		return nil, fmt.Errorf("%s is not a transaction log (type %d)", l.Name, j.kind)
	}
	if len(j.entries) == 0 {
		return nil, fmt.Errorf("%s holds nothing: %s", l.Name, j.why)
	}
	return j, nil
}

// readEntries reads the format of Windows 8.1 and later, up to the first entry that is not
// whole or not the next one: what follows is older.
func (j *journal) readEntries(b []byte) {
	want := j.first()
	for at := sectorSize; ; want++ {
		e, size, err := readEntry(b[at:])
		if err == nil && e.sequence != want {
			err = fmt.Errorf("the entry there is %d, not %d", e.sequence, want)
		}
		if err != nil {
			j.why = fmt.Sprintf("at %#x: %v", at, err)
			return
		}
		j.entries = append(j.entries, e)
		at += size
	}
}

func readEntry(b []byte) (e entry, size int, err error) {
	if len(b) < logHeader || string(b[:4]) != "HvLE" {
		return e, 0, fmt.Errorf("no entry begins here")
	}
	n := int64(get(b, 4))
	if n < sectorSize || n%sectorSize != 0 || n > int64(len(b)) {
		return e, 0, fmt.Errorf("an entry has %d bytes", n)
	}
	b = b[:n]
	le := binary.LittleEndian
	if le.Uint64(b[32:]) != marvin(marvinSeed, b[:32]) || le.Uint64(b[24:]) != marvin(marvinSeed, b[logHeader:]) {
		return e, 0, fmt.Errorf("an entry was not written to its end")
	}
	e = entry{flags: get(b, 8), sequence: get(b, 12), binsSize: get(b, 16)}
	count := int64(get(b, 20))
	data := logHeader + 8*count
	if count == 0 || data > n || e.binsSize%pageSize != 0 {
		return e, 0, fmt.Errorf("an entry has %d pages for %d bytes of bins", count, e.binsSize)
	}
	for i := range int(count) {
		p := page{at: get(b, logHeader+8*i)}
		size := int64(get(b, logHeader+8*i+4))
		if data+size > n {
			return e, 0, fmt.Errorf("an entry is shorter than its pages")
		}
		p.data = b[data : data+size]
		data += size
		e.pages = append(e.pages, p)
	}
	return e, int(n), nil
}

// readVector reads the older format: one bit for each 512 bytes of the bins, then those that
// changed.
func (j *journal) readVector(b []byte) error {
	size := get(b, offBinsSize)
	vector := int(size / pageSize)
	data := (sectorSize + 4 + vector + sectorSize - 1) / sectorSize * sectorSize
	if len(b) < data || string(b[sectorSize:sectorSize+4]) != "DIRT" {
		j.why = "no list of changed pages begins in its second sector"
		return nil
	}
	bitmap := b[sectorSize+4:]
	e := entry{sequence: j.first(), flags: get(b, offFlags), binsSize: size}
	for i := range vector * 8 {
		if bitmap[i/8]&(1<<(i%8)) == 0 {
			continue
		}
		if len(b) < data+sectorSize {
			return fmt.Errorf("it is cut off")
		}
		e.pages = append(e.pages, page{uint32(i) * sectorSize, b[data : data+sectorSize]})
		data += sectorSize
	}
	if len(e.pages) == 0 {
		j.why = "no page is marked"
		return nil
	}
	j.entries = []entry{e}
	return nil
}
