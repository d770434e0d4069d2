package windows

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// errHibernated means that Windows saved its session to the disk and will go on from there:
// whatever is changed under it damages the volume.
var errHibernated = errors.New("Windows is hibernated on this volume; allow it to lose the saved session, or shut Windows down")

// A volume is one NTFS or BitLocker volume of a Host.
type volume struct {
	place
	lock  *lock // nil if the volume is not locked
	alone bool  // no other locked volume holds a Windows
}

// A bootVolume is a FAT volume, which may be the EFI system partition that Windows is started
// from. It is an [agent.Booter].
type bootVolume struct{ *volume }

// Boots implements agent.Booter.
func (bootVolume) Boots() bool { return true }

// Name is the letter, if there is one, and the GUID of the volume.
func (v *volume) Name() string { return v.place.String() }

// Protectors returns none for a volume that no key would open here.
func (v *volume) Protectors() []string {
	if v.lock == nil {
		return nil
	}
	return v.lock.protectors()
}

// Unlock has Windows open the volume.
func (v *volume) Unlock(ctx context.Context, protector string, key bitlocker.Key) error {
	if v.lock == nil {
		return errors.New("the volume is not locked")
	}
	return v.lock.unlock(ctx, v.place, protector, key)
}

// Open opens the files of the volume, which Windows has mounted. The closer of a volume that
// was opened for writing returns when Windows has written everything to the disk.
func (v *volume) Open(_ context.Context, write bool, allow wire.Allow) (playbooks.Volume, io.Closer, error) {
	if v.lock != nil {
		if err := v.lock.shut(); err != nil {
			return nil, nil, err
		}
	}
	f, err := openFiles(v.root(), write)
	if errors.Is(err, errLocked) {
		return nil, nil, fmt.Errorf("%w: Windows asks for a key", agent.ErrLocked)
	}
	if err != nil || !write {
		return f, f, err
	}
	if err := endSession(f, allow); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, &written{f, v.device()}, nil
}

// endSession refuses a volume with a saved session or, if that is allowed, drops the session.
// A session that was resumed or given up begins with something else.
func endSession(f *files, allow wire.Allow) error {
	const name = "hiberfil.sys"
	file, err := f.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot see whether Windows is hibernated: %w", err)
	}
	head := make([]byte, 4)
	_, err = io.ReadFull(file, head)
	err = errors.Join(noEnd(err), file.Close())
	switch {
	case err != nil:
		return fmt.Errorf("cannot see whether Windows is hibernated: %w", err)
	case string(head) != "hibr" && string(head) != "HIBR":
		return nil
	case !allow.Hibernated:
		return errHibernated
	}
	return f.Remove(name)
}

// noEnd is err, unless it says that a file is short.
func noEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// A written closes the files of a volume, and then sees that all is on the disk.
type written struct {
	*files
	device string
}

func (w *written) Close() error {
	if err := w.files.Close(); err != nil {
		return err
	}
	return flush(w.device)
}

// sectors reads a device, which Windows gives out in whole sectors only.
type sectors struct{ f *os.File }

// ReadAt implements io.ReaderAt.
func (s sectors) ReadAt(p []byte, off int64) (int, error) {
	const sector = 4096 // the largest there is
	start := off / sector * sector
	skip := int(off - start)
	b := make([]byte, (skip+len(p)+sector-1)/sector*sector)
	n, err := s.f.ReadAt(b, start)
	if n = min(max(n-skip, 0), len(p)); n == len(p) {
		err = nil
	}
	copy(p, b[min(skip, len(b)):][:n])
	return n, err
}
