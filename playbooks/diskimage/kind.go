package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Kind is what is in a partition, told by its first bytes and not by its type: types lie.
type Kind string

// The kinds that matter. Others go by the name of the file system.
const (
	NTFS      Kind = "NTFS"
	BitLocker Kind = "BitLocker" // locked: the key is not here
	ReFS      Kind = "ReFS"
	Unknown   Kind = "unknown content" // damaged, or encrypted by another product
	Empty     Kind = "empty"
)

// signatures are the magic numbers of what may be in a partition, checked in this order.
func signatures() []struct {
	kind   Kind
	offset int64
	magic  string
} {
	return []struct {
		kind   Kind
		offset int64
		magic  string
	}{
		{NTFS, 3, "NTFS    "},
		{BitLocker, 3, "-FVE-FS-"},
		// BitLocker To Go looks like FAT; the GUID 4967D63B-2E29-4AD8-8399-F6A339E3D001 tells.
		{BitLocker, 424, "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01"},
		{ReFS, 3, "ReFS\x00\x00\x00\x00"},
		{"exFAT", 3, "EXFAT   "},
		{FAT32, 82, "FAT32   "},
		{FAT16, 54, "FAT16   "},
		{FAT12, 54, "FAT12   "},
		{"ext4", 1080, "\x53\xef"},
		{"XFS", 0, "XFSB"},
		{"Btrfs", 65600, "_BHRfS_M"},
		{"LVM", 512, "LABELONE"},
		{"LUKS", 0, "LUKS\xba\xbe"},
		{"swap", 4086, "SWAPSPACE2"},
		{"ISO 9660", 32769, "CD001"},
		{"APFS", 32, "NXSB"},
	}
}

// kindOf looks at the first bytes of r, which is size long.
func kindOf(r io.ReaderAt, size int64) (Kind, error) {
	head := make([]byte, min(size, 65608))
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return Unknown, err
	}
	for _, s := range signatures() {
		if s.offset < int64(len(head)) && bytes.HasPrefix(head[s.offset:], []byte(s.magic)) {
			return s.kind, nil
		}
	}
	if len(bytes.Trim(head, "\x00")) == 0 {
		return Empty, nil
	}
	return Unknown, nil
}

// fits says whether an NTFS volume is as long as its boot sector has it: an image that was
// cut off reads as zeros at the end, and "nothing found" would be a lie.
func fits(r io.ReaderAt, size int64) error {
	boot := make([]byte, 512)
	if _, err := r.ReadAt(boot, 0); err != nil {
		return fmt.Errorf("its boot sector cannot be read: %w", err)
	}
	sector := uint64(binary.LittleEndian.Uint16(boot[11:]))
	sectors := binary.LittleEndian.Uint64(boot[40:])
	if sector < 256 || sectors == 0 || sectors > 1<<54 {
		return errors.New("its boot sector is damaged")
	}
	if need := sectors * sector; need > uint64(size) {
		return fmt.Errorf("it is cut off: the file system has %d bytes and %d are there", need, size)
	}
	return nil
}

// refuse recognises images that are not raw. Reading them as raw would find nothing.
func refuse(r io.ReaderAt, size int64, path string) error {
	head := make([]byte, 512)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("cannot read the image: %w", err)
	}
	if n < len(head) {
		return fmt.Errorf("%s has %d bytes: that is not a disk image", path, size)
	}
	for _, f := range []struct{ magic, name, qemu string }{
		{"vhdxfile", "VHDX", "vhdx"},
		{"conectix", "VHD", "vpc"}, // a dynamic one; a fixed one is raw with a footer
		{"KDMV", "VMDK", "vmdk"},
		{"COWD", "VMDK", "vmdk"},
		{"QFI\xfb", "QCOW2", "qcow2"},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return fmt.Errorf("%s is a %s image, and raw is wanted: qemu-img convert -f %s -O raw %q %q", path, f.name, f.qemu, path, path+".raw")
		}
	}
	if bytes.HasPrefix(head[64:], []byte("\x7f\x10\xda\xbe")) {
		return fmt.Errorf("%s is a VDI image, and raw is wanted: qemu-img convert -f vdi -O raw %q %q", path, path, path+".raw")
	}
	if bytes.HasPrefix(head, []byte("# Disk DescriptorFile")) {
		return fmt.Errorf("%s describes a VMDK image, and raw is wanted: qemu-img convert -f vmdk -O raw %q %q", path, path, path+".raw")
	}
	for _, f := range []struct{ magic, name, how string }{
		{"\x1f\x8b", "gzip", "gunzip"}, {"\x28\xb5\x2f\xfd", "zstd", "unzstd"}, {"\xfd7zXZ", "xz", "unxz"},
		{"PK\x03\x04", "ZIP", "unzip"}, {"EVF\x09\x0d\x0a", "EWF (E01)", "ewfexport -f raw"}, {"MSWIM\x00", "WIM", "wimapply"},
	} {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return fmt.Errorf("%s is a %s file, and a raw image is wanted: unpack it first (%s)", path, f.name, f.how)
		}
	}
	return nil
}
