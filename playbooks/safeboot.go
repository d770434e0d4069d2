package playbooks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"unbrick/playbooks/hive"
)

// Safeboot is the step that has Windows start normally again: it clears the Safe Mode flag in
// every boot entry of every boot store on a volume, since who set it on the current entry and
// cleared it on the default one left it set. Boot stores are on the EFI system partition
// (EFI/Microsoft/Boot/BCD) or on the system partition (Boot/BCD), seldom beside Windows; Root in
// its findings is the path of the store.
type Safeboot struct{}

// What a boot store holds: a hive with a key per entry, and in it one per element.
const (
	safeBootElement = "25000080" // BcdOSLoaderInteger_SafeBoot
	nameElement     = "12000004" // BcdLibraryString_Description
	osLoader        = 0x10200003 // type of an entry that starts Windows
)

func (*Safeboot) step() {}

// String says what the step looks for, on one line.
func (*Safeboot) String() string { return "safeboot: clear the Safe Mode flag of every boot entry" }

// places returns the boot stores of a volume.
func (*Safeboot) places(v Volume) ([]string, error) {
	var stores []string
	for _, rel := range []string{"EFI/Microsoft/Boot/BCD", "Boot/BCD"} {
		found, err := walk(v, ".", rel, fs.FileMode.IsRegular)
		if err != nil {
			return stores, fmt.Errorf("cannot look for boot stores: %w", err)
		}
		stores = append(stores, found...)
	}
	return stores, nil
}

// Check implements [Step]; store is the path of a boot store.
func (s *Safeboot) Check(v Volume, store string) (Finding, error) {
	f := Finding{Root: store, Step: s.String(), Verdict: Unreadable}
	file, err := readHive(v, store)
	if err == nil && file.hive == nil {
		err = file.damage()
	}
	if err == nil {
		f.Values, err = s.look(file)
	}
	if err != nil {
		f.Error = err.Error()
		return f, fmt.Errorf("cannot check %s: %w", store, err)
	}
	good, faulty := 0, 0
	for _, val := range f.Values {
		if val.Faulty {
			faulty++
		} else {
			good++
		}
	}
	f.Verdict = verdictOf(good, faulty)
	return f, nil
}

// look returns the flag of every entry that has it or starts Windows.
func (s *Safeboot) look(file *hiveFile) ([]Value, error) {
	entries, err := file.hive.Keys("Objects")
	if err != nil {
		return nil, fmt.Errorf("it is no boot store: %w", err)
	}
	var values []Value
	for _, entry := range entries {
		elements := `Objects\` + entry + `\Elements\`
		val := Value{Path: file.path, Name: elements + safeBootElement, Was: notThere, Why: "it starts normally"}
		flag, err := file.hive.Get(elements+safeBootElement, "Element")
		switch {
		case err == nil:
			val.Was, val.Is, val.Faulty, val.Why = safeMode(flag.Data), notThere, true, "it starts in Safe Mode"
		case !errors.Is(err, hive.ErrNotExist):
			return nil, err
		default:
			if kind, err := file.hive.Get(`Objects\`+entry+`\Description`, "Type"); err != nil || kind.Number() != osLoader {
				continue
			}
		}
		if title, err := file.hive.Get(elements+nameElement, "Element"); err == nil {
			val.Why = fmt.Sprintf("%q: %s", title.Text(), val.Why)
		}
		values = append(values, val)
	}
	return values, nil
}

// safeMode names the kind of Safe Mode.
func safeMode(data []byte) string {
	kinds := []string{"Safe Mode", "Safe Mode with Networking", "Directory Services Restore Mode"}
	if len(data) == 8 {
		if n := binary.LittleEndian.Uint64(data); n < uint64(len(kinds)) {
			return kinds[n]
		}
	}
	return fmt.Sprintf("% X", data)
}

// Apply implements [Step].
func (s *Safeboot) Apply(v Volume, f *Finding, keep Keeper) error {
	if !f.Verdict.Affected() {
		return nil
	}
	return failed(f, applyHives(v, f, keep, s.foreign, s.apply))
}

func (s *Safeboot) foreign(f *Finding, val *Value) bool {
	elems := strings.Split(val.Name, `\`)
	return len(elems) != 4 || elems[0] != "Objects" || elems[2] != "Elements" || elems[3] != safeBootElement || val.Path != f.Root
}

func (s *Safeboot) apply(v Volume, file *hiveFile, todo []*Value) error {
	now, err := s.look(file)
	if err != nil {
		return err
	}
	var keys []string
	for _, val := range todo {
		if slices.ContainsFunc(now, func(n Value) bool { return n.Name == val.Name && n.Faulty }) {
			keys = append(keys, val.Name)
		} else {
			val.Why += "; it was gone already"
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return file.change(v, func(e *hive.Editor) error {
		for _, key := range keys {
			if err := e.DeleteKey(key); err != nil {
				return fmt.Errorf("cannot remove %s: %w", key, err)
			}
		}
		return nil
	})
}
