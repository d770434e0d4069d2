package windows

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"unbrick/playbooks"
)

// files are the files of a volume. What the access list of a file keeps from the system
// itself is opened as a backup program would, by the privileges that takePrivileges got.
// Nothing outside of the volume can be reached, by links or otherwise.
type files struct {
	*playbooks.Directory
	root  *os.Root
	write bool
}

func openFiles(path string, write bool) (*files, error) {
	d, err := playbooks.Dir(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &files{d, root, write}, nil
}

// Open implements fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	file, err := f.Directory.Open(name)
	if !errors.Is(err, fs.ErrPermission) {
		return file, err
	}
	return f.root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
}

// errReading means that somebody tries to change a volume that was opened to be looked at.
// Windows itself would let him.
var errReading = errors.New("the volume was opened for reading")

// WriteFile implements playbooks.Volume.
func (f *files) WriteFile(name string, content []byte) error {
	if !f.write {
		return &fs.PathError{Op: "write", Path: name, Err: errReading}
	}
	return f.Directory.WriteFile(name, content)
}

// Remove implements playbooks.Volume.
func (f *files) Remove(name string) error {
	if !f.write {
		return &fs.PathError{Op: "remove", Path: name, Err: errReading}
	}
	err := f.Directory.Remove(name)
	if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, windows.ERROR_INVALID_FUNCTION) && !errors.Is(err, windows.ERROR_NOT_SUPPORTED) {
		return err
	}
	// The old way, which file system filters know that do not know the new one. The name goes
	// when the last handle does.
	const how = os.O_RDONLY | windows.FILE_FLAG_BACKUP_SEMANTICS | windows.FILE_FLAG_DELETE_ON_CLOSE | windows.FILE_FLAG_OPEN_REPARSE_POINT
	file, again := f.root.OpenFile(filepath.FromSlash(name), how, 0)
	if again != nil {
		return errors.Join(err, again)
	}
	if again = file.Close(); again != nil {
		return errors.Join(err, again)
	}
	if _, again = f.root.Lstat(filepath.FromSlash(name)); !errors.Is(again, fs.ErrNotExist) {
		return err // Windows says nothing where it does not do it
	}
	return nil
}

// Close releases the volume.
func (f *files) Close() error { return errors.Join(f.Directory.Close(), f.root.Close()) }

// flush has Windows write what it holds of a volume to the disk: a BMC takes the power away
// without asking it.
func flush(device string) error {
	name, err := windows.UTF16PtrFromString(device)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		return &fs.PathError{Op: "flush", Path: device, Err: err}
	}
	defer windows.CloseHandle(h)
	if err := windows.FlushFileBuffers(h); err != nil {
		return &fs.PathError{Op: "flush", Path: device, Err: err}
	}
	return nil
}
