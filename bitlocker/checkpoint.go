package bitlocker

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// checkpointEvery is how many records go on the ledger between two checkpoints, beside the one
// when it is closed.
const checkpointEvery = 1000

// A Checkpoint says how long a ledger was at a time, signed with a key of its own. The key lies
// beside the ledger: whoever owns that disk can cut the ledger's tail and sign again. What
// cannot be undone there is a checkpoint that was copied elsewhere.
type Checkpoint struct {
	Records   int       `json:"records"`
	Head      string    `json:"head"` // hash of the last record
	Time      time.Time `json:"time"`
	Key       string    `json:"key"`       // hex of the Ed25519 public key
	Signature string    `json:"signature"` // base64, of what signedText says
}

// Mark returns the checkpoint as a person writes it down.
func (c Checkpoint) Mark() Mark { return Mark{c.Records, c.Head[:markDigits]} }

// signedText is what the signature covers, made so that nobody needs JSON to check it.
func (c Checkpoint) signedText() []byte {
	return fmt.Appendf(nil, "unbrick ledger checkpoint v1\n%d\n%s\n%s\n", c.Records, c.Head, c.Time.UTC().Format(time.RFC3339Nano))
}

// verify checks the form and the signature.
func (c Checkpoint) verify() error {
	key, err := hex.DecodeString(c.Key)
	if err != nil || len(key) != ed25519.PublicKeySize || len(c.Head) != len(newTail().head) || c.Records < 0 {
		return errors.New("is not a checkpoint")
	}
	sig, err := base64.StdEncoding.DecodeString(c.Signature)
	if err != nil || !ed25519.Verify(key, c.signedText(), sig) {
		return errors.New("was changed: its signature is not that of its text")
	}
	return nil
}

// CheckpointsName and signKeyName say where the checkpoints of a ledger are, and what signs
// them.
func CheckpointsName(ledger string) string { return ledger + ".checkpoints" }
func signKeyName(ledger string) string     { return ledger + ".key" }

// Checkpoint signs how long the ledger is now, and appends that to the file of CheckpointsName.
// One that was signed before and still holds is returned as it is.
func (l *Ledger) Checkpoint(ctx context.Context) (c Checkpoint, err error) {
	err = l.locked(ctx, func() error {
		if err := l.catchUp(); err != nil {
			return err
		}
		c, err = l.checkpoint()
		return err
	})
	return c, err
}

// checkpoint is Checkpoint under the lock.
func (l *Ledger) checkpoint() (Checkpoint, error) {
	f, err := os.OpenFile(CheckpointsName(l.path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("cannot write a checkpoint: %w", err)
	}
	defer f.Close()
	before, size, err := readCheckpoints(f)
	if err != nil {
		return Checkpoint{}, err
	}
	if n := len(before); n > 0 && before[n-1].Records == l.tail.seq && before[n-1].Head == l.tail.head {
		l.signed = l.tail.seq
		return before[n-1], nil
	}
	if n := len(before); n > 0 && before[n-1].Records > l.tail.seq {
		return Checkpoint{}, cutOff(l.tail.seq, before[n-1].Records)
	}
	key, err := signKey(signKeyName(l.path), len(before) == 0)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("cannot sign a checkpoint: %w", err)
	}
	c := Checkpoint{Records: l.tail.seq, Head: l.tail.head, Time: time.Now().UTC(), Key: hex.EncodeToString(key.Public().(ed25519.PublicKey))}
	c.Signature = base64.StdEncoding.EncodeToString(ed25519.Sign(key, c.signedText()))
	if err := writeCheckpoint(f, c, size); err != nil {
		return Checkpoint{}, fmt.Errorf("cannot write a checkpoint: %w", err)
	}
	l.signed = l.tail.seq
	return c, nil
}

// writeCheckpoint puts c after the first size bytes: what follows them a crash cut short.
func writeCheckpoint(f *os.File, c Checkpoint, size int64) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if _, err := f.WriteAt(append(line, '\n'), size); err != nil {
		return err
	}
	return f.Sync()
}

// ReadCheckpoints returns the checkpoints in r, each of whose signatures was checked. All are
// by one key, and none is shorter or older than the one before.
func ReadCheckpoints(r io.Reader) ([]Checkpoint, error) {
	all, _, err := readCheckpoints(r)
	return all, err
}

// readCheckpoints returns the size of the whole lines too.
func readCheckpoints(r io.Reader) (all []Checkpoint, size int64, err error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	for line := range bytes.Lines(whole) {
		var c Checkpoint
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields() // a field that nobody reads is a field that nobody signed
		err := dec.Decode(&c)
		if err != nil {
			err = errors.New("is not a checkpoint")
		} else if err = c.verify(); err == nil && len(all) > 0 {
			err = follows(all[len(all)-1], c)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("line %d of the checkpoints %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	return all, int64(len(whole)), nil
}

func follows(before, c Checkpoint) error {
	switch {
	case c.Key != before.Key:
		return errors.New("is signed by another key than the one before")
	case c.Records < before.Records:
		return fmt.Errorf("has %d records, fewer than the %d before: the ledger lost some", c.Records, before.Records)
	case c.Time.Before(before.Time):
		return errors.New("is older than the one before: the clock was set back, or lines were exchanged")
	}
	return nil
}

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
	at := map[int][]Mark{}
	longest := 0
	for _, m := range marks {
		at[m.Records] = append(at[m.Records], m)
		longest = max(longest, m.Records)
	}
	n, head, err = ReadLedger(ledger, func(e Event, hash string) error {
		for _, m := range at[e.Seq] {
			if !strings.HasPrefix(hash, m.Head) {
				return &LedgerError{e.Seq, fmt.Sprintf("is not the one that checkpoint %s saw: the ledger was written anew", m)}
			}
		}
		return nil
	})
	if err == nil && n < longest {
		err = cutOff(n, longest)
	}
	return n, head, err
}

func cutOff(has, saw int) error {
	return fmt.Errorf("the ledger has %d records and a checkpoint saw %d: its tail was cut off", has, saw)
}
