package windows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"unbrick/playbooks/hive"
	"unbrick/remediate/rescue/agent/keyless"
)

// A storeFile is a boot store on a volume of the host.
type storeFile struct {
	place
	rel string // below the root of the volume
}

func (s storeFile) path() string   { return filepath.Join(s.root(), s.rel) }
func (s storeFile) marker() string { return filepath.Join(filepath.Dir(s.path()), MarkerName) }

// storeFiles returns the boot stores on the host's fixed disks: on the EFI system partition,
// or where BIOS starts from.
func storeFiles() (out []storeFile, err error) {
	all, err := hostPlaces()
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		for _, rel := range []string{`EFI\Microsoft\Boot\BCD`, `Boot\BCD`} {
			s := storeFile{p, rel}
			if info, err := os.Stat(s.path()); err == nil && info.Mode().IsRegular() {
				out = append(out, s)
			}
		}
	}
	return out, nil
}

// read reads the store with its logs.
func (s storeFile) read() (bootStore, error) {
	primary, err := os.ReadFile(s.path())
	if err != nil {
		return bootStore{}, err
	}
	var logs []hive.Log
	for _, ext := range []string{".LOG1", ".LOG2", ".LOG"} {
		b, err := os.ReadFile(s.path() + ext)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return bootStore{}, err
		}
		logs = append(logs, hive.Log{Name: filepath.Base(s.path()) + ext, Content: b})
	}
	return parseStore(primary, logs...)
}

// edit runs bcdedit on the store, under a letter that the volume gets for as long if it has
// none, and returns what the store says afterwards. Entries are named by GUID: {default} and
// {current} mean something else here than in the host's Windows.
func (s storeFile) edit(ctx context.Context, args ...string) (after bootStore, err error) {
	program, err := systemProgram("bcdedit.exe")
	if err != nil {
		return after, fmt.Errorf("this WinPE has no bcdedit: %w", err)
	}
	path, release, err := s.lettered()
	if err != nil {
		return after, err
	}
	defer func() { err = errors.Join(err, release()) }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), toolLimit) // not half of it
	defer cancel()
	err = exec.CommandContext(ctx, program, append([]string{"/store", path}, args...)...).Run()
	if err != nil {
		return after, fmt.Errorf("bcdedit %s: %w", strings.Join(args, " "), err)
	}
	return s.read()
}

// lettered returns the path of the store under a drive letter, and what takes the letter away
// again if the volume had none.
func (s storeFile) lettered() (path string, release func() error, err error) {
	if s.mount != "" {
		return s.path(), func() error { return nil }, nil
	}
	used, err := windows.GetLogicalDrives()
	if err != nil {
		return "", nil, err
	}
	for letter := 'Z'; letter > 'C'; letter-- {
		if used&(1<<(letter-'A')) != 0 {
			continue
		}
		root := windows.StringToUTF16Ptr(string(letter) + `:\`)
		if err := windows.SetVolumeMountPoint(root, windows.StringToUTF16Ptr(s.guid)); err != nil {
			return "", nil, fmt.Errorf("cannot give the volume of the boot store a letter: %w", err)
		}
		return filepath.Join(string(letter)+`:\`, s.rel), func() error { return windows.DeleteVolumeMountPoint(root) }, nil
	}
	return "", nil, errors.New("no drive letter is free for the volume of the boot store")
}

// Keyless implements agent.Keyless.
func (v *volume) Keyless() (keyless.Decision, bool) {
	if v.lock == nil || v.lock.volume == nil || !keyless.System(v.lock.volume) {
		return keyless.Decision{}, false
	}
	return keyless.Decide(keyless.FactsOf(v.lock.volume, keyless.Policy{})), true
}

// StartSafe implements agent.SafeStarter. It refuses where it is not certain which entry of
// which boot store starts the Windows of this volume. The marker is written first; what was
// set is read back, and taken back if it is not that.
func (v *volume) StartSafe(ctx context.Context) (did string, err error) {
	if d, ok := v.Keyless(); !ok || d.Way != keyless.SafeMode {
		return "", errors.New("the volume would not open in Safe Mode")
	}
	if !v.alone {
		return "", errors.New("there are several locked Windows: it cannot be told which of them would start")
	}
	stores, err := storeFiles()
	if err != nil || len(stores) != 1 {
		return "", errors.Join(fmt.Errorf("%d boot stores are to be seen, not 1", len(stores)), err)
	}
	s := stores[0]
	b, err := s.read()
	if err != nil {
		return "", fmt.Errorf("cannot read the boot store: %w", err)
	}
	entry, err := b.windows()
	if err == nil {
		err = b.mayStartSafe(entry)
	}
	if err != nil {
		return "", err
	}
	if err := s.setSafe(ctx, entry); err != nil {
		return "", errors.Join(err, s.clearSafe(ctx, entry))
	}
	return fmt.Sprintf("not opened: Windows will start in Safe Mode with Networking and open the volume itself (safeboot set for %s in %s); WinRM has to repair it there and clear the setting", entry, s.path()), nil
}

func (s storeFile) setSafe(ctx context.Context, entry string) error {
	b, err := json.MarshalIndent(Marker{Entry: entry, Set: "network", Was: "absent", At: time.Now().UTC().Truncate(time.Second)}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeSynced(s.marker(), b); err != nil {
		return fmt.Errorf("cannot write down what will be set: %w", err)
	}
	after, err := s.edit(ctx, "/set", entry, "safeboot", "network")
	if err != nil {
		return err
	}
	mode, set, err := after.safeboot(entry)
	if err != nil || !set || mode != safeNetwork {
		return errors.Join(fmt.Errorf("bcdedit did not set what it was told to set (safeboot is there: %t, %d)", set, mode), err)
	}
	return flush(s.device())
}

// clearSafe undoes setSafe, however far that came, and removes the marker last.
func (s storeFile) clearSafe(ctx context.Context, entry string) error {
	b, err := s.read()
	if err != nil {
		return fmt.Errorf("cannot read the boot store: %w", err)
	}
	_, set, err := b.safeboot(entry)
	if err == nil && set {
		if b, err = s.edit(ctx, "/deletevalue", entry, "safeboot"); err == nil {
			_, set, err = b.safeboot(entry)
		}
		if err == nil && set {
			err = errors.New("bcdedit did not clear it")
		}
	}
	if err != nil {
		return fmt.Errorf("cannot clear the Safe Mode flag of %s in %s: %w", entry, s.path(), err)
	}
	if err := os.Remove(s.marker()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return flush(s.device())
}

// Restore implements agent.Restorer.
func (h *Host) Restore(ctx context.Context) (did string, err error) {
	stores, err := storeFiles()
	if err != nil {
		return "", err
	}
	var done []string
	var errs []error
	for _, s := range stores {
		b, err := os.ReadFile(s.marker())
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var m Marker
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err == nil && !wholeGUID.MatchString(m.Entry) {
			err = errors.New("it names no boot entry")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot read %s: %w", s.marker(), err))
			continue
		}
		if err := s.clearSafe(ctx, m.Entry); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, fmt.Sprintf("Windows starts normally again: safeboot of %s, which unbrick had set, is cleared", m.Entry))
	}
	return strings.Join(done, "; "), errors.Join(errs...)
}

// writeSynced writes a new file, and returns when it is on the disk.
func writeSynced(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
