package bitlocker

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A LedgerError says which line of a ledger cannot be trusted, and why.
type LedgerError struct {
	Line   int // 1-based
	Reason string
}

func (e *LedgerError) Error() string {
	return fmt.Sprintf("line %d of the ledger %s", e.Line, e.Reason)
}

// VerifyLedger checks every line and the chain between them. It returns the number of good
// records and the hash of the last one, also beside an error, which is a *[LedgerError] unless
// r could not be read. An incomplete last line is an error: it is what a crash leaves, until
// the ledger is opened again.
func VerifyLedger(r io.Reader) (n int, head string, err error) {
	return ReadLedger(r, nil)
}

// ReadLedger is VerifyLedger that hands every good record to each, with its hash. An error of
// each ends it.
func ReadLedger(r io.Reader, each func(e Event, hash string) error) (n int, head string, err error) {
	t := newTail()
	t.each = each
	torn, err := t.read(r)
	if err == nil && torn != nil {
		err = t.bad("is incomplete, as after a crash: the release in it did not happen")
	}
	return t.seq, t.head, err
}

// A tail is where a ledger ends, and what its next record has to know.
type tail struct {
	seq  int
	size int64 // of the good lines
	head string
	seen map[[16]byte]int // the last record of each release, by fingerprint

	persons []Event                          // what persons asked, approved or were given
	each    func(e Event, hash string) error // if not nil, is told of every record
}

func newTail() tail {
	return tail{head: strings.Repeat("0", 2*sha256.Size), seen: map[[16]byte]int{}}
}

// add moves the tail past a record.
func (t *tail) add(r Event, hash string, size int) {
	t.seq, t.head, t.size = r.Seq, hash, t.size+int64(size)
	if r.Release != nil {
		t.seen[fingerprint(*r.Release)] = r.Seq
	}
	if r.Asked != nil || r.Approved != nil || r.Release != nil && r.Person {
		t.persons = append(t.persons, r)
	}
}

// fingerprint is the same for the same key to the same recipient, wherever it was found, whoever
// contradicted it and by whatever address the recipient came.
func fingerprint(r Release) (f [16]byte) {
	r.Source, r.Address, r.Disagree = "", "", nil
	b, _ := json.Marshal(r) // strings alone: it cannot fail
	h := sha256.Sum256(b)
	copy(f[:], h[:])
	return f
}

// maxLine is the longest line that a ledger may have: whatever is longer is another file.
const maxLine = 64 << 10

// read moves the tail past all good lines in r. It returns the last line if that is incomplete:
// without its newline, or with the zeros a file system puts where it had no time to write.
func (t *tail) read(r io.Reader) (torn []byte, err error) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err == nil && bytes.IndexByte(line, 0) < 0:
			if err := t.check(line); err != nil {
				return nil, err
			}
			continue
		case err == nil, errors.Is(err, io.EOF):
			if len(line) == 0 {
				return nil, nil
			}
			torn = bytes.Clone(line) // looking for the end overwrites it
			if atEOF(in) {
				return torn, nil
			}
			return nil, t.bad("is not a record")
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, t.bad("is not a record: it is too long for one")
		default:
			return nil, err
		}
	}
}

func atEOF(in *bufio.Reader) bool {
	_, err := in.Peek(1)
	return errors.Is(err, io.EOF)
}

// bad says what is wrong with the line after the tail.
func (t *tail) bad(reason string) error { return &LedgerError{t.seq + 1, reason} }

// check verifies one line and moves the tail past it.
func (t *tail) check(line []byte) error {
	cut := len(line) - hashLen
	if cut < 0 || !bytes.HasPrefix(line[cut:], []byte(hashKey)) || !bytes.HasSuffix(line, []byte(hashEnd)) {
		return t.bad("is not a record")
	}
	hash := string(line[cut+len(hashKey) : len(line)-len(hashEnd)])
	if sum(line[:cut]) != hash {
		return t.bad("was changed: its hash is not that of its text")
	}
	var r Event
	if err := json.Unmarshal(line, &r); err != nil {
		return t.bad("is not a record")
	}
	if r.Prev != t.head || r.Seq != t.seq+1 {
		return t.bad("does not follow the one before: lines were removed, added or exchanged")
	}
	t.add(r, hash, len(line))
	if t.each != nil {
		return t.each(r, hash)
	}
	return nil
}
