package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A Place keeps files for a person to carry away.
type Place interface {
	// Write returns after the file is on the medium, whole. The error wraps fs.ErrExist if
	// there is one of that name. Names are slash-separated.
	Write(name string, content []byte) error
}

// A Folder is a Place in a file system.
type Folder string

// Write implements [Place]. A file that was cut off is never seen under its name.
func (f Folder) Write(name string, content []byte) error {
	to := filepath.Join(string(f), filepath.FromSlash(name))
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("%s: %w", name, fs.ErrExist)
	}
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return syncFolder(dir)
}

// syncFolder puts the names in a folder on the medium, where that can be asked for.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // Windows has no such call, and does not need it
	return d.Close()
}
