package playbooks

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"unbrick/playbooks/hive"
)

// configDir holds the hives of an installation.
const configDir = "System32/config"

// What Hives.Replay may be.
const (
	ReplayDamaged = "damaged" // hives that are not whole
	ReplayDirty   = "dirty"   // also those that Windows would bring up to date itself
)

// Hives is the step that sees whether registry hives can be loaded, and restores those that
// cannot by replaying their transaction logs. A hive that is whole and only behind its logs is
// how every crash leaves it: it is good, and Windows replays the logs at its next start.
//
// What the logs cannot restore is damaged: nothing is done to it, and the finding says why, and
// whether Windows keeps an older copy in RegBack. That is for another way, or for a person.
type Hives struct {
	Names  []string // files in System32/config; SYSTEM and SOFTWARE if none
	Replay string   // ReplayDamaged if empty
}

func (*Hives) step() {}

func (h *Hives) names() []string {
	if len(h.Names) == 0 {
		return []string{"SYSTEM", "SOFTWARE"}
	}
	return h.Names
}

// Validate says what is wrong with a step that was not made by [Parse].
func (h *Hives) Validate() error {
	errs := []error{checkReplay(h.Replay)}
	for _, n := range h.Names {
		errs = append(errs, checkHive(n))
	}
	return errors.Join(errs...)
}

// String says what the step looks for, on one line.
func (h *Hives) String() string {
	s := "hives " + strings.Join(h.names(), ", ") + ": replay the logs of those that are damaged"
	if h.Replay == ReplayDirty {
		s += " or dirty"
	}
	return s
}

// Check implements [Step]. Each hive is a Value without a name.
func (h *Hives) Check(v Volume, root string) (Finding, error) {
	f := Finding{Root: root, Step: h.String(), Verdict: Unreadable}
	err := h.Validate()
	for _, name := range h.names() {
		if err == nil {
			err = h.check(v, &f, name)
		}
	}
	if err != nil {
		f.Verdict, f.Error = Unreadable, err.Error()
		return f, fmt.Errorf("cannot check %s: %w", root, err)
	}
	f.Verdict = Good
	for _, val := range f.Values {
		switch {
		case val.Faulty && val.Is != "":
			f.Verdict = Faulty
		case val.Faulty && f.Verdict == Good:
			f.Verdict = Damaged
		}
	}
	return f, nil
}

func (h *Hives) check(v Volume, f *Finding, name string) error {
	paths, err := walk(v, f.Root, configDir+"/"+name, fs.FileMode.IsRegular)
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		f.Values = append(f.Values, Value{Path: f.Root + "/" + configDir + "/" + name, Was: notThere, Faulty: true,
			Why: "Windows does not start without it, and it cannot be made; " + regBack(v, f.Root, name)})
	}
	for _, p := range paths {
		file, err := readHive(v, p)
		if err != nil {
			return err
		}
		val := Value{Path: p}
		h.judge(file, &val)
		if val.Faulty && val.Is == "" {
			val.Why += "; " + regBack(v, f.Root, name)
		}
		f.Values = append(f.Values, val)
	}
	return nil
}

// judge says how one hive stands.
func (h *Hives) judge(file *hiveFile, val *Value) {
	logs := fmt.Sprintf("%d changes in %s", file.now.Entries, baseNames(file.now.Logs))
	switch {
	case file.hive == nil:
		val.Was, val.Faulty, val.Why = "damaged", true, file.damage().Error()
	case file.torn != nil:
		val.Was, val.Faulty, val.Why = "damaged", true, file.torn.Error()
		val.Is = "restored by " + logs
	case file.now.Entries > 0 && h.Replay == ReplayDirty:
		val.Was, val.Faulty, val.Why = "whole and dirty", true, "it is behind its logs"
		val.Is = "brought up to date by " + logs
	case file.now.Entries > 0:
		val.Was, val.Why = "whole and dirty", "Windows replays its logs at its next start: "+logs
	default:
		val.Was, val.Why = "whole and clean", "it passes the load test"
	}
}

func baseNames(paths []string) string {
	var names []string
	for _, p := range paths {
		names = append(names, path.Base(p))
	}
	return strings.Join(names, ", ")
}

// regBack says what the copy of a hive is worth that Windows used to make every ten days. Since
// Windows 10 1803 it makes empty files.
func regBack(v Volume, root, name string) string {
	paths, err := walk(v, root, configDir+"/RegBack/"+name, fs.FileMode.IsRegular)
	if err != nil || len(paths) == 0 {
		return "RegBack has no copy of it"
	}
	info, err := fs.Stat(v, paths[0])
	if err != nil || info.Size() == 0 || info.Size() > hive.MaxSize {
		return "the copy in RegBack is empty, as it is since Windows 10 1803"
	}
	b, err := fs.ReadFile(v, paths[0])
	if err == nil {
		_, err = hive.Open(b)
	}
	if err != nil {
		return fmt.Sprintf("the copy in RegBack is of no use: %v", err)
	}
	return fmt.Sprintf("RegBack has a whole copy of %s, which would lose what changed since", utc(hive.Written(b)))
}

// Apply implements [Step]: it writes what the logs make of each hive that Check found
// restorable. What is damaged beyond that is not touched.
func (h *Hives) Apply(v Volume, f *Finding, keep Keeper) error {
	err := h.Validate()
	if err == nil && f.Verdict.Affected() {
		err = applyHives(v, f, keep, h.foreign, func(v Volume, file *hiveFile, _ []*Value) error { return file.settle(v) })
	}
	return failed(f, err)
}

func (h *Hives) foreign(f *Finding, val *Value) bool {
	return val.Name != "" || !slices.ContainsFunc(h.names(), func(n string) bool {
		return foldEqual(f.Root+"/"+configDir+"/"+n, val.Path)
	})
}
