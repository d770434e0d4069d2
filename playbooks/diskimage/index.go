package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"strings"
	"unicode/utf16"

	"www.velocidex.com/golang/go-ntfs/parser"
)

// The library reads every index block that it can and leaves out the others without a word,
// also blocks that are no longer in use. "Not there" must be true here, so the B-tree of a
// directory is walked by the few lines below, and anything wrong in it is an error. Layout:
// ntfs-3g, layout.h, INDEX_ROOT, INDEX_BLOCK, INDEX_ENTRY and FILE_NAME_ATTR.

const (
	dirFlag      = 0x10000000 // of FILE_NAME_ATTR: has an index, that is, is a directory
	hasChild     = 1          // of an index entry: a block comes before it
	isLast       = 2          // of an index entry: it ends the node and has no name
	dosName      = 2          // the 8.3 name of a file that has a long one too
	maxIndex     = 64 << 20   // bytes; a directory of some 500,000 files
	maxBlock     = 64 << 10
	entryHeader  = 16
	nameOffset   = 66 // of the name in FILE_NAME_ATTR
	symlinkTag   = 0xa000000c
	mountPoint   = 0xa0000003
	recordMask   = 1<<48 - 1
	blockHeader  = 24
	nodeHeader   = 16
	rootHeader   = 16
	sectorFixups = 512
)

var errIndex = errors.New("a directory is damaged")

// An entry is one name in a directory.
type entry struct {
	name   string
	record int64
	seq    uint16
	flags  uint32
	tag    uint32 // of the reparse point
}

// Type implements a part of fs.DirEntry.
func (e entry) Type() fs.FileMode {
	switch {
	case e.flags&reparseFlag != 0 && (e.tag == symlinkTag || e.tag == mountPoint):
		return fs.ModeSymlink
	case e.flags&reparseFlag != 0:
		return fs.ModeIrregular
	case e.flags&dirFlag != 0:
		return fs.ModeDir
	}
	return 0
}

// list returns the entries of a directory.
func (v *Volume) list(record int64) ([]entry, error) {
	v.mu.Lock()
	known, ok := v.dirs[record]
	v.mu.Unlock()
	if ok {
		return known, nil
	}
	m, err := v.record(entry{record: record, flags: dirFlag})
	if err != nil {
		return nil, err
	}
	w := &indexWalk{cluster: v.cluster, seen: map[uint64]bool{}}
	root, err := v.all(m, parser.ATTR_TYPE_INDEX_ROOT)
	if err != nil {
		return nil, err
	}
	w.blocks, err = v.all(m, parser.ATTR_TYPE_INDEX_ALLOCATION)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := w.root(root); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.dirs) >= cachedDirs {
		maps.DeleteFunc(v.dirs, func(int64, []entry) bool { return true })
	}
	v.dirs[record] = w.entries
	return w.entries, nil
}

// all reads one attribute of a directory's index to its end.
func (v *Volume) all(m *parser.MFT_ENTRY, kind uint64) ([]byte, error) {
	a, r, err := v.stream(m, kind, indexName)
	if err != nil {
		return nil, err
	}
	n := a.DataSize()
	if n < 0 || n > maxIndex {
		return nil, fmt.Errorf("%w: its index has %d bytes", errIndex, n)
	}
	b := make([]byte, n)
	if got, err := io.ReadFull(io.NewSectionReader(r, 0, n), b); err != nil {
		return nil, fmt.Errorf("%w: %d of the %d bytes of its index can be read", errIndex, got, n)
	}
	return b, nil
}

// An indexWalk walks a directory's B-tree and collects its names in order.
type indexWalk struct {
	cluster int64
	block   int64 // size of a block
	blocks  []byte
	seen    map[uint64]bool
	entries []entry
}

func (w *indexWalk) root(b []byte) error {
	if len(b) < rootHeader+nodeHeader {
		return errIndex
	}
	w.block = int64(binary.LittleEndian.Uint32(b[8:]))
	if w.block < sectorFixups || w.block > maxBlock {
		return fmt.Errorf("%w: its blocks have %d bytes", errIndex, w.block)
	}
	return w.node(b[rootHeader:])
}

