package bitlocker

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// A Mark is what of a checkpoint fits on paper: "1204:9f86d081884c7d65".
type Mark struct {
	Records int
	Head    string // the first hex digits of the hash
}

// markDigits is how many digits of the hash a mark has: nobody finds another ledger with these.
const markDigits = 16

// String writes the mark as ParseMark reads it.
func (m Mark) String() string { return strconv.Itoa(m.Records) + ":" + m.Head }

// ParseMark reads a mark of at least 16 digits.
func ParseMark(s string) (Mark, error) {
	n, head, ok := strings.Cut(strings.TrimSpace(s), ":")
	records, err := strconv.Atoi(n)
	head = strings.ToLower(head)
	if !ok || err != nil || records < 0 || len(head) < markDigits || strings.Trim(head, "0123456789abcdef") != "" {
		return Mark{}, fmt.Errorf("not a checkpoint: it is the number of records, a colon and %d or more digits, such as 1204:9f86d081884c7d65", markDigits)
	}
	return Mark{records, head}, nil
}

// An AuditReport is what was found to be whole.
type AuditReport struct {
	Records     int
	Head        string
	Checkpoints []Checkpoint // beside the ledger
}

// AuditLedger checks the ledger's chain, the checkpoints beside it, and that the ledger still
// goes as far as each of them and each of marks, which were kept elsewhere, say. Without any of
// the latter a tail that was cut off together with its checkpoints is not noticed.
func AuditLedger(path string, marks ...Mark) (a AuditReport, err error) {
	// The checkpoints first: a process that is writing may get ahead of what was read.
	f, err := os.Open(CheckpointsName(path))
	if err == nil {
		defer f.Close()
		if a.Checkpoints, err = ReadCheckpoints(f); err != nil {
			return a, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return a, fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	ledger, err := os.Open(path)
	if err != nil {
		return a, fmt.Errorf("cannot read the ledger: %w", err)
	}
	defer ledger.Close()
	for _, c := range a.Checkpoints {
		marks = append(marks, Mark{c.Records, c.Head})
	}
	a.Records, a.Head, err = readMarked(ledger, marks)
	return a, err
}

// readMarked verifies the ledger and compares it with the marks.
func readMarked(ledger io.Reader, marks []Mark) (n int, head string, err error) {
	longest := 0
	for _, m := range marks {
		longest = max(longest, m.Records)
	}
	n, head, err = ReadLedger(ledger, compare(marks))
	if err == nil && n < longest {
		err = cutOff(n, longest)
	}
	return n, head, err
}

// compare returns what tells a record that is not the one that a mark saw.
func compare(marks []Mark) func(e Event, hash string) error {
	at := map[int][]Mark{}
	for _, m := range marks {
		at[m.Records] = append(at[m.Records], m)
	}
	return func(e Event, hash string) error {
		for _, m := range at[e.Seq] {
			if !strings.HasPrefix(hash, m.Head) {
				return &LedgerError{e.Seq, fmt.Sprintf("is not the one that checkpoint %d:%.16s saw: the ledger was written anew", m.Records, m.Head)}
			}
		}
		return nil
	}
}

func cutOff(has, saw int) error {
	return fmt.Errorf("the ledger has %d records and a checkpoint saw %d: its tail was cut off", has, saw)
}
