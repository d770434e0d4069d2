package playbooks

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// What a playbook may say of the registry.
const (
	maxKey    = 400
	maxName   = 200
	maxString = 1000
	maxOneOf  = 50
)

// hiveNames are the hives of an installation, by their file in System32/config.
func hiveNames() []string {
	return []string{"SYSTEM", "SOFTWARE", "DEFAULT", "SAM", "SECURITY", "COMPONENTS", "DRIVERS"}
}

// Validate says what is wrong with a step that was not made by [Parse].
func (r *Registry) Validate() error {
	errs := []error{checkHive(r.Hive), checkKey(r.Key), checkValueName(r.Value), checkType(r.Type), r.checkWhole()}
	for _, s := range append(slices.Clone(r.When.OneOf), r.Set) {
		if s != "" || !r.Delete {
			errs = append(errs, checkData(r.Type, s))
		}
	}
	if len(r.When.OneOf) > maxOneOf {
		errs = append(errs, fmt.Errorf("one-of has up to %d values", maxOneOf))
	}
	if r.With != nil {
		errs = append(errs, r.With.Validate())
	}
	return errors.Join(errs...)
}

// checkWhole checks what the keys say together.
func (r *Registry) checkWhole() error {
	switch {
	case len(r.When.OneOf) == 0 && !r.When.Exists:
		return errors.New("a value is never changed whatever it is: when says which is faulty (equals, one-of, exists)")
	case len(r.When.OneOf) > 0 && r.When.Exists:
		return errors.New("when has either exists, or the faulty values (equals, one-of)")
	case (r.Set != "") == r.Delete:
		return errors.New("give one of the two: set (the good value), or delete: true")
	}
	for _, s := range r.When.OneOf {
		if r.Set != "" && sameText(r.Type, s, r.Set) {
			return fmt.Errorf("%s is called faulty by when and is what set makes of it", s)
		}
	}
	return nil
}

func checkHive(s string) error {
	if !slices.Contains(hiveNames(), s) {
		return fmt.Errorf("a hive is one of %s", strings.Join(hiveNames(), ", "))
	}
	return nil
}