// node reads the entries of one node, which begins with the header that says where they are.
func (w *indexWalk) node(b []byte) error {
	le := binary.LittleEndian
	if len(b) < nodeHeader {
		return errIndex
	}
	at, end := int64(le.Uint32(b)), int64(le.Uint32(b[4:]))
	if end > int64(len(b)) {
		return fmt.Errorf("%w: a node ends at %d of %d", errIndex, end, len(b))
	}
	for at+entryHeader <= end {
		e := b[at:end]
		length, key, flags := int64(le.Uint16(e[8:])), int(le.Uint16(e[10:])), le.Uint16(e[12:])
		if length < entryHeader || length > int64(len(e)) {
			return fmt.Errorf("%w: an entry has %d bytes", errIndex, length)
		}
		if flags&hasChild != 0 {
			if length < entryHeader+8 {
				return errIndex
			}
			if err := w.child(le.Uint64(e[length-8:])); err != nil {
				return err
			}
		}
		if flags&isLast != 0 {
			return nil
		}
		if int64(entryHeader+key) > length {
			return fmt.Errorf("%w: a name is longer than its entry", errIndex)
		}
		if err := w.name(le.Uint64(e), e[entryHeader:entryHeader+key]); err != nil {
			return err
		}
		at += length
	}
	return fmt.Errorf("%w: a node has no end", errIndex)
}

// child reads the block with virtual cluster number vcn, which counts clusters, or sectors
// where a cluster is larger than a block.
func (w *indexWalk) child(vcn uint64) error {
	unit := int64(sectorFixups)
	if w.cluster <= w.block {
		unit = w.cluster
	}
	if w.seen[vcn] || vcn > maxIndex || int64(vcn)*unit+w.block > int64(len(w.blocks)) {
		return fmt.Errorf("%w: block %d is not in its index, or twice", errIndex, vcn)
	}
	w.seen[vcn] = true
	b := bytes.Clone(w.blocks[int64(vcn)*unit:][:w.block])
	if string(b[:4]) != "INDX" {
		return fmt.Errorf("%w: block %d is not one", errIndex, vcn)
	}
	if err := unfix(b); err != nil {
		return err
	}
	return w.node(b[blockHeader:])
}

// unfix puts back the last two bytes of each sector, where NTFS has a number that shows
// whether the whole block was written.
func unfix(b []byte) error {
	le := binary.LittleEndian
	at, count := int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	if count != len(b)/sectorFixups+1 || at+2*count > len(b) {
		return fmt.Errorf("%w: a block has no fixups", errIndex)
	}
	for i := 1; i < count; i++ {
		end := b[i*sectorFixups-2 : i*sectorFixups]
		if !bytes.Equal(end, b[at:at+2]) {
			return fmt.Errorf("%w: a block was not written to its end", errIndex)
		}
		copy(end, b[at+2*i:])
	}
	return nil
}

func (w *indexWalk) name(ref uint64, key []byte) error {
	le := binary.LittleEndian
	if len(key) < nameOffset || len(key) < nameOffset+2*int(key[64]) {
		return fmt.Errorf("%w: a name is cut off", errIndex)
	}
	units := make([]uint16, key[64])
	for i := range units {
		units[i] = le.Uint16(key[nameOffset+2*i:])
	}
	e := entry{name: string(utf16.Decode(units)), record: int64(ref & recordMask), seq: uint16(ref >> 48),
		flags: le.Uint32(key[56:]), tag: le.Uint32(key[60:])}
	if key[65] == dosName || e.record <= lastMeta {
		return nil
	}
	if e.name == "" || e.name == "." || e.name == ".." || strings.ContainsAny(e.name, "/\x00") {
		return fmt.Errorf("%w: it holds the name %q", errIndex, e.name)
	}
	w.entries = append(w.entries, e)
	return nil
}
