package diskimage

import (
	"fmt"
	"io/fs"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
)

// The kinds of FAT. An EFI system partition is one.
const (
	FAT12 Kind = "FAT12"
	FAT16 Kind = "FAT16"
	FAT32 Kind = "FAT32"
)

func isFAT(k Kind) bool { return k == FAT12 || k == FAT16 || k == FAT32 }

// A fatVolume is a FAT volume, read-only. It implements playbooks.Volume.
type fatVolume struct{ fat filesystem.FileSystem }

// bootVolume opens a FAT partition.
func (i *Image) bootVolume(p Partition) (*fatVolume, error) {
	v := &fatVolume{}
	storage := file.New(i.f, true)
	err := guard(func() (err error) {
		switch p.Kind {
		case FAT12:
			v.fat, err = fat12.Read(storage, p.Size, p.Start, 512)
		case FAT16:
			v.fat, err = fat16.Read(storage, p.Size, p.Start, 512)
		default:
			v.fat, err = fat32.Read(storage, p.Size, p.Start, 512)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the FAT volume: %w", err)
	}
	return v, nil
}

// Open implements fs.FS.
func (v *fatVolume) Open(name string) (f fs.File, err error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	err = guard(func() (err error) {
		f, err = v.fat.Open(name)
		return err
	})
	return f, err
}

// ReadDir implements fs.ReadDirFS.
func (v *fatVolume) ReadDir(name string) (entries []fs.DirEntry, err error) {
	err = guard(func() (err error) {
		entries, err = v.fat.ReadDir(name)
		return err
	})
	return entries, err
}

// ReadFile implements fs.ReadFileFS.
func (v *fatVolume) ReadFile(name string) (b []byte, err error) {
	err = guard(func() (err error) {
		b, err = v.fat.ReadFile(name)
		return err
	})
	return b, err
}

// Remove implements playbooks.Volume: it always fails with fs.ErrPermission.
func (v *fatVolume) Remove(name string) error { return (*Volume)(nil).Remove(name) }

// WriteFile implements playbooks.Volume: it always fails with fs.ErrPermission.
func (v *fatVolume) WriteFile(name string, b []byte) error {
	return (*Volume)(nil).WriteFile(name, b)
}
