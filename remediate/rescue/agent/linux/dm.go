//go:build linux

package linux

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"unbrick/bitlocker/fve"
)

const (
	dmControl = "/dev/mapper/control"
	dmBuffer  = 64 << 10 // a table has nine targets of some 250 bytes
	dmHeader  = int(unsafe.Sizeof(unix.DmIoctl{}))
	dmSpec    = int(unsafe.Sizeof(unix.DmTargetSpec{}))
)

// A mapping is a device of device-mapper: an open volume that lies encrypted on another.
type mapping struct {
	name string
	path string
}

// mapDevice makes the mapping of an open volume on a device, read-only unless write is set.
// There must be none on that device yet.
func mapDevice(device string, u *fve.Unlocked, write bool) (*mapping, error) {
	m := &mapping{name: "unbrick-" + filepath.Base(device)}
	// ntfs-3g takes this name in place of /dev/dm-N, and there is no udev to make the node.
	m.path = filepath.Join(filepath.Dir(dmControl), m.name)
	flags := uint32(unix.DM_SECURE_DATA_FLAG) // the kernel wipes its copies of the table
	if !write {
		flags |= unix.DM_READONLY_FLAG
	}
	dev, err := m.ioctl(unix.DM_DEV_CREATE, 0, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot map %s: %w", device, err)
	}
	if _, err = m.ioctl(unix.DM_TABLE_LOAD, flags, u.Table(device)); err != nil {
		err = fmt.Errorf("the kernel does not take the table: %w", err)
	} else if _, err = m.ioctl(unix.DM_DEV_SUSPEND, flags&unix.DM_READONLY_FLAG, nil); err == nil { // without its flag it resumes
		_ = os.Remove(m.path) // left by one whose node could not be removed
		err = unix.Mknod(m.path, unix.S_IFBLK|0o600, int(dev))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot map %s: %w", device, err), m.Close())
	}
	return m, nil
}

// Close takes the mapping away. What was written through it is on the disk: whoever had it
// mounted has waited for that.
func (m *mapping) Close() error {
	if err := os.Remove(m.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	const limit, tick = 10 * time.Second, 50 * time.Millisecond
	for start := time.Now(); ; time.Sleep(tick) {
		_, err := m.ioctl(unix.DM_DEV_REMOVE, 0, nil)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Since(start) > limit:
			return fmt.Errorf("cannot close %s: %w", m.name, err)
		}
	}
}

// ioctl asks device-mapper, and returns the number of the mapping's device.
func (m *mapping) ioctl(request uintptr, flags uint32, table []fve.Target) (dev uint64, err error) {
	f, err := os.OpenFile(dmControl, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("the kernel has no device-mapper: %w", err)
	}
	defer f.Close()
	buf := make([]byte, dmBuffer) // never copied: it holds the volume's key
	defer clear(buf)
	end := dmHeader
	for _, t := range table {
		if end, err = putTarget(buf, end, t); err != nil {
			return 0, err
		}
	}
	h := (*unix.DmIoctl)(unsafe.Pointer(&buf[0]))
	h.Version = [3]uint32{4, 0, 0}
	h.Data_size, h.Data_start = uint32(len(buf)), uint32(dmHeader)
	h.Target_count, h.Flags = uint32(len(table)), flags
	copy(h.Name[:len(h.Name)-1], m.name)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(h))); e != 0 {
		return 0, e
	}
	return h.Dev, nil
}

// putTarget writes a target at an offset of buf, and returns where the next one goes.
func putTarget(buf []byte, at int, t fve.Target) (int, error) {
	const align = 8
	if len(buf)-at < dmSpec+4096 {
		return 0, errors.New("the table is too long")
	}
	spec := (*unix.DmTargetSpec)(unsafe.Pointer(&buf[at]))
	spec.Sector_start, spec.Length = t.Start, t.Length
	copy(spec.Target_type[:], t.Type)
	end := len(t.AppendParams(buf[:at+dmSpec])) + 1 // a zero ends it
	end = (end + align - 1) / align * align
	spec.Next = uint32(end - at)
	return end, nil
}
