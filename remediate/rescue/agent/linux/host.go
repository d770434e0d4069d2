//go:build linux

package linux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/playbooks"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/agent/keyless"
	"unbrick/remediate/rescue/wire"
)

// A Host is the host that the agent runs on. It is an [agent.Machine].
type Host struct {
	Mounts   string        // folder for mount points
	Patience time.Duration // how long disks may take to appear
	Log      *slog.Logger  // for what happens to a volume before it can be opened

	only func(whole string) bool // which disks are the host's; nil: all
}

// Identity says what the firmware says of the host, and its network cards.
func (h *Host) Identity() (wire.Identity, error) { return readIdentity("/sys/class") }

// Volumes returns the NTFS and BitLocker volumes and the EFI system partitions on the host's
// disks. Disks appear late: it looks again until there is one that may hold Windows or its
// patience ends.
func (h *Host) Volumes(ctx context.Context) ([]agent.Volume, error) {
	for deadline := time.Now().Add(h.Patience); ; {
		disks, err := scan("/sys/class/block", "/dev")
		if err != nil {
			return nil, err
		}
		if h.only != nil {
			disks = slices.DeleteFunc(disks, func(d disk) bool { return !h.only(d.whole) })
		}
		windows := slices.ContainsFunc(disks, func(d disk) bool { return !d.fat })
		if !windows && time.Now().After(deadline) {
			return nil, nil // this medium's own partition, say
		}
		if windows {
			var volumes []agent.Volume
			for _, d := range disks {
				v := h.volume(d)
				if d.fat {
					volumes = append(volumes, bootVolume{v})
				} else {
					volumes = append(volumes, v)
				}
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
	lock *lock // nil if the volume is not encrypted
}

func (h *Host) volume(d disk) *volume {
	v := &volume{disk: d, host: h}
	if d.locked {
		v.lock = readLock(d.path)
		v.note("%s: %s", d.path, v.lock.describe())
	}
	return v
}

func (v *volume) note(format string, args ...any) {
	v.host.Log.Info(fmt.Sprintf(format, args...), "phase", "volume")
}

// Name is the device and, where there is one, the GUID of the partition.
func (v *volume) Name() string {
	if v.partition == "" {
		return v.path
	}
	return fmt.Sprintf("%s (partition %s)", v.path, v.partition)
}

// Protectors returns none for a volume that no key would open, or must not.
func (v *volume) Protectors() []string {
	if v.lock == nil || v.mirrored {
		return nil
	}
	return v.lock.protectors()
}

// Keyless implements agent.Keyless.
func (v *volume) Keyless() (keyless.Decision, bool) {
	if v.lock == nil || v.lock.volume == nil || !keyless.System(v.lock.volume) {
		return keyless.Decision{}, false
	}
	return keyless.Decide(keyless.FactsOf(v.lock.volume, keyless.Policy{})), true
}

// Unlock opens the volume with a recovery key, in memory alone.
func (v *volume) Unlock(_ context.Context, protector string, key bitlocker.Key) error {
	if v.lock == nil {
		return errNotEncrypted
	}
	return v.lock.unlock(protector, func(id bitlocker.KeyID) (*fve.Unlocked, error) { return v.lock.volume.Unlock(key, id) })
}

var errNotEncrypted = errors.New("the volume is not encrypted")

// Salt implements agent.Stretcher: no host needs the recovery key itself.
func (v *volume) Salt(protector string) []byte {
	if v.lock == nil {
		return nil
	}
	return v.lock.salt(protector)
}

// UnlockStretched implements agent.Stretcher.
func (v *volume) UnlockStretched(_ context.Context, protector string, key bitlocker.Stretched) error {
	if v.lock == nil {
		return errNotEncrypted
	}
	return v.lock.unlock(protector, func(id bitlocker.KeyID) (*fve.Unlocked, error) { return v.lock.volume.UnlockStretched(key, id) })
}

// Open maps an encrypted volume for as long as it is open, read-only unless write is set, and
// mounts it.
func (v *volume) Open(ctx context.Context, write bool, allow wire.Allow) (playbooks.Volume, io.Closer, error) {
	if v.mirrored {
		return nil, nil, errors.New("the disk is one of a firmware RAID (Intel RST): changed alone it would no longer match the others; repair this host with WinPE or by hand")
	}
	n := &NTFS{Path: v.path, Mounts: v.host.Mounts, Note: v.note}
	if v.lock == nil {
		return n.Open(ctx, write, allow)
	}
	if err := v.lock.shut(); err != nil {
		return nil, nil, err
	}
	m, err := mapDevice(v.path, v.lock.open, write)
	if err != nil {
		return nil, nil, err
	}
	n.Path = m.path
	vol, c, err := n.Open(ctx, write, allow)
	if err != nil {
		return nil, nil, errors.Join(err, m.Close())
	}
	return vol, closers{c, m}, nil
}

// Close forgets the key of the volume.
func (v *volume) Close() error {
	if v.lock == nil {
		return nil
	}
	return v.lock.close()
}
