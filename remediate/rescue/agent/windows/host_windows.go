package windows

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// errNoDisk is what the agent says where there is nothing to repair: a host with a disk that
// WinPE does not see is the usual reason.
var errNoDisk = errors.New("no NTFS or BitLocker volume is to be seen on a fixed disk: WinPE may lack the driver of its controller (Intel VMD or RST, a RAID adapter); add it with unbrick image winpe --driver FOLDER, and leave the controller's mode in the firmware as it is")

// A Host is the host that the agent runs on. It is an [agent.Machine].
type Host struct {
	Patience time.Duration // how long disks may take to appear
	Log      *slog.Logger  // for what happens to a volume before it can be opened
}

// Identity says what the firmware says of the host, and its network cards.
func (h *Host) Identity() (wire.Identity, error) {
	raw, err := firmwareTable()
	var id wire.Identity
	if err == nil {
		id, err = parseSMBIOS(raw)
	}
	cards, netErr := net.Interfaces()
	for _, c := range cards {
		if c.Flags&net.FlagLoopback == 0 && len(c.HardwareAddr) == 6 {
			id.MAC = append(id.MAC, strings.ToLower(c.HardwareAddr.String()))
		}
	}
	slices.Sort(id.MAC)
	id.MAC = slices.Compact(id.MAC)
	return id, errors.Join(err, netErr)
}

// firmwareTable returns the SMBIOS table as Windows holds it.
func firmwareTable() ([]byte, error) {
	const smbios = 'R'<<24 | 'S'<<16 | 'M'<<8 | 'B'
	get := windows.NewLazySystemDLL("kernel32.dll").NewProc("GetSystemFirmwareTable")
	n, _, err := get.Call(smbios, 0, 0, 0)
	if n == 0 {
		return nil, fmt.Errorf("cannot read the SMBIOS table: %w", err)
	}
	raw := make([]byte, n)
	got, _, err := get.Call(smbios, 0, uintptr(unsafe.Pointer(&raw[0])), n)
	if got == 0 || got > n {
		return nil, fmt.Errorf("cannot read the SMBIOS table: %w", err)
	}
	return raw[:got], nil
}

// Volumes returns the NTFS, BitLocker and FAT volumes on the host's fixed disks, but for the one
// that this system runs from. Disks appear late: it looks again until there is one that may
// hold Windows or its patience ends, and that is an error that says what a person can do.
func (h *Host) Volumes(ctx context.Context) ([]agent.Volume, error) {
	for deadline := time.Now().Add(h.Patience); ; {
		volumes, err := h.look()
		if err != nil || slices.ContainsFunc(volumes, func(v agent.Volume) bool { _, boots := v.(bootVolume); return !boots }) {
			return volumes, err
		}
		if time.Now().After(deadline) {
			return nil, errNoDisk
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func (h *Host) look() (volumes []agent.Volume, err error) {
	all, err := hostPlaces()
	if err != nil {
		return nil, err
	}
	var systems []*volume
	for _, p := range all {
		v := &volume{place: p}
		switch p.inspect() {
		case fat:
			volumes = append(volumes, bootVolume{v})
		case locked:
			v.lock = readLock(p)
			h.Log.Info(fmt.Sprintf("%s: %s", p, v.lock), "phase", "volume")
			if _, ok := v.Keyless(); ok {
				systems = append(systems, v)
			}
			volumes = append(volumes, v)
		case ntfs:
			volumes = append(volumes, v)
		}
	}
	for _, v := range systems {
		v.alone = len(systems) == 1
	}
	return volumes, nil
}

// hostPlaces returns the volumes on the host's fixed disks, but for the one that this system
// runs from.
func hostPlaces() ([]place, error) {
	ours, err := running()
	if err != nil {
		return nil, err
	}
	all, err := places()
	return slices.DeleteFunc(all, func(p place) bool {
		return p.drive != windows.DRIVE_FIXED || strings.EqualFold(p.mount, ours)
	}), err
}

// pause waits, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
