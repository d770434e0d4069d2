package playbooks

import (
	"errors"
	"fmt"
	"strings"
)

// Registry is the step that puts one value in a registry hive right: a driver that must not
// start, a path that leads nowhere. The value is changed only where When calls what it is
// faulty; any other content is left alone, and so is a value that is not there. Keys, and values
// that are not there, are never made.
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
	Exists bool     // whatever it is, but for Registry.Set
}

func (*Registry) step() {}

// String says what the step looks for, on one line.
func (r *Registry) String() string {
	what := "whatever it is"
	if !r.When.Exists {
		what = "if it is " + strings.Join(r.When.OneOf, " or ")
	}
	s := fmt.Sprintf(`registry %s\%s\%s %s:`, r.Hive, r.Key, r.valueName(), what)
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

func (r *Registry) valueName() string {
	if r.Value == "" {
		return "(Default)"
	}
	return r.Value
}

// errUnfinished is what the steps below say until they are done.
var errUnfinished = errors.New("this kind of step cannot be carried out yet")

// Check implements [Step].
func (r *Registry) Check(v Volume, root string) (Finding, error) {
	return Finding{Root: root, Step: r.String(), Verdict: Unreadable, Error: errUnfinished.Error()}, errUnfinished
}

// Apply implements [Step].
func (r *Registry) Apply(Volume, *Finding, Keeper) error { return errUnfinished }
