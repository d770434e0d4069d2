//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// A Host is the host that the agent runs on. It is an [agent.Machine].
type Host struct {
	Mounts   string        // folder for mount points
	Patience time.Duration // how long disks may take to appear
	Log      *slog.Logger  // for what happens to a volume before it can be opened
}

// Identity says what the firmware says of the host, and its network cards.
func (h *Host) Identity() (wire.Identity, error) { return readIdentity("/sys/class") }

// Volumes returns the NTFS and BitLocker volumes on the host's disks. Disks appear late: it
// looks again until there is a volume or its patience ends.
func (h *Host) Volumes(ctx context.Context) ([]agent.Volume, error) {
	for deadline := time.Now().Add(h.Patience); ; {
		disks, err := scan("/sys/class/block", "/dev")
		if err != nil {
			return nil, err
		}
		if len(disks) > 0 || time.Now().After(deadline) {
			var volumes []agent.Volume
			for _, d := range disks {
				volumes = append(volumes, &volume{d, h})
			}
			return volumes, nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return nil, err
		}
	}
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

// A volume is one NTFS or BitLocker volume of a Host.
type volume struct {
	disk
	host *Host
}

// Name is the device and, where there is one, the GUID of the partition.
func (v *volume) Name() string {
	if v.partition == "" {
		return v.path
	}
	return fmt.Sprintf("%s (partition %s)", v.path, v.partition)
}

// Protectors is empty: this build does not read BitLocker's metadata, so it asks for no key.
func (v *volume) Protectors() []string { return nil }

var errBitLocker = fmt.Errorf("%w: this build cannot open BitLocker volumes yet", agent.ErrLocked)

func (v *volume) Unlock(context.Context, string, bitlocker.Key) error { return errBitLocker }

func (v *volume) Open(ctx context.Context, write bool, allow wire.Allow) (playbooks.Volume, io.Closer, error) {
	switch {
	case v.locked:
		return nil, nil, errBitLocker
	case v.mirrored:
		return nil, nil, errors.New("the disk is one of a firmware RAID (Intel RST): changed alone it would no longer match the others; repair this host with WinPE or by hand")
	}
	n := &NTFS{Path: v.path, Mounts: v.host.Mounts, Note: func(format string, args ...any) {
		v.host.Log.Info(fmt.Sprintf(format, args...), "phase", "ntfs")
	}}
	return n.Open(ctx, write, allow)
}
