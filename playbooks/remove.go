package playbooks

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// DefaultMax is how many faulty files one Windows installation may have before a step
// refuses to remove any: an incident leaves a few, a mistake in a playbook matches many.
const DefaultMax = 20

// maxListed limits the files of the kind that a report names.
const maxListed = 1000

// Remove is the step that removes faulty files. A file is faulty if its name matches Glob,
// it begins with Header, and its last write is in Written or its content is in SHA256. At
// least one of the last two must be given: a name alone never decides. Every other file is
// left as it is.
type Remove struct {
	Directory string   // relative to the Windows directory, slashes, any case
	Glob      string   // file name with * and ?, any case
	Header    []byte   // first bytes of every file of the kind; none if empty
	Written   Window   // last-write time of the faulty files; zero if it does not matter
	SHA256    []string // known faulty content, lower-case hex; decides outside of Written too
	Max       int      // most faulty files in one installation; 0 is DefaultMax
}

// A Window is a span of time: From is in it, Until is not.
type Window struct{ From, Until time.Time }

// Contains says that t, in any zone, is in the window.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.From) && t.Before(w.Until) }

func (w Window) isZero() bool { return w.From.IsZero() && w.Until.IsZero() }

func (w Window) String() string {
	return utc(w.From) + " to " + utc(w.Until)
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func (*Remove) step() {}

// String says what the step looks for, on one line.
func (r *Remove) String() string {
	s := "remove " + r.Directory + "/" + r.Glob
	if len(r.Header) > 0 {
		s += fmt.Sprintf(" that begins with % X,", []byte(r.Header))
	}
	if !r.Written.isZero() {
		s += " written " + r.Written.String()
	}
	if len(r.SHA256) > 0 {
		s += fmt.Sprintf(" or one of %d hashes", len(r.SHA256))
	}
	return s
}

// Check implements [Step]. Files of the kind are listed with what decided; so are files that
// match Glob and are not of the kind, which count neither as good nor as faulty. It fails
// where it cannot look, at links on the way, and where more than Max files are faulty.
func (r *Remove) Check(v Volume, root string) (Finding, error) {
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

func (r *Remove) check(v Volume, f *Finding) error {
	dirs, err := walk(v, f.Root, r.Directory, fs.FileMode.IsDir)
	if err != nil {
		return err
	}
	if len(dirs) == 0 {
		f.Verdict = Absent
		return nil
	}
	good, faulty := 0, 0
	for _, dir := range dirs {
		names, err := r.matches(v, dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			file, kind, err := r.inspect(v, path.Join(dir, name))
			if err != nil {
				return err
			}
			f.Files = append(f.Files, file)
			switch {
			case file.Faulty:
				faulty++
			case kind:
				good++
			}
		}
	}
	f.Verdict = verdictOf(good, faulty)
	return r.limit(faulty)
}

func verdictOf(good, faulty int) Verdict {
	switch {
	case good > 0 && faulty > 0:
		return Both
	case faulty > 0:
		return Faulty
	case good > 0:
		return Good
	}
	return Clean
}

// limit refuses what looks like a mistake in the playbook.
func (r *Remove) limit(faulty int) error {
	most := r.Max
	if most == 0 {
		most = DefaultMax
	}
	if faulty > most {
		return fmt.Errorf("%d files are faulty and at most %d are expected: nothing is removed; look at them, then raise max in the playbook", faulty, most)
	}
	return nil
}

// matches returns the names in dir that match the glob. A link or a directory among them is
// an error: nothing else says what it hides.
func (r *Remove) matches(v Volume, dir string) ([]string, error) {
	entries, err := fs.ReadDir(v, dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !globMatch(r.Glob, e.Name()) {
			continue
		}
		if !e.Type().IsRegular() {
			return nil, fmt.Errorf("%s is not a plain file (%s)", path.Join(dir, e.Name()), modeName(e.Type()))
		}
		names = append(names, e.Name())
	}
	if len(names) > maxListed {
		return nil, fmt.Errorf("%d files in %s match %s: the playbook's glob is too wide", len(names), dir, r.Glob)
	}
	return names, nil
}

// inspect reads one file and decides. The second result says that it is of the kind.
func (r *Remove) inspect(v Volume, name string) (File, bool, error) {
	file, head, err := readFile(v, name, len(r.Header))
	if err != nil {
		return file, false, err
	}
	kind := r.decide(&file, head)
	return file, kind, nil
}

// decide sets Faulty and Why, and says whether the file is of the kind.
func (r *Remove) decide(f *File, head []byte) (kind bool) {
	if string(head) != string(r.Header) {
		f.Why = fmt.Sprintf("not of the kind: it begins with % X, not with % X", head, r.Header)
		if len(head) == 0 {
			f.Why = "not of the kind: it is empty"
		}
		return false
	}
	in := !r.Written.isZero() && r.Written.Contains(f.ModTime)
	when := "last write " + utc(f.ModTime)
	var why []string
	for _, known := range r.SHA256 {
		if strings.EqualFold(known, f.SHA256) {
			why = append(why, "its SHA-256 is that of known faulty content")
			break
		}
	}
	f.Faulty = in || len(why) > 0
	switch {
	case in:
		why = append(why, when+" is in the window "+r.Written.String())
	case !r.Written.isZero():
		why = append(why, when+" is outside of the window "+r.Written.String())
	case !f.Faulty:
		why = append(why, "its SHA-256 is not that of known faulty content")
	}
	f.Why = strings.Join(why, "; ")
	return true
}

// Apply implements [Step]. It first reads every faulty file again, compares it with what was
// decided on and has keep take a copy, and only then removes the first one: if any of that
// fails, nothing is removed. Each file is compared once more right before it goes. A file
// that is gone already counts as removed.
func (r *Remove) Apply(v Volume, f *Finding, keep Keeper) error {
	err := r.apply(v, f, keep)
	if err != nil {
		f.Error = err.Error()
		return fmt.Errorf("cannot repair %s: %w", f.Root, err)
	}
	return nil
}

func (r *Remove) apply(v Volume, f *Finding, keep Keeper) error {
	if keep == nil {
		return errors.New("nobody keeps a copy: nothing is removed")
	}
	todo, err := r.todo(f)
	if err != nil {
		return err
	}
	for _, file := range todo {
		if err := keepCopy(v, file, keep); err != nil {
			return fmt.Errorf("nothing is removed: %w", err)
		}
	}
	var errs []error
	for _, file := range todo {
		if err := removeFile(v, file); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// todo returns the faulty files of f that are still to go. It takes nothing on trust: f may
// have travelled, or be of another step.
func (r *Remove) todo(f *Finding) ([]*File, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if !f.Verdict.Affected() {
		return nil, nil
	}
	var todo []*File
	for i := range f.Files {
		file := &f.Files[i]
		if !file.Faulty || file.Removed {
			continue
		}
		dir, name := path.Split(file.Path)
		if !fs.ValidPath(file.Path) || !foldEqual(f.Root+"/"+r.Directory+"/", dir) || !globMatch(r.Glob, name) {
			return nil, fmt.Errorf("%s is not a file of this step: nothing is removed", file.Path)
		}
		todo = append(todo, file)
	}
	return todo, r.limit(len(todo))
}
