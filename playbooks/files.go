package playbooks

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
)

// readFile reads one file to its end and returns what it is, with up to head first bytes.
func readFile(v Volume, name string, head int) (File, []byte, error) {
	f := File{Path: name}
	r, err := v.Open(name)
	if err != nil {
		return f, nil, err
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		return f, nil, err
	}
	if !info.Mode().IsRegular() {
		return f, nil, fmt.Errorf("%s is not a plain file (%s)", name, modeName(info.Mode()))
	}
	first, sum := &bytes.Buffer{}, sha256.New()
	n, err := io.CopyN(io.MultiWriter(first, sum), r, int64(head))
	if err == nil {
		var rest int64
		rest, err = io.Copy(sum, r)
		n += rest
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return f, nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if n != info.Size() {
		return f, nil, fmt.Errorf("cannot read %s: it has %d bytes and %d came", name, info.Size(), n)
	}
	f.Size, f.ModTime, f.SHA256 = n, info.ModTime().UTC(), sumOf(sum)
	return f, first.Bytes(), nil
}

func sumOf(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// same reads the file again and compares it with what was decided on. It is fs.ErrNotExist if
// the file is gone.
func same(v Volume, f *File) error {
	now, _, err := readFile(v, f.Path, 0)
	if err != nil {
		return err
	}
	if now.Size != f.Size || now.SHA256 != f.SHA256 || !now.ModTime.Equal(f.ModTime) {
		return fmt.Errorf("%s changed after it was looked at: it was %d bytes of %s and is %d bytes of %s; check again",
			f.Path, f.Size, utc(f.ModTime), now.Size, utc(now.ModTime))
	}
	return nil
}

// keepCopy hands the content of f to keep and sees that it took all of it.
func keepCopy(v Volume, f *File, keep Keeper) error {
	if err := same(v, f); errors.Is(err, fs.ErrNotExist) {
		return nil // removeFile sees to it
	} else if err != nil {
		return err
	}
	r, err := v.Open(f.Path)
	if err != nil {
		return err
	}
	defer r.Close()
	taken := &counter{r: r, sum: sha256.New()}
	if err := keep.Keep(*f, taken); err != nil {
		return fmt.Errorf("cannot keep a copy of %s: %w", f.Path, err)
	}
	if sumOf(taken.sum) != f.SHA256 {
		return fmt.Errorf("cannot keep a copy of %s: %d of %d bytes were taken", f.Path, taken.n, f.Size)
	}
	return nil
}

// A counter says what was read through it.
type counter struct {
	r   io.Reader
	n   int64
	sum hash.Hash
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.sum.Write(p[:n])
	return n, err
}

// removeFile removes f if it is still what was decided on, and sees that it is gone.
func removeFile(v Volume, f *File) error {
	err := same(v, f)
	if errors.Is(err, fs.ErrNotExist) {
		f.Why += "; it was gone already"
	} else if err != nil {
		return err
	} else if err := v.Remove(f.Path); err != nil {
		return fmt.Errorf("cannot remove %s: %w", f.Path, err)
	}
	if err := gone(v, f.Path); err != nil {
		return err
	}
	f.Removed = true
	return nil
}

// gone asks twice, by name and by list: a cache may answer one of them. The list must be
// readable: on a volume that went away every name is gone.
func gone(v Volume, name string) error {
	if _, err := fs.Stat(v, name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is still there after it was removed (%v)", name, err)
	}
	entries, err := fs.ReadDir(v, path.Dir(name))
	if err != nil {
		return fmt.Errorf("cannot see whether %s is gone: %w", name, err)
	}
	for _, e := range entries {
		if e.Name() == path.Base(name) {
			return fmt.Errorf("%s is still listed after it was removed", name)
		}
	}
	return nil
}
