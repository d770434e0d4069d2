package playbooks

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"unbrick/playbooks/hive"
)

// Registry is the step that puts one value in a registry hive right: a driver that must not
// start, a path that leads nowhere. The value is changed only where When calls what it is
// faulty; any other content is left alone, and so is a value that is not there. Keys, and values
// that are not there, are never made. A hive that is dirty is read as its logs make it, and is
// brought up to date before it is changed.
type Registry struct {
	Hive  string // file in System32/config: SYSTEM, SOFTWARE, DEFAULT, SAM, SECURITY, …
	Key   string // from the root of the hive, backslashes, any case; CurrentControlSet is every ControlSet00N
	Value string // its name, any case; empty is the key's default value
	Type  string // REG_DWORD, REG_QWORD, REG_SZ, REG_EXPAND_SZ: data of another type is neither faulty nor good
	When  Condition
	// With limits the step to installations that have a file which this calls faulty. Such a
	// step comes before the one that removes the file. Nil if no file matters.
	With   *Remove
	Set    string // the good value, a number in decimal or 0x…; empty with Delete
	Delete bool   // the value is removed instead
}

// A Condition says which data is faulty: one of some, or any.
type Condition struct {
	OneOf  []string // as in Registry.Set
	Exists bool     // whatever it is, of whatever type, but for Registry.Set
}

const notThere = "not there"

func (*Registry) step() {}

// String says what the step looks for, on one line.
func (r *Registry) String() string {
	what := "whatever it is"
	if !r.When.Exists {
		what = "if it is " + strings.Join(r.When.OneOf, " or ")
	}
	s := fmt.Sprintf(`registry %s\%s %s:`, r.Hive, r.name(r.Key), what)
	if r.Delete {
		s += " delete"
	} else {
		s += fmt.Sprintf(" set to %s %s", r.Type, r.Set)
	}
	if r.With != nil {
		s += ", where there is a file to " + r.With.String()
	}
	return s
}