func checkKey(s string) error {
	elems := strings.Split(s, `\`)
	switch {
	case s == "" || len(s) > maxKey:
		return fmt.Errorf("a key has 1 to %d characters", maxKey)
	case slices.Contains(elems, ""):
		return errors.New(`a key has names with one backslash between two: CurrentControlSet\Services\acme`)
	case slices.ContainsFunc([]string{"HKLM", "HKEY_LOCAL_MACHINE", "SYSTEM", "SOFTWARE"}, func(w string) bool { return strings.EqualFold(w, elems[0]) }):
		return fmt.Errorf("leave out %q: the key is written from the root of its hive down", elems[0])
	}
	return checkRegistryText(s)
}

func checkValueName(s string) error {
	if len(s) > maxName {
		return fmt.Errorf("the name of a value has up to %d characters", maxName)
	}
	return checkRegistryText(s)
}

// checkRegistryText allows ASCII alone, because Windows and Go do not fold the case of other
// letters in the same way.
func checkRegistryText(s string) error {
	for _, r := range s {
		if r < ' ' || r > '~' {
			return fmt.Errorf("%q may not be in the name of a key or value here", r)
		}
	}
	return nil
}

func checkType(s string) error {
	if !slices.Contains(valueTypes(), s) {
		return fmt.Errorf("a type is one of %s", strings.Join(valueTypes(), ", "))
	}
	return nil
}

// valueTypes are the types that a step reads and writes, as regedit shows them.
func valueTypes() []string { return []string{"REG_DWORD", "REG_QWORD", "REG_SZ", "REG_EXPAND_SZ"} }

func numeric(kind string) bool { return kind == "REG_DWORD" || kind == "REG_QWORD" }

// checkData says whether s is how a playbook writes data of that type.
func checkData(kind, s string) error {
	if !numeric(kind) {
		if s == "" || len(s) > maxString || strings.ContainsAny(s, "\x00\r\n") {
			return fmt.Errorf("a text in the registry is one line of 1 to %d characters here", maxString)
		}
		return nil
	}
	most := uint64(math.MaxUint64)
	if kind == "REG_DWORD" {
		most = math.MaxUint32
	}
	if n, err := strconv.ParseUint(s, 0, 64); err != nil || n > most {
		return fmt.Errorf("a %s is a whole number from 0 to %d, decimal or 0x and hexadecimal digits, not %q", kind, most, s)
	}
	return nil
}

// sameText compares data as a playbook writes it. Windows compares paths and names, which
// is what texts in the registry are, without regard to case; so does this.
func sameText(kind, a, b string) bool {
	if !numeric(kind) {
		return strings.EqualFold(a, b)
	}
	x, errX := strconv.ParseUint(a, 0, 64)
	y, errY := strconv.ParseUint(b, 0, 64)
	return errX == nil && errY == nil && x == y
}

// registry decodes the step of that name. What values are allowed depends on type, which may
// come after them, so they are read last.
func (d *decoder) registry(n ast.Node) Step {
	r, before := &Registry{}, len(d.errs)
	var data []func()
	one := func(n ast.Node) {
		data = append(data, func() { r.When.OneOf = append(r.When.OneOf, d.data(n, r.Type)) })
	}
	text := func(to *string, want string, check func(string) error) func(ast.Node) {
		return func(n ast.Node) {
			*to = d.text(n, want)
			d.check(n, check(*to))
		}
	}
	d.mapping(n, "registry", map[string]func(ast.Node){
		"hive":  text(&r.Hive, "a hive", checkHive),
		"key":   text(&r.Key, "a key", checkKey),
		"value": text(&r.Value, "the name of a value", checkValueName),
		"type":  text(&r.Type, "a type", checkType),
		"when": func(n ast.Node) {
			d.mapping(n, "when", map[string]func(ast.Node){
				"equals": one,
				"one-of": func(n ast.Node) {
					for _, n := range d.list(n, maxOneOf, "values") {
						one(n)
					}
				},
				"exists": func(n ast.Node) { r.When.Exists = d.yes(n) },
			})
		},
		"with":   func(n ast.Node) { r.With = d.remove(n).(*Remove) },
		"set":    func(n ast.Node) { data = append(data, func() { r.Set = d.data(n, r.Type) }) },
		"delete": func(n ast.Node) { r.Delete = d.yes(n) },
	}, "hive", "key", "value", "type", "when")
	if len(d.errs) > before {
		return r
	}
	for _, f := range data {
		f()
	}
	if len(d.errs) == before {
		d.check(n, r.checkWhole())
	}
	return r
}

// data reads the data of a registry value: a number as YAML has it, or a text.
func (d *decoder) data(n ast.Node, kind string) string {
	s := ""
	if i, ok := n.(*ast.IntegerNode); ok && numeric(kind) {
		s = fmt.Sprint(i.Value)
	} else {
		s = d.text(n, "the data of a "+kind)
	}
	d.check(n, checkData(kind, s))
	return s
}

// yes reads what can only be said, not denied.
func (d *decoder) yes(n ast.Node) bool {
	if b, ok := n.(*ast.BoolNode); ok && b.Value {
		return true
	}
	d.fail(n, "true is wanted here: leave the key out if it is not so")
	return false
}

// hives decodes the step of that name.
func (d *decoder) hives(n ast.Node) Step {
	h := &Hives{}
	d.mapping(n, "hives", map[string]func(ast.Node){
		"names": func(n ast.Node) {
			for _, n := range d.list(n, len(hiveNames()), "names") {
				h.Names = append(h.Names, d.text(n, "a hive"))
				d.check(n, checkHive(h.Names[len(h.Names)-1]))
			}
		},
		"replay": func(n ast.Node) {
			h.Replay = d.text(n, "damaged or dirty")
			d.check(n, checkReplay(h.Replay))
		},
	})
	return h
}

func checkReplay(s string) error {
	if s != "" && s != ReplayDamaged && s != ReplayDirty {
		return fmt.Errorf("replay is %s or %s", ReplayDamaged, ReplayDirty)
	}
	return nil
}

// safeboot decodes the step of that name, which has nothing to say beside it.
func (d *decoder) safeboot(n ast.Node) Step {
	d.mapping(n, "safeboot", nil)
	return &Safeboot{}
}
