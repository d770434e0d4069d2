//go:build linux

package linux

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/diskfs/go-diskfs/partition/gpt"
)

// A disk is a block device with a volume on it: a partition as a rule.
type disk struct {
	path      string // /dev/nvme0n1p3
	whole     string // nvme0n1
	partition string // GUID in the partition table, lower case; empty where there is none
	locked    bool   // BitLocker
	mirrored  bool   // half of a firmware RAID that Linux does not see as one
	fat       bool   // an EFI system partition
}

// passedOver are devices that hold no volume of the host's Windows, by the start of their
// name. Device-mapper volumes are ours.
var passedOver = []string{"loop", "ram", "zram", "sr", "dm-", "fd", "mtdblock", "nbd"}

// scan returns the NTFS and BitLocker volumes and EFI system partitions among the block devices
// of a sysfs folder such as /sys/class/block. A device that cannot be read is passed over: it is
// an empty card reader or a broken disk, and no reason not to look at the others.
func scan(sysfs, dev string) ([]disk, error) {
	entries, err := os.ReadDir(sysfs)
	if err != nil {
		return nil, fmt.Errorf("cannot see the disks: %w", err)
	}
	var out []disk
	for _, e := range entries {
		name := e.Name()
		if slices.ContainsFunc(passedOver, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		d := disk{path: filepath.Join(dev, name)}
		signature, err := readSignature(d.path)
		d.fat = signature == fatSignature
		if err != nil || signature != ntfsSignature && signature != bitlockerSignature && !d.fat {
			continue
		}
		d.locked = signature == bitlockerSignature
		sys, err := filepath.EvalSymlinks(filepath.Join(sysfs, name))
		if err != nil {
			continue
		}
		whole, efi := name, false
		if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
			whole = filepath.Base(filepath.Dir(sys))
			p := partitionOf(filepath.Join(dev, whole), sys)
			d.partition, efi = strings.ToLower(p.GUID), p.Type == gpt.EFISystemPartition
		}
		d.whole = whole
		if d.fat && !efi {
			continue // a stick, a card, or data: nothing that Windows starts from
		}
		d.mirrored = firmwareRAID(filepath.Join(dev, whole))
		out = append(out, d)
	}
	return out, nil
}

func readSignature(path string) (string, error) {
	b, err := readSector(path)
	if err != nil {
		return "", err
	}
	s := string(b[3:11])
	fat := string(b[54:57]) == fatSignature || string(b[82:85]) == fatSignature
	fat = fat && !strings.HasPrefix(string(b[43:54]), ownLabel)
	if fat && s != bitlockerSignature { // whose boot sector says FAT32 as well
		s = fatSignature
	}
	return s, nil
}

// fatSignature begins the name that a FAT file system has in its boot sector, at 54 or 82.
const fatSignature = "FAT"

// ownLabel begins the labels of the file systems that the rescue image itself starts from and
// writes to: they are not the host's.
const ownLabel = "UNBRICK"

func readSector(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 512)
	_, err = f.ReadAt(b, 0)
	return b, err
}

// partitionOf looks for the partition that sysfs describes in the table of its disk; it is
// empty where the table has no GUIDs. The kernel does not tell the GUID itself.
func partitionOf(whole, sys string) gpt.Partition {
	const sysfsSector = 512 // whatever the disk's own
	start, err := readNumber(filepath.Join(sys, "start"))
	if err != nil {
		return gpt.Partition{}
	}
	sector, err := readNumber(filepath.Join(filepath.Dir(sys), "queue", "logical_block_size"))
	if err != nil {
		return gpt.Partition{}
	}
	f, err := os.Open(whole)
	if err != nil {
		return gpt.Partition{}
	}
	defer f.Close()
	table, err := gpt.Read(f, int(sector), int(sector))
	if err != nil {
		return gpt.Partition{} // an old partition table
	}
	for _, p := range table.Partitions {
		if p.Type != gpt.Unused && p.Start*uint64(sector) == uint64(start)*sysfsSector {
			return *p
		}
	}
	return gpt.Partition{}
}

func readNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// firmwareRAID says whether a disk is a member of an Intel RST array: its last but one sector
// says so. Linux shows the members, not the array, and a change to one member alone would
// take a mirror apart.
func firmwareRAID(whole string) bool {
	const signature = "Intel Raid ISM Cfg Sig. "
	f, err := os.Open(whole)
	if err != nil {
		return false
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false
	}
	b := make([]byte, len(signature))
	for _, sector := range []int64{512, 4096} {
		if _, err := f.ReadAt(b, size-2*sector); err == nil && string(b) == signature {
			return true
		}
	}
	return false
}
