package hive

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
)

// A Write is a change to a clean hive in the order in which Windows makes one, so that it can
// be cut off anywhere: written are first Log to a log, then Begun and Filled to the primary
// file, then Done. Up to Begun the file is the old one; from there to Done it is dirty, and
// whoever loads it replays Log, which makes of it what Done has.
type Write struct {
	Log    []byte // over the beginning of a log; nil if there is no log to write to
	Begun  []byte // the old file, marked as dirty
	Filled []byte // the new pages, still marked
	Done   []byte
}

// Plan returns the Write that makes next of old, a clean file of the same size. The log is in
// the format that the logs of the hive are in, and in that of Windows 8.1 if they tell nothing;
// log is the present content of the one that is written to, which is kept behind the entry.
func Plan(old, next, log []byte, logs ...Log) (Write, error) {
	if Dirty(old) || Dirty(next) || len(old) != len(next) || get(old, offBinsSize) != get(next, offBinsSize) {
		return Write{}, errors.New("only a clean hive is changed, and into one of its size")
	}
	w := Write{Done: next}
	sequence := get(next, offPrimary) - 1
	header := bytes.Clone(next[:baseSize])
	put(header, offPrimary, sequence+1)
	put(header, offSecondary, sequence)
	seal(header)
	w.Begun = append(slices.Clone(header), old[baseSize:]...)
	w.Filled = append(header, next[baseSize:]...)
	w.Log = overlay(log, logOf(old, next, sequence, format(logs)))
	return w, nil
}

// format is the file type that the logs of a hive have.
func format(logs []Log) uint32 {
	for _, l := range logs {
		if checkHeader(l.Content) != nil {
			continue
		}
		if kind := get(l.Content, offType); kind == typeLogXP || kind == typeLog2000 || kind == typeLog {
			return kind
		}
	}
	return typeLog
}

// overlay puts a log over the beginning of another, and ends it there.
func overlay(old, log []byte) []byte {
	if len(old) <= len(log) {
		return log
	}
	b := bytes.Clone(old)
	n := copy(b, log)
	clear(b[n:min(n+sectorSize, len(b))])
	return b
}

// logOf returns a log with the pages in which next differs from old.
func logOf(old, next []byte, sequence, kind uint32) []byte {
	base := bytes.Clone(next[:sectorSize])
	put(base, offType, kind)
	put(base, offPrimary, sequence)
	put(base, offSecondary, sequence)
	seal(base)
	size := get(next, offBinsSize)
	var changed []uint32
	for at := uint32(0); at < size; at += pageSize {
		if !bytes.Equal(old[baseSize+at:baseSize+at+pageSize], next[baseSize+at:baseSize+at+pageSize]) {
			changed = append(changed, at)
		}
	}
	if kind != typeLog {
		return append(base, vector(next, size, changed)...)
	}
	return append(base, newEntry(next, size, sequence, changed)...)
}

func newEntry(next []byte, size, sequence uint32, changed []uint32) []byte {
	le := binary.LittleEndian
	e := make([]byte, logHeader)
	copy(e, "HvLE")
	put(e, 8, get(next, offFlags))
	put(e, 12, sequence)
	put(e, 16, size)
	put(e, 20, uint32(len(changed)))
	for _, at := range changed {
		e = le.AppendUint32(le.AppendUint32(e, at), pageSize)
	}
	for _, at := range changed {
		e = append(e, next[baseSize+at:baseSize+at+pageSize]...)
	}
	e = fillSector(e)
	put(e, 4, uint32(len(e)))
	le.PutUint64(e[24:], marvin(marvinSeed, e[logHeader:]))
	le.PutUint64(e[32:], marvin(marvinSeed, e[:32]))
	return e
}

func vector(next []byte, size uint32, changed []uint32) []byte {
	v := append([]byte("DIRT"), make([]byte, size/pageSize)...)
	for _, at := range changed {
		v[4+at/pageSize] = 0xff
	}
	v = fillSector(v)
	for _, at := range changed {
		v = append(v, next[baseSize+at:baseSize+at+pageSize]...)
	}
	return v
}

func fillSector(b []byte) []byte {
	return append(b, make([]byte, -len(b)&(sectorSize-1))...)
}
