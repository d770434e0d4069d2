package csv

import (
	"bufio"
	"bytes"
	stdcsv "encoding/csv"
	"errors"
	"fmt"
	"io"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

const (
	peek   = 64 << 10 // of the file, to see what it is
	maxRow = 1 << 20  // bytes; a longer row is a quote that was never closed
)

// A text is the rows of a file, whatever it was encoded in.
type text struct {
	*stdcsv.Reader
	limit   *limit
	comma   rune
	skipped int // lines in front of the header that are none of ours
}

// line returns the line at which the last row began.
func (t *text) line() int {
	n, _ := t.FieldPos(0)
	return n + t.skipped
}

// Read returns the next row, valid until the next call. It fails for good on a row that is
// too long to be one.
func (t *text) Read() ([]string, error) {
	t.limit.row = t.InputOffset()
	return t.Reader.Read()
}

// open finds out what kind of file f is: UTF-8, or UTF-16 with a byte order mark, as Excel
// and PowerShell write it; separated by comma, semicolon or tab. It skips the line "sep=;" of
// Excel and "#TYPE …" of PowerShell.
func open(f io.Reader) (*text, error) {
	raw := bufio.NewReaderSize(f, peek)
	head, err := raw.Peek(peek)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := looksBinary(head); err != nil {
		return nil, err
	}
	// Without a mark it is UTF-8; values that are not are reported one by one, since a file
	// in the code page of some Windows is wrong only where somebody has an umlaut.
	dec := unicode.BOMOverride(transform.Nop)
	in := bufio.NewReaderSize(transform.NewReader(raw, dec), peek)
	if head, err = in.Peek(peek); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	t := &text{comma: 0}
	if t.comma, t.skipped = preamble(head); t.skipped > 0 {
		if _, err := in.Discard(bytes.IndexByte(head, '\n') + 1); err != nil {
			return nil, err
		}
		head, _ = in.Peek(peek)
	}
	if t.comma == 0 {
		t.comma = delimiter(head)
	}
	t.limit = &limit{in: in}
	t.Reader = stdcsv.NewReader(t.limit)
	t.Comma = t.comma
	t.FieldsPerRecord = -1 // counted by us: one short row must not end the reading
	t.ReuseRecord = true   // half the time of a large file
	return t, nil
}

// looksBinary names the files that are given instead of a CSV file most often.
func looksBinary(head []byte) error {
	utf16 := bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff})
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte{0xd0, 0xcf, 0x11, 0xe0}):
		return errors.New("it is an Excel file; save it as \"CSV UTF-8\"")
	case !utf16 && bytes.IndexByte(head, 0) >= 0:
		return fmt.Errorf("it is not text (NUL at byte %d); save it as \"CSV UTF-8\"", bytes.IndexByte(head, 0))
	}
	return nil
}

// preamble recognises a first line that is not the header. It returns the delimiter that the
// line names, or 0, and how many lines to skip.
func preamble(head []byte) (rune, int) {
	line, _, whole := bytes.Cut(head, []byte("\n"))
	line = bytes.TrimSpace(bytes.Trim(bytes.TrimRight(line, "\r\n"), `"`))
	switch {
	case !whole:
		return 0, 0
	case bytes.HasPrefix(line, []byte("#TYPE ")):
		return 0, 1
	case bytes.HasPrefix(line, []byte("sep=")) && len(line) == 5:
		return rune(line[4]), 1
	case string(line) == "sep=": // a tab, trimmed
		return '\t', 1
	}
	return 0, 0
}

// delimiter returns which of comma, semicolon and tab the header has most, outside quotes.
func delimiter(head []byte) rune {
	count := map[byte]int{}
	quoted := false
	for _, c := range head {
		if c == '"' {
			quoted = !quoted
		}
		if c == '\n' && !quoted {
			break
		}
		if !quoted {
			count[c]++
		}
	}
	best := byte(',')
	for _, c := range []byte{';', '\t'} {
		if count[c] > count[best] {
			best = c
		}
	}
	return rune(best)
}

// A limit refuses to read on when a row has grown beyond maxRow, which keeps a forgotten
// quote from pulling the rest of a large file into memory.
type limit struct {
	in   io.Reader
	read int64
	row  int64 // where the row began
}

func (l *limit) Read(p []byte) (int, error) {
	if l.read-l.row > maxRow {
		return 0, fmt.Errorf("a row is longer than %d bytes: a quote is not closed", maxRow)
	}
	n, err := l.in.Read(p)
	l.read += int64(n)
	return n, err
}
