package playbooks

import (
	"fmt"
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

// Close releases the directory.
func (d *Directory) Close() error { return d.root.Close() }
