package playbooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A Directory is a Volume over a directory of the running system: a mounted volume, or a copy
// of one. Nothing outside of the directory can be reached through it, by links or otherwise.
type Directory struct {
	fs.FS
	root *os.Root
}

// Dir opens the directory at path. The caller closes it: an open Directory keeps a mounted
// volume busy.
func Dir(path string) (*Directory, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the volume: %w", err)
	}
	return &Directory{FS: root.FS(), root: root}, nil
}

// Remove implements [Volume].
func (d *Directory) Remove(name string) error {
	if !fs.ValidPath(name) || name == "." {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrInvalid}
	}
	return d.root.Remove(name)
}

// WriteFile implements [Volume]. It writes the blocks that differ and no others: a hive of
// 100 MB in which one value changes is one block.
func (d *Directory) WriteFile(name string, content []byte) error {
	fail := func(err error) error { return &fs.PathError{Op: "write", Path: name, Err: err} }
	if !fs.ValidPath(name) || name == "." {
		return fail(fs.ErrInvalid)
	}
	f, err := d.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fail(fmt.Errorf("it is %s", modeName(info.Mode())))
	}
	if err := rewrite(f, content); err != nil {
		return err
	}
	if info.Size() > int64(len(content)) {
		if err := f.Truncate(int64(len(content))); err != nil {
			return err
		}
	}
	return errors.Join(f.Sync(), f.Close())
}

// rewrite writes content over f, block by block, where it differs.
func rewrite(f *os.File, content []byte) error {
	const block = 4096
	old := make([]byte, block)
	for at := 0; at < len(content); at += block {
		is := content[at:min(at+block, len(content))]
		n, err := f.ReadAt(old[:len(is)], int64(at))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Equal(old[:n], is) {
			continue
		}
		if _, err := f.WriteAt(is, int64(at)); err != nil {
			return err
		}
	}
	return nil
}

// Close releases the directory.
func (d *Directory) Close() error { return d.root.Close() }
