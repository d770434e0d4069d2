package playbooks

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"unbrick/playbooks/hive"
)

// A hiveFile is a registry hive on a volume with its transaction logs, read once.
type hiveFile struct {
	path    string
	files   []File     // the primary file, then the logs that hold something, for the keeper
	primary []byte     // as it is on the disk
	logs    []hive.Log // named by their paths; also empty ones
	torn    error      // why the primary file alone does not pass the load test
	lost    error      // why the logs do not bring it up to date
	hive    *hive.Hive // as Windows will see it, its logs replayed; nil if torn and lost, or dirty and lost
	now     hive.Recovery
}

// readHive reads the hive at a path. An error means that files could not be read; a damaged
// hive is none.
func readHive(v Volume, name string) (*hiveFile, error) {
	f := &hiveFile{path: name}
	var err error
	if f.primary, err = f.read(v, name); err != nil {
		return nil, err
	}
	for _, suffix := range []string{".LOG1", ".LOG2", ".LOG"} {
		if suffix == ".LOG" && len(f.files) > 1 {
			break // there for the sake of older programs
		}
		if err := f.readLogs(v, path.Base(name)+suffix); err != nil {
			return nil, err
		}
	}
	_, f.torn = hive.Open(f.primary)
	if f.now, f.lost = hive.Recover(f.primary, f.logs...); f.lost != nil {
		return f, nil
	}
	if f.hive, err = hive.Open(f.now.Primary); err != nil {
		f.lost = errors.New("Windows wrote it to its end: its logs have nothing to restore it from")
	}
	return f, nil
}

// read reads one file, and notes what it was for the keeper. Empty logs need no copy.
func (f *hiveFile) read(v Volume, name string) ([]byte, error) {
	info, err := fs.Stat(v, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > hive.MaxSize || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no registry file: %d bytes, %s", name, info.Size(), info.Mode())
	}
	b, err := fs.ReadFile(v, name)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != info.Size() {
		return nil, fmt.Errorf("cannot read %s: it has %d bytes and %d came", name, info.Size(), len(b))
	}
	if len(b) > 0 {
		sum := sha256.Sum256(b)
		f.files = append(f.files, File{Path: name, Size: info.Size(), ModTime: info.ModTime().UTC(),
			SHA256: fmt.Sprintf("%x", sum), Why: "a registry file before it is changed"})
	}
	return b, nil
}

func (f *hiveFile) readLogs(v Volume, name string) error {
	found, err := lookup(v, path.Dir(f.path), name, fs.FileMode.IsRegular)
	if err != nil {
		return err
	}
	for _, log := range found {
		b, err := f.read(v, log)
		if err != nil {
			return err
		}
		f.logs = append(f.logs, hive.Log{Name: log, Content: b})
	}
	return nil
}

// keep has a copy taken of everything that may be written to.
func (f *hiveFile) keep(v Volume, keep Keeper) error {
	if keep == nil {
		return errors.New("nobody keeps a copy: nothing is changed")
	}
	for i := range f.files {
		if err := keepCopy(v, &f.files[i], keep); err != nil {
			return fmt.Errorf("nothing is changed: %w", err)
		}
	}
	return nil
}

// settle writes to the primary file what its logs make of it. Until the last write, that of
// the base block, the file is dirty and the logs restore it again.
func (f *hiveFile) settle(v Volume) error {
	if f.lost != nil {
		return f.lost
	}
	if f.now.Entries == 0 {
		return nil
	}
	const base = 4096
	half := bytes.Clone(f.now.Primary)
	clear(half[:base]) // there may be less of it: no base block is dirty too
	copy(half[:base], f.primary)
	if err := f.write(v, half, f.now.Primary); err != nil {
		return err
	}
	f.primary = f.now.Primary
	return nil
}

// change has edit change the hive and writes the result, by way of a log if there is one:
// cut off anywhere, the hive is the old one, or its log makes of it the new one. Where there
// is no log the kept copy is all that is left of a hive that was cut off.
func (f *hiveFile) change(v Volume, edit func(*hive.Editor) error) error {
	if err := f.settle(v); err != nil {
		return err
	}
	e, err := f.hive.Edit(time.Now())
	if err != nil {
		return err
	}
	if err := edit(e); err != nil {
		return err
	}
	next, err := e.Bytes()
	if err != nil {
		return err
	}
	log := hive.Log{}
	if len(f.logs) > 0 {
		log = f.logs[0]
	}
	w, err := hive.Plan(f.primary, next, log.Content, f.logs...)
	if err != nil {
		return err
	}
	if log.Name == "" {
		return f.write(v, w.Done)
	}
	if err := v.WriteFile(log.Name, w.Log); err != nil {
		return fmt.Errorf("cannot write to %s, and nothing is changed: %w", log.Name, err)
	}
	return f.write(v, w.Begun, w.Filled, w.Done)
}

// write writes states of the primary file one after the other, and sees that the last is what
// is read back.
func (f *hiveFile) write(v Volume, states ...[]byte) error {
	for _, b := range states {
		if err := v.WriteFile(f.path, b); err != nil {
			return fmt.Errorf("cannot write to %s: %w", f.path, err)
		}
	}
	b, err := fs.ReadFile(v, f.path)
	if err != nil {
		return fmt.Errorf("cannot see whether %s is as written: %w", f.path, err)
	}
	if !bytes.Equal(b, states[len(states)-1]) {
		return fmt.Errorf("%s is not as it was written", f.path)
	}
	return nil
}

// applyHives does what a step has to do to each hive of a Finding, copies first. Of what do
// reports no error for, the values count as changed.
func applyHives(v Volume, f *Finding, keep Keeper, foreign func(*Finding, *Value) bool, do func(Volume, *hiveFile, []*Value) error) error {
	todo := map[string][]*Value{}
	var paths []string
	for i := range f.Values {
		val := &f.Values[i]
		if !val.Faulty || val.Changed || val.Is == "" {
			continue
		}
		if !fs.ValidPath(val.Path) || foreign(f, val) {
			return fmt.Errorf("%s in %s is not of this step: nothing is changed", val.Name, val.Path)
		}
		if todo[val.Path] == nil {
			paths = append(paths, val.Path)
		}
		todo[val.Path] = append(todo[val.Path], val)
	}
	var errs []error
	for _, p := range paths {
		file, err := readHive(v, p)
		if err == nil && file.hive == nil {
			err = file.damage()
		}
		if err == nil {
			err = file.keep(v, keep)
		}
		if err == nil {
			err = do(v, file, todo[p])
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, val := range todo[p] {
			val.Changed = true
		}
	}
	return errors.Join(errs...)
}

func failed(f *Finding, err error) error {
	if err == nil {
		return nil
	}
	f.Error = err.Error()
	return fmt.Errorf("cannot repair %s: %w", f.Root, err)
}

// damage says why a hive cannot be used.
func (f *hiveFile) damage() error {
	if f.torn != nil {
		return fmt.Errorf("the registry hive %s is damaged (%w); %w", path.Base(f.path), f.torn, f.lost)
	}
	return fmt.Errorf("the registry hive %s was not written to its end; %w", path.Base(f.path), f.lost)
}
