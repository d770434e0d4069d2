package windows

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"unbrick/bitlocker"
	"unbrick/bitlocker/fve"
	"unbrick/remediate/rescue/agent"
)

// A lock is what keeps a BitLocker volume shut, and opens it.
type lock struct {
	volume  *fve.Volume       // nil if the sectors did not say
	ids     []bitlocker.KeyID // of the recovery passwords
	err     error             // why no key would open it
	manager string            // path of manage-bde
	open    bool
}

// readLock reads what a locked volume says of itself: from its sectors, and where they cannot
// be read or are of a form that package fve does not know, from manage-bde.
func readLock(p place) *lock {
	l := &lock{}
	if l.manager, l.err = systemProgram("manage-bde.exe"); l.err != nil {
		l.err = errors.New("this WinPE cannot open BitLocker volumes: it has no manage-bde, so it was made without the component " + Component + "; add that with DISM, or make the image from WinRE.wim, which has it")
	}
	f, err := os.Open(p.device())
	if err == nil {
		l.volume, err = fve.Parse(sectors{f})
		f.Close()
	}
	if err == nil {
		l.ids = l.volume.RecoveryIDs()
	} else if l.err == nil {
		l.ids, l.err = askProtectors(l.manager, p)
	}
	return l
}

// systemProgram returns the path of a program of Windows. The search path is not asked.
func systemProgram(name string) (string, error) {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	_, err = os.Stat(path)
	return path, err
}

// toolLimit bounds a program of Windows.
const toolLimit = 2 * time.Minute

// askProtectors asks manage-bde for the recovery passwords of a locked volume, of which it
// knows the ids alone. Whatever it says in its own language, GUIDs are GUIDs, and the one that is
// no protector's is the volume's own name.
func askProtectors(manager string, p place) (ids []bitlocker.KeyID, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, manager, "-protectors", "-get", p.argument(), "-type", "RecoveryPassword").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot tell the protectors of the volume: manage-bde: %w", err)
	}
	for _, m := range guid.FindAllString(string(out), -1) {
		id, err := bitlocker.ParseKeyID(m)
		if err == nil && !slices.Contains(ids, id) && !strings.Contains(strings.ToUpper(p.guid), id.String()) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// protectors returns the ids of the recovery passwords of which one is needed.
func (l *lock) protectors() (ids []string) {
	if l.err != nil || l.open {
		return nil
	}
	for _, id := range l.ids {
		ids = append(ids, id.String())
	}
	return ids
}

// unlock has manage-bde open the volume. It takes the 48 digits on its command line and in no
// other way; there they can be read by programs of the same host for as long as it runs. In
// WinPE there are none but Windows's own and this one, and nothing is kept of it.
func (l *lock) unlock(ctx context.Context, p place, protector string, key bitlocker.Key) error {
	if l.err != nil {
		return l.err
	}
	id, err := bitlocker.ParseKeyID(protector)
	if err != nil || !slices.Contains(l.ids, id) {
		return fmt.Errorf("the volume has no protector %s", protector)
	}
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	// Its output is not kept: it may quote the key, and is in the language of the image.
	err = exec.CommandContext(ctx, l.manager, "-unlock", p.argument(), "-recoverypassword", key.Reveal()).Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("manage-bde ends with code %#x", uint32(exit.ExitCode()))
	case err != nil:
		return errors.New("cannot run manage-bde") // the error's own text would have the command line
	}
	if p.inspect() == locked {
		return errors.New("manage-bde says that it opened the volume, and it is locked still")
	}
	l.open = true
	return nil
}

// shut says why the volume is not open: nil if it is. The error wraps agent.ErrLocked.
func (l *lock) shut() error {
	switch {
	case l.open:
		return nil
	case l.err != nil:
		return fmt.Errorf("%w: %w", agent.ErrLocked, l.err)
	case len(l.ids) > 0:
		return fmt.Errorf("%w: no key opened it", agent.ErrLocked)
	case l.volume == nil:
		return fmt.Errorf("%w: it has no recovery password", agent.ErrLocked)
	}
	var kinds []string
	for _, p := range l.volume.Protectors {
		kinds = append(kinds, p.Kind.String())
	}
	return fmt.Errorf("%w: it has no recovery password, only %s", agent.ErrLocked, strings.Join(kinds, ", "))
}

// String says what kind of volume it is, for the console.
func (l *lock) String() string {
	s := fmt.Sprintf("BitLocker, locked, %d recovery passwords", len(l.ids))
	if l.volume != nil {
		s += ", " + l.volume.Method.String()
	}
	if l.err != nil {
		s += ": " + l.err.Error()
	}
	return s
}
