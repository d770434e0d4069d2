// Package diskimage reads Windows volumes out of a raw disk image, without mounting it and
// without ever writing to it.
//
// It takes GPT and MBR disks and bare file systems, and says of every partition what it is:
// what cannot be read is named, never passed over in silence where Windows could be in it. An
// image taken of a host that crashed may hold changes that are in the NTFS journal alone;
// they are not seen here.
package diskimage

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// An Image is an open disk image.
type Image struct {
	Partitions []Partition // in the order of the table; one if the image is a bare file system

	f *os.File
}

// A Partition is one part of a disk, or all of it.
type Partition struct {
	Number      int    // in the table, from 1; 0 if there is no table
	Name        string // as GPT has it
	Start, Size int64  // bytes
	Kind        Kind
	Err         error // why it cannot be read; nil for one that can, and for one that need not
}

// String names the partition to a person.
func (p Partition) String() string {
	s := "the whole image"
	if p.Number > 0 {
		s = fmt.Sprintf("partition %d", p.Number)
	}
	if p.Name != "" {
		s += fmt.Sprintf(" %q", p.Name)
	}
	return fmt.Sprintf("%s (%s, %s)", s, p.Kind, size(p.Size))
}

func size(n int64) string {
	for _, u := range []struct {
		n    int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.n {
			return fmt.Sprintf("%.4g %s", float64(n)/float64(u.n), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

// Open opens the image at path, or a block device, and reads its partition table. It fails on
// what is not a raw image, and says how to make one of it.
func Open(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open the image: %w", err)
	}
	img, err := read(f, path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return img, nil
}

func read(f *os.File, path string) (*Image, error) {
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return nil, fmt.Errorf("cannot open the image: %s is not a file (%v)", path, err)
	}
	end, err := f.Seek(0, io.SeekEnd) // Stat says 0 for a block device
	if err != nil {
		return nil, fmt.Errorf("cannot open the image: %w", err)
	}
	if err := refuse(f, end, path); err != nil {
		return nil, err
	}
	parts, err := partitions(f, end)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	return &Image{Partitions: parts, f: f}, nil
}

// Volume opens an NTFS partition.
func (i *Image) Volume(p Partition) (*Volume, error) {
	if p.Err != nil {
		return nil, p.Err
	}
	if p.Kind != NTFS {
		return nil, fmt.Errorf("%s is not an NTFS volume", p)
	}
	return OpenVolume(io.NewSectionReader(i.f, p.Start, p.Size), p.Size)
}

// Close closes the image, and every volume of it.
func (i *Image) Close() error { return i.f.Close() }
