package bitlocker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Release is one key that went out: which, to whom, from where. It holds no digit of it. One
// that is Withheld did not go out: escrows disagree about it. One that names an Account is of
// the password of that local account of the host, and of no key: its ID is zero.
type Release struct {
	Query
	Recipient
	Account  string     `json:"account,omitempty"`
	Source   string     `json:"source"`             // the escrow that had it
	Disagree [][]string `json:"disagree,omitempty"` // escrows that hold different keys for this id, a group each
	Withheld bool       `json:"withheld,omitempty"` // so nothing was given out
}

// A Ledger is a file that holds every release, a line each: append only, every line chained to
// the one before by its SHA-256, so that nothing in it can be changed unnoticed. What it cannot
// show is that its tail was cut off or that all of it was written anew: keep a [Checkpoint]
// somewhere else for that.
//
// Several processes may write one ledger, and each goes on where the other ended. It has to be
// on a local disk.
type Ledger struct {
	mu   sync.Mutex
	path string
	f    *os.File
	tail tail

	signed int // records when this process last signed a checkpoint
	floor  int // records that a checkpoint saw before this process began
}

// OpenLedger opens the ledger, or creates it for its owner alone. It reads all of it and
// refuses one whose chain is broken, with a *[LedgerError], or that does not go as far as the
// last checkpoint beside it. A last line that a crash cut short belongs to a key that never
// left: it is moved into a record of its own.
func OpenLedger(path string) (*Ledger, error) {
	path, err := filepath.Abs(path) // the process may change its directory, the ledger stays
	if err != nil {
		return nil, fmt.Errorf("cannot open ledger: %w", err)
	}
	f, err := openLedgerFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open ledger: %w", err)
	}
	l := &Ledger{path: path, f: f, tail: newTail()}
	if err := l.locked(context.Background(), l.start); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot open ledger %s: %w", path, err)
	}
	return l, nil
}

// openLedgerFile opens a regular file and makes sure that its name survives a crash.
func openLedgerFile(path string) (*os.File, error) {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync() // Windows cannot, and does not need it
		dir.Close()
	}
	return f, nil
}

// start reads the ledger and makes sure that it goes as far as its last checkpoint. Without
// checkpoints, or with some that cannot be read, there is nothing to go by: keys audit says so.
func (l *Ledger) start() error {
	if f, err := os.Open(CheckpointsName(l.path)); err == nil {
		defer f.Close()
		if all, err := ReadCheckpoints(f); err == nil && len(all) > 0 {
			l.floor = all[len(all)-1].Records
			l.tail.each = compare([]Mark{{l.floor, all[len(all)-1].Head}})
		}
	}
	err := l.catchUp()
	if err == nil && l.tail.seq < l.floor {
		err = cutOff(l.tail.seq, l.floor)
	}
	l.signed, l.tail.each = l.tail.seq, nil
	return err
}

// Record writes r and returns once it is on stable storage. A release that the same recipient
// was given before is recorded again, and says which record it repeats.
func (l *Ledger) Record(ctx context.Context, r Release) error {
	return l.locked(ctx, func() error {
		if err := l.catchUp(); err != nil {
			return err
		}
		return l.append(Event{Release: &r, Again: l.tail.seen[fingerprint(r)]})
	})
}

// RecordIf writes what a person asked, approved or was given, on the condition that allow
// agrees. Nobody else writes between the two: what allow was told of is all that persons did
// before. Its error is returned as it is, and nothing is written then.
func (l *Ledger) RecordIf(ctx context.Context, e Event, allow func(past []Event) error) error {
	return l.locked(ctx, func() error {
		if err := l.catchUp(); err != nil {
			return err
		}
		if err := allow(slices.Clip(l.tail.persons)); err != nil {
			return err
		}
		line := Event{Release: e.Release, Asked: e.Asked, Approved: e.Approved}
		if e.Release != nil {
			line.Again = l.tail.seen[fingerprint(*e.Release)]
		}
		return l.append(line)
	})
}

// Past returns all that persons asked, approved or were given, in order.
func (l *Ledger) Past(ctx context.Context) (past []Event, err error) {
	err = l.locked(ctx, func() error {
		err := l.catchUp()
		past = slices.Clip(l.tail.persons)
		return err
	})
	return past, err
}

// Head returns how many records there are and the hash of the last one, as this process knows
// them.
func (l *Ledger) Head() (n int, hash string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tail.seq, l.tail.head
}

// Close signs a checkpoint if this process wrote anything, and closes the file.
func (l *Ledger) Close() error {
	l.mu.Lock()
	wrote := l.tail.seq > l.signed
	l.mu.Unlock()
	var err error
	if wrote {
		_, err = l.Checkpoint(context.Background())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(err, l.f.Close())
}

// lockPoll is how often a process looks whether another one has let go of the ledger. It is
// held for one fsync.
const lockPoll = 2 * time.Millisecond

// locked calls f while no other goroutine or process touches the ledger.
func (l *Ledger) locked(ctx context.Context, f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		ok, err := tryLock(l.f)
		if err != nil {
			return fmt.Errorf("cannot lock it: %w", err)
		}
		if ok {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process holds it: %w", ctx.Err())
		case <-time.After(lockPoll):
		}
	}
	defer unlock(l.f)
	if err := ctx.Err(); err != nil {
		return err
	}
	return f()
}

// catchUp reads what other processes have written since, and clears away what a crash left.
func (l *Ledger) catchUp() error {
	fi, err := l.f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(l.path); err != nil || !os.SameFile(now, fi) {
		return errors.New("the file was moved or removed while in use; put it back, or start again with a new one")
	}
	if fi.Size() == l.tail.size {
		return nil
	}
	if fi.Size() < l.tail.size {
		return errors.New("the file has become shorter: records were removed from it")
	}
	torn, err := l.tail.read(io.NewSectionReader(l.f, l.tail.size, fi.Size()-l.tail.size))
	if err != nil || torn == nil {
		return err
	}
	if l.tail.seq < l.floor {
		return cutOff(l.tail.seq, l.floor) // what a checkpoint saw was whole: no crash did that
	}
	if err := l.f.Truncate(l.tail.size); err != nil {
		return fmt.Errorf("cannot cut off an incomplete line: %w", err)
	}
	return l.append(Event{Cut: string(torn[:min(len(torn), maxCut)])})
}

// append writes one record and syncs it, or leaves the file as it was.
func (l *Ledger) append(r Event) error {
	r.Seq, r.Time, r.Prev = l.tail.seq+1, time.Now().UTC(), l.tail.head
	line, hash, err := r.line()
	if err != nil {
		return err
	}
	if len(line) > maxLine {
		return fmt.Errorf("a record of %d bytes is too long for the ledger", len(line))
	}
	_, err = l.f.WriteAt(line, l.tail.size)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		// If this fails too, the next catchUp finds an incomplete line, or a whole one: a
		// release on record that did not happen, never the other way round.
		_ = l.f.Truncate(l.tail.size)
		return err
	}
	l.tail.add(r, hash, len(line))
	if l.tail.seq-l.signed >= checkpointEvery {
		// A release that is on record is not held up by it: the next record tries again.
		_, _ = l.checkpoint()
	}
	return nil
}
