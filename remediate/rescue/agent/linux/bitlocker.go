//go:build linux

package linux

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/remediate/rescue/agent"
)

// A lock is what keeps a BitLocker volume shut, and opens it.
type lock struct {
	volume *fve.Volume
	err    error // why no key would open it
	open   *fve.Unlocked
}

// readLock reads what a BitLocker volume says of itself. A volume whose protection is
// suspended is opened at once: its key lies beside it in clear.
func readLock(device string) *lock {
	f, err := os.Open(device)
	if err != nil {
		return &lock{err: fmt.Errorf("cannot read the volume: %w", err)}
	}
	defer f.Close()
	v, err := fve.Parse(f)
	if err != nil {
		return &lock{err: err}
	}
	l := &lock{volume: v, err: v.Converted()}
	if l.err == nil && v.Suspended() {
		l.open, l.err = v.UnlockSuspended()
	}
	return l
}

// protectors returns the ids of the recovery passwords of which one is needed.
func (l *lock) protectors() (ids []string) {
	if l.err != nil || l.open != nil {
		return nil
	}
	for _, id := range l.volume.RecoveryIDs() {
		ids = append(ids, id.String())
	}
	return ids
}

// unlock opens the volume by one of its protectors.
func (l *lock) unlock(protector string, by func(bitlocker.KeyID) (*fve.Unlocked, error)) error {
	id, err := bitlocker.ParseKeyID(protector)
	switch {
	case err != nil:
		return err
	case l.err != nil:
		return l.err
	case l.open != nil:
		return nil
	}
	l.open, err = by(id)
	return err
}

// salt returns the salt of a protector, or nil.
func (l *lock) salt(protector string) []byte {
	id, err := bitlocker.ParseKeyID(protector)
	if err != nil || l.err != nil {
		return nil
	}
	salt, err := l.volume.Salt(id)
	if err != nil {
		return nil
	}
	return salt
}

// shut says why the volume is not open: nil if it is. The error wraps agent.ErrLocked.
func (l *lock) shut() error {
	switch {
	case l.open != nil:
		return nil
	case l.err != nil:
		return fmt.Errorf("%w: %w", agent.ErrLocked, l.err)
	}
	if len(l.volume.RecoveryIDs()) > 0 {
		return fmt.Errorf("%w: no key opened it", agent.ErrLocked)
	}
	var kinds []string
	for _, p := range l.volume.Protectors {
		kinds = append(kinds, p.Kind.String())
	}
	return fmt.Errorf("%w: it has no recovery password, only %s", agent.ErrLocked, strings.Join(kinds, ", "))
}

// describe says what kind of volume it is, for the console.
func (l *lock) describe() string {
	if l.volume == nil {
		return "BitLocker: " + l.err.Error()
	}
	s := fmt.Sprintf("BitLocker, %s, %d recovery passwords", l.volume.Method, len(l.volume.RecoveryIDs()))
	if l.volume.Suspended() {
		s += ", suspended"
	}
	return strings.Join(append([]string{s}, l.volume.Notes...), "; ")
}

// close forgets the key.
func (l *lock) close() error {
	if l.open == nil {
		return nil
	}
	u := l.open
	l.open, l.err = nil, errors.New("the agent is through with it")
	return u.Close()
}
