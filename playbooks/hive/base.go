package hive

import (
	"encoding/binary"
	"fmt"
	"time"
)

// The base block. Offsets are those of the specification.
const (
	baseSize     = 4096
	sectorSize   = 512
	pageSize     = 4096
	offPrimary   = 4
	offSecondary = 8
	offWritten   = 12
	offMajor     = 20
	offMinor     = 24
	offType      = 28
	offFormat    = 32
	offRoot      = 36
	offBinsSize  = 40
	offFlags     = 144
	offChecksum  = 508

	typePrimary = 0
	typeLogXP   = 1
	typeLog2000 = 2
	typeLog     = 6
)

func get(b []byte, at int) uint32           { return binary.LittleEndian.Uint32(b[at:]) }
func put(b []byte, at int, v uint32)        { binary.LittleEndian.PutUint32(b[at:], v) }
func get16(b []byte, at int) int            { return int(binary.LittleEndian.Uint16(b[at:])) }
func put16(b []byte, at int, v int)         { binary.LittleEndian.PutUint16(b[at:], uint16(v)) }
func written(b []byte) uint64               { return binary.LittleEndian.Uint64(b[offWritten:]) }
func putTime(b []byte, at int, t time.Time) { binary.LittleEndian.PutUint64(b[at:], fileTime(t)) }

// fileTime is t in units of 100 ns since 1601.
func fileTime(t time.Time) uint64 {
	const to1970 = 11644473600
	return uint64(t.Unix()+to1970)*1e7 + uint64(t.Nanosecond()/100)
}

// Written returns the last-write time in the base block of a primary file, zero if there is
// no base block.
func Written(b []byte) time.Time {
	if len(b) < sectorSize {
		return time.Time{}
	}
	const to1970 = 11644473600
	ft := written(b)
	return time.Unix(int64(ft/1e7)-to1970, int64(ft%1e7)*100).UTC()
}

// checksum is that of a base block; two values are never stored.
func checksum(b []byte) uint32 {
	var c uint32
	for at := 0; at < offChecksum; at += 4 {
		c ^= get(b, at)
	}
	switch c {
	case 0:
		return 1
	case 0xffffffff:
		return 0xfffffffe
	}
	return c
}

func seal(b []byte) { put(b, offChecksum, checksum(b)) }

// Dirty says that a write to the primary file did not come to its end: its base block is not
// valid, or its sequence numbers differ. Windows then replays the logs when it loads it.
func Dirty(b []byte) bool {
	return checkBase(b) != nil || get(b, offPrimary) != get(b, offSecondary)
}

// checkBase checks the base block of a primary file.
func checkBase(b []byte) error {
	if err := checkHeader(b); err != nil {
		return err
	}
	wrong := func(what string, v uint32) error {
		return &DamageError{0, fmt.Sprintf("the base block has the %s %d", what, v)}
	}
	switch {
	case len(b) < baseSize+pageSize:
		return &DamageError{-1, fmt.Sprintf("it has %d bytes: that is no hive", len(b))}
	case len(b) > MaxSize:
		return &DamageError{-1, fmt.Sprintf("it has %d bytes, more than can be read here", len(b))}
	case get(b, offType) != typePrimary:
		return wrong("file type", get(b, offType))
	}
	return nil
}

// checkHeader checks what the base blocks of primary files and of logs have in common.
func checkHeader(b []byte) error {
	wrong := func(what string, v uint32) error {
		return &DamageError{0, fmt.Sprintf("the base block has the %s %d", what, v)}
	}
	switch {
	case len(b) < sectorSize || string(b[:4]) != "regf":
		return &DamageError{0, "it does not begin as a hive does (regf)"}
	case get(b, offChecksum) != checksum(b):
		return &DamageError{0, "the checksum of the base block is wrong"}
	case get(b, offMajor) != 1:
		return wrong("major version", get(b, offMajor))
	case get(b, offMinor) < 3 || get(b, offMinor) > 6:
		return wrong("minor version", get(b, offMinor))
	case get(b, offFormat) != 1:
		return wrong("format", get(b, offFormat))
	case get(b, offBinsSize) < pageSize || get(b, offBinsSize)%pageSize != 0 || get(b, offBinsSize) > MaxSize:
		return wrong("size of bins", get(b, offBinsSize))
	}
	return nil
}
