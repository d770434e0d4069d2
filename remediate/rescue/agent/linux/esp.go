//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

// A bootVolume is an EFI system partition. It is an [agent.Volume] and an [agent.Booter].
type bootVolume struct{ *volume }

// Boots implements agent.Booter.
func (bootVolume) Boots() bool { return true }

// Protectors returns none: BitLocker leaves the EFI system partition as it is.
func (bootVolume) Protectors() []string { return nil }

// Unlock implements agent.Volume.
func (bootVolume) Unlock(context.Context, string, bitlocker.Key) error { return errNotEncrypted }

// Salt implements agent.Stretcher.
func (bootVolume) Salt(string) []byte { return nil }

// Open mounts the volume by the kernel's own driver.
func (b bootVolume) Open(ctx context.Context, write bool, _ wire.Allow) (playbooks.Volume, io.Closer, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if b.mirrored {
		return nil, nil, errors.New("the disk is one of a firmware RAID (Intel RST): changed alone it would no longer match the others")
	}
	if err := os.MkdirAll(b.host.Mounts, 0o700); err != nil {
		return nil, nil, err
	}
	dir, err := os.MkdirTemp(b.host.Mounts, "boot-")
	if err != nil {
		return nil, nil, err
	}
	flags := uintptr(unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME)
	if !write {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(b.path, dir, "vfat", flags, "codepage=437,iocharset=ascii"); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot mount: %w", err), os.Remove(dir))
	}
	v, err := playbooks.Dir(dir)
	if err != nil {
		return nil, nil, errors.Join(err, fatMount(dir).Close())
	}
	return v, closers{v, fatMount(dir)}, nil
}

// A fatMount is the folder that a FAT volume is mounted on.
type fatMount string

// Close unmounts; the kernel returns after everything is written.
func (m fatMount) Close() error {
	if err := unix.Unmount(string(m), 0); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", string(m), err)
	}
	return os.Remove(string(m))
}
