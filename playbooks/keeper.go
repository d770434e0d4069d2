package playbooks

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
)

// A DirKeeper keeps copies in a directory: each content once, under its SHA-256, and a line
// of JSON (a [File]) per file in index.jsonl. Files are readable by their owner alone. One
// process uses a directory at a time.
type DirKeeper struct {
	dir string
	mu  sync.Mutex
}

// NewDirKeeper makes the directory if it is not there.
func NewDirKeeper(dir string) (*DirKeeper, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the quarantine: %w", err)
	}
	return &DirKeeper{dir: dir}, nil
}

// Keep implements [Keeper]. It returns after content, index and directory are synced. Keeping
// the same file again changes nothing.
func (k *DirKeeper) Keep(f File, content io.Reader) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := checkHash(f.SHA256); err != nil {
		return fmt.Errorf("cannot keep %s: %w", f.Path, err)
	}
	if err := k.store(f, content); err != nil {
		return err
	}
	return k.index(f)
}

// store writes the content next to its place, and moves it there when it is whole.
func (k *DirKeeper) store(f File, content io.Reader) error {
	tmp, err := os.CreateTemp(k.dir, "incoming-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(tmp, sum), io.LimitReader(content, f.Size+1))
	if err != nil {
		return err
	}
	if n != f.Size || sumOf(sum) != f.SHA256 {
		return fmt.Errorf("%s came with %d bytes of SHA-256 %s, and %d of %s were announced", f.Path, n, sumOf(sum), f.Size, f.SHA256)
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), filepath.Join(k.dir, f.SHA256)); err != nil {
		return err
	}
	return syncDir(k.dir)
}

// index appends the line of f unless it is there. A line that a crash cut off is ended first,
// so that it spoils no other.
func (k *DirKeeper) index(f File) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	w, err := os.OpenFile(filepath.Join(k.dir, "index.jsonl"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer w.Close()
	there, whole, err := findLine(w, line)
	if err != nil || there {
		return err
	}
	if !whole {
		line = append([]byte("\n"), line...)
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := errors.Join(w.Sync(), w.Close()); err != nil {
		return err
	}
	return syncDir(k.dir)
}

// findLine says whether line is in r, and whether r ends with a whole line.
func findLine(r io.Reader, line []byte) (there, whole bool, err error) {
	b := bufio.NewReader(r)
	for {
		got, err := b.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return there, len(got) == 0, nil
		}
		if err != nil {
			return there, false, err
		}
		there = there || bytes.Equal(bytes.TrimSuffix(got, []byte("\n")), line)
	}
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be synced there; NTFS journals the rename
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
