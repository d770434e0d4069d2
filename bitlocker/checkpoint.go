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
	"os"
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
	Head      string    `json:"head"`      // hash of the last record
	Time      time.Time `json:"time"`      // never before that of the checkpoint before
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
	now := time.Now().UTC()
	if n := len(before); n > 0 && now.Before(before[n-1].Time) {
		now = before[n-1].Time // the clock was set back: that must not end the checkpoints
	}
	c := Checkpoint{Records: l.tail.seq, Head: l.tail.head, Time: now, Key: hex.EncodeToString(key.Public().(ed25519.PublicKey))}
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
		if _, rest := dec.Token(); err != nil || rest != io.EOF {
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
		return errors.New("is older than the one before: lines were exchanged")
	}
	return nil
}
