// Package windows is the agent as a program in WinPE, for hosts that do not trust the shim of
// the Linux rescue image. Windows itself opens the volumes here: it replays the journal of
// NTFS when it mounts a volume, which no program can keep it from, and reads volumes whose
// encryption is not finished. BitLocker volumes are unlocked by manage-bde, which a WinPE has
// only with the component WinPE-SecureStartup.
//
// Programs of Windows speak the language of the installation: nothing here decides by their
// words, only by exit codes, by GUIDs, and by what the disk says.
//
// WinPE has no users, so the agent runs as the system, and nobody else is there.
package windows

import (
	"errors"
	"fmt"
	"time"
)

// Component is what a WinPE needs to open BitLocker volumes.
const Component = "WinPE-SecureStartup"

// ConfigName is the file on the medium that holds the configuration of the host.
const ConfigName = "unbrick.json"

// A Stay says how patient the agent is in WinPE, and what becomes of the host afterwards.
type Stay struct {
	Disks time.Duration // how long disks may take to appear
	End   string        // wait: to be powered off by the BMC, and reboot if nobody does; reboot; poweroff
	Wait  time.Duration // how long
	Limit time.Duration // from the start: reboots a host that hangs in here
}

// Usual is the stay of a host that nobody says more of; it ends as in the Linux image.
func Usual() Stay {
	return Stay{Disks: 20 * time.Second, End: "wait", Wait: 10 * time.Minute, Limit: 2 * time.Hour}
}

// Check says what is wrong with a stay.
func (s Stay) Check() error {
	switch {
	case s.End != "wait" && s.End != "reboot" && s.End != "poweroff":
		return fmt.Errorf("no end %q; it is wait, reboot or poweroff", s.End)
	case s.Disks < 0 || s.Wait < 0 || s.Limit <= 0:
		return errors.New("a time cannot be negative, and the limit not zero")
	}
	return nil
}
