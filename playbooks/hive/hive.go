// Package hive reads registry hives of Windows (regf), changes single values in them, and
// replays their transaction logs, all on bytes in memory.
//
// A hive is a base block of 4 KiB, then hive bins, which are divided into cells; cells hold
// keys (nk), values (vk), lists and data, and name each other by their offset. Windows writes
// changed pages to a log (.LOG1, .LOG2) first and to the hive later: after a crash a hive is
// nearly always dirty, which two sequence numbers in the base block say, and behind its log.
//
// Facts are from M. Suhanov, "Windows registry file format specification"; what it leaves open
// about which log applies is done as his program yarp does it. Cells of Windows NT 3 and
// pending transactions (TxR, CLFS) are not understood.
package hive

import (
	"errors"
	"fmt"
	"io/fs"
)

// MaxSize is the size in bytes of the largest hive that is read: they are held in memory.
const MaxSize = 256 << 20

// ErrNotExist means that there is no such key or value. It is fs.ErrNotExist.
var ErrNotExist = fs.ErrNotExist

// ErrFull means that no free cell in the hive is large enough: hives are not grown here.
var ErrFull = errors.New("there is no room in the hive")

// A DamageError says what is wrong with a hive, and where.
type DamageError struct {
	Offset int64 // in the file; -1 for the file as a whole
	Msg    string
}

func (e *DamageError) Error() string {
	if e.Offset < 0 {
		return e.Msg
	}
	return fmt.Sprintf("at %#x: %s", e.Offset, e.Msg)
}

// A Type is the type of a value's data.
type Type uint32

// The types that matter here.
const (
	String       Type = 1 // REG_SZ, UTF-16 with a zero at the end
	ExpandString Type = 2
	Binary       Type = 3
	DWord        Type = 4
	MultiString  Type = 7
	QWord        Type = 11
)

func (t Type) String() string {
	names := []string{"REG_NONE", "REG_SZ", "REG_EXPAND_SZ", "REG_BINARY", "REG_DWORD", "REG_DWORD_BIG_ENDIAN", "REG_LINK",
		"REG_MULTI_SZ", "REG_RESOURCE_LIST", "REG_FULL_RESOURCE_DESCRIPTOR", "REG_RESOURCE_REQUIREMENTS_LIST", "REG_QWORD"}
	if int64(t) < int64(len(names)) {
		return names[t]
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// A Value is one value of a key.
type Value struct {
	Name string // empty for the default value
	Type Type
	Data []byte
}

// A Hive is a primary file in memory that passed the load test. It is not safe for use by
// several goroutines.
type Hive struct {
	b     []byte // the whole file
	bins  []byte // the hive bins in it
	cells set    // where cells begin, in units of 8 bytes
	minor uint32
}

// Open is the load test: it reads a primary file as a whole and fails with a *DamageError
// unless the base block is valid, the bins are whole, and everything that can be reached from
// the root key is there, once. Whether the file is dirty does not matter to it. The Hive keeps
// b and never writes to it.
func Open(b []byte) (*Hive, error) {
	if err := checkBase(b); err != nil {
		return nil, err
	}
	h := &Hive{b: b, minor: get(b, offMinor)}
	size := int64(get(b, offBinsSize))
	if size > int64(len(b)-baseSize) {
		return nil, &DamageError{-1, fmt.Sprintf("it is cut off: its bins have %d bytes and %d are there", size, len(b)-baseSize)}
	}
	h.bins = b[baseSize : baseSize+size]
	if err := h.checkBins(); err != nil {
		return nil, err
	}
	if err := h.checkTree(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Hive) damage(cell uint32, format string, args ...any) error {
	return &DamageError{int64(cell) + baseSize, fmt.Sprintf(format, args...)}
}
