package windows

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/windows"
)

// The signatures of the volumes that the agent deals with, in their first sector.
const (
	ntfsSignature      = "NTFS    "
	bitlockerSignature = "-FVE-FS-"
)

// errLocked is FVE_E_LOCKED_VOLUME of winerror.h: how Windows refuses the file system of a
// locked volume.
const errLocked = windows.Errno(0x80310000)

// A place is one volume of the host, with a letter or without: in WinPE the system volume
// often has another than it had, or none.
type place struct {
	guid  string // \\?\Volume{…}\
	mount string // X:\ or a folder; empty if it has none
	drive uint32 // as GetDriveType says
}

// root is the folder that holds the volume's files.
func (p place) root() string {
	if p.mount != "" {
		return p.mount
	}
	return p.guid
}

// device names the volume itself, for reading its sectors.
func (p place) device() string {
	if len(p.mount) == len(`X:\`) {
		return `\\.\` + p.mount[:2]
	}
	return strings.TrimSuffix(p.guid, `\`)
}

// argument names the volume to manage-bde: "a drive letter followed by a colon, a volume GUID
// path or a mounted volume", as its help says.
func (p place) argument() string {
	if p.mount != "" {
		return strings.TrimSuffix(p.mount, `\`)
	}
	return p.guid
}

// String names the volume to a person.
func (p place) String() string {
	if p.mount != "" {
		return strings.TrimSuffix(p.mount, `\`) + " " + strings.Trim(p.guid, `\?`)
	}
	return strings.Trim(p.guid, `\?`)
}

// places returns all volumes that Windows knows, also those without a letter, and assigns
// none. A volume that goes away meanwhile is left out.
func places() (out []place, err error) {
	name := make([]uint16, windows.MAX_PATH)
	h, err := windows.FindFirstVolume(&name[0], uint32(len(name)))
	if errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the volumes: %w", err)
	}
	defer windows.FindVolumeClose(h)
	for {
		p := place{guid: windows.UTF16ToString(name)}
		if p.mount, err = mountOf(p.guid); err == nil {
			if root, err := windows.UTF16PtrFromString(p.root()); err == nil {
				p.drive = windows.GetDriveType(root)
			}
			out = append(out, p)
		}
		err = windows.FindNextVolume(h, &name[0], uint32(len(name)))
		if errors.Is(err, windows.ERROR_NO_MORE_FILES) {
			return out, nil
		}
		if err != nil {
			return out, fmt.Errorf("cannot list all volumes: %w", err)
		}
	}
}

// mountOf returns the first letter or folder of a volume, none if it has none.
func mountOf(guid string) (string, error) {
	volume, err := windows.UTF16PtrFromString(guid)
	if err != nil {
		return "", err
	}
	names := make([]uint16, 4096)
	var n uint32
	if err := windows.GetVolumePathNamesForVolumeName(volume, &names[0], uint32(len(names)), &n); err != nil {
		return "", err
	}
	return windows.UTF16ToString(names), nil // up to the first zero: the first name
}

// running returns the root of the volume that this system runs from: the RAM disk X: in
// WinPE. Nothing of the host is there.
func running() (string, error) {
	dir, err := windows.GetSystemWindowsDirectory()
	if err != nil || len(dir) < len(`X:\`) {
		return "", fmt.Errorf("cannot tell which volume this system runs from: %w", err)
	}
	return strings.ToUpper(dir[:3]), nil
}

// A kind is what lies on a volume.
type kind string

// The kinds that matter. Any other is passed over.
const (
	ntfs   kind = "NTFS"
	locked kind = "BitLocker" // and not open
	fat    kind = "FAT"       // may be an EFI system partition
)

// inspect says what lies on a volume: what its first sector says; if that cannot be read, what
// Windows says.
func (p place) inspect() kind {
	b, err := firstSector(p.device())
	if err != nil {
		return p.fileSystem()
	}
	switch signature := string(b[3:11]); {
	case signature == ntfsSignature:
		return ntfs
	case signature == bitlockerSignature: // which says FAT32 as well
		return locked
	case string(b[54:57]) == "FAT" || string(b[82:85]) == "FAT":
		return fat
	}
	return ""
}

func firstSector(device string) ([]byte, error) {
	f, err := os.Open(device)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, 4096) // a whole sector, of any disk
	_, err = io.ReadFull(f, b)
	return b, err
}

// fileSystem says what Windows takes the volume for.
func (p place) fileSystem() kind {
	root, err := windows.UTF16PtrFromString(p.root())
	if err != nil {
		return ""
	}
	name := make([]uint16, 64)
	err = windows.GetVolumeInformation(root, nil, 0, nil, nil, nil, &name[0], uint32(len(name)))
	is := windows.UTF16ToString(name)
	switch {
	case errors.Is(err, errLocked):
		return locked
	case err == nil && is == "NTFS":
		return ntfs
	case err == nil && strings.HasPrefix(is, "FAT"):
		return fat
	}
	return ""
}