// name is how the value is named to a person.
func (r *Registry) name(key string) string {
	if r.Value == "" {
		return key + `\(Default)`
	}
	return key + `\` + r.Value
}

// Check implements [Step]. Each control set that has the key is looked at; a value that is not
// there counts neither as good nor as faulty.
func (r *Registry) Check(v Volume, root string) (Finding, error) {
	f := Finding{Root: root, Step: r.String(), Verdict: Unreadable}
	err := r.Validate()
	if err == nil {
		err = r.check(v, &f)
	}
	if err != nil {
		f.Error = err.Error()
		return f, fmt.Errorf("cannot check %s: %w", root, err)
	}
	return f, nil
}

func (r *Registry) check(v Volume, f *Finding) error {
	alone, err := r.without(v, f.Root)
	if err != nil {
		return err
	}
	paths, err := walk(v, f.Root, configDir+"/"+r.Hive, fs.FileMode.IsRegular)
	if err != nil {
		return err
	}
	good, faulty := 0, 0
	for _, p := range paths {
		file, err := readHive(v, p)
		if err != nil {
			return err
		}
		if file.hive == nil {
			return file.damage()
		}
		values, n, err := r.look(file)
		if err != nil {
			return err
		}
		good += n
		for i := range values {
			if alone != "" {
				values[i].Faulty, values[i].Is = false, ""
				values[i].Why += "; left alone: " + alone
			}
			if values[i].Faulty {
				faulty++
			}
		}
		f.Values = append(f.Values, values...)
	}
	switch {
	case len(f.Values) == 0:
		f.Verdict = Absent
	case alone != "":
		f.Verdict = Clean
	default:
		f.Verdict = verdictOf(good, faulty)
	}
	return nil
}

// without says why the step is not for an installation, or nothing.
func (r *Registry) without(v Volume, root string) (string, error) {
	if r.With == nil {
		return "", nil
	}
	with, err := r.With.Check(v, root)
	if err != nil || with.Verdict.Affected() {
		return "", err
	}
	return fmt.Sprintf("no faulty %s/%s is there", r.With.Directory, r.With.Glob), nil
}

// look returns the value in every key that is meant and is there, and how many are good.
func (r *Registry) look(file *hiveFile) (values []Value, good int, err error) {
	keys, err := r.keys(file.hive)
	if err != nil {
		return nil, 0, err
	}
	for _, key := range keys {
		val := Value{Path: file.path, Name: r.name(key), Was: notThere, Why: "there is nothing to change"}
		is, err := file.hive.Get(key, r.Value)
		if errors.Is(err, hive.ErrNotExist) {
			values = append(values, val)
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		val.Was = valueText(is)
		var ok bool
		if val.Faulty, ok, val.Why = r.judge(is); ok {
			good++
		}
		if val.Faulty {
			val.Is = r.wanted()
		}
		values = append(values, val)
	}
	return values, good, nil
}

// keys returns the keys that the step means and that are there.
func (r *Registry) keys(h *hive.Hive) ([]string, error) {
	const current = "CurrentControlSet"
	meant := []string{r.Key}
	if first, rest, _ := strings.Cut(r.Key, `\`); r.Hive == "SYSTEM" && strings.EqualFold(first, current) {
		top, err := h.Keys("")
		if err != nil {
			return nil, err
		}
		meant = nil
		for _, name := range top {
			if isControlSet(name) {
				meant = append(meant, strings.TrimSuffix(name+`\`+rest, `\`))
			}
		}
	}
	var there []string
	for _, key := range meant {
		_, err := h.Keys(key)
		if err == nil {
			there = append(there, key)
		} else if !errors.Is(err, hive.ErrNotExist) {
			return nil, err
		}
	}
	return there, nil
}

// isControlSet says whether a key of SYSTEM is a control set. Select says which of them is
// current; but Windows may start with another one, so all of them count.
func isControlSet(name string) bool {
	const set = "ControlSet"
	if len(name) != len(set)+3 || !strings.EqualFold(name[:len(set)], set) {
		return false
	}
	return strings.Trim(name[len(set):], "0123456789") == ""
}

// judge decides on one value.
func (r *Registry) judge(v hive.Value) (faulty, good bool, why string) {
	is := func(s string) bool { return v.Type == typeOf(r.Type) && sameText(r.Type, plainText(v), s) }
	switch {
	case r.Set != "" && is(r.Set):
		return false, true, "it is as it has to be"
	case r.When.Exists:
		return true, false, "it is there"
	case slices.ContainsFunc(r.When.OneOf, is):
		return true, false, "it is what the playbook calls faulty"
	}
	return false, false, "it is neither what the playbook calls faulty nor the good value"
}

// wanted is what becomes of a faulty value.
func (r *Registry) wanted() string {
	if r.Delete {
		return notThere
	}
	return valueText(hive.Value{Type: typeOf(r.Type), Data: r.encoded()})
}

// Apply implements [Step]. Every value is compared with what was decided on, and copies of the
// hive and its logs are kept, before the hive is written to; all values of a hive change
// together. A value that is as it is to be already counts as changed.
func (r *Registry) Apply(v Volume, f *Finding, keep Keeper) error {
	err := r.Validate()
	if err == nil && f.Verdict.Affected() {
		err = applyHives(v, f, keep, r.foreign, r.apply)
	}
	return failed(f, err)
}

// foreign says that a value is not one of this step's: f may have travelled.
func (r *Registry) foreign(f *Finding, val *Value) bool {
	key, ok := strings.CutSuffix(val.Name, r.name(""))
	first, rest, _ := strings.Cut(r.Key, `\`)
	same := strings.EqualFold(key, r.Key)
	if r.Hive == "SYSTEM" && strings.EqualFold(first, "CurrentControlSet") {
		set, below, _ := strings.Cut(key, `\`)
		same = isControlSet(set) && strings.EqualFold(below, rest)
	}
	return !ok || !same || !foldEqual(f.Root+"/"+configDir+"/"+r.Hive, val.Path)
}

func (r *Registry) apply(v Volume, file *hiveFile, todo []*Value) error {
	now, _, err := r.look(file)
	if err != nil {
		return err
	}
	var edit []*Value
	for _, val := range todo {
		i := slices.IndexFunc(now, func(n Value) bool { return n.Name == val.Name })
		switch {
		case i < 0 && r.Delete, i >= 0 && now[i].Was == r.wanted():
			val.Why += "; it was so already"
		case i < 0 || now[i].Was != val.Was:
			return fmt.Errorf("%s changed after it was looked at: check again", val.Name)
		default:
			edit = append(edit, val)
		}
	}
	if len(edit) == 0 {
		return nil
	}
	return file.change(v, func(e *hive.Editor) error {
		for _, val := range edit {
			key := strings.TrimSuffix(val.Name, r.name(""))
			var err error
			if r.Delete {
				err = e.Delete(key, r.Value)
			} else {
				err = e.Set(key, r.Value, typeOf(r.Type), r.encoded())
			}
			if err != nil {
				return fmt.Errorf("cannot change %s: %w", val.Name, err)
			}
		}
		return nil
	})
}
