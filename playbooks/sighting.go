package playbooks

import (
	"fmt"
	"path"
)

// A Sighting is one file of a volume that is not here to be read, as a program on the host saw
// it. Faulty and Why are what Judge is there for.
type Sighting struct {
	File
	Head []byte // its first bytes, as many as there are and at least those of a header
}

// Judge decides on files that were seen elsewhere by the rules of Check, and returns the
// Finding of Check: there says whether the directory is there, seen is all that it holds.
func (r *Remove) Judge(root string, there bool, seen []Sighting) (Finding, error) {
	f := Finding{Root: root, Step: r.String(), Verdict: Unreadable}
	err := r.judge(&f, there, seen)
	if err != nil {
		f.Error = err.Error()
		return f, fmt.Errorf("cannot check %s: %w", root, err)
	}
	return f, nil
}

func (r *Remove) judge(f *Finding, there bool, seen []Sighting) error {
	if err := r.Validate(); err != nil {
		return err
	}
	good, faulty := 0, 0
	for _, s := range seen {
		dir, name := path.Split(s.Path)
		if !foldEqual(f.Root+"/"+r.Directory+"/", dir) {
			return fmt.Errorf("%s is not in the directory of this step", s.Path)
		}
		if !globMatch(r.Glob, name) {
			continue
		}
		if err := checkHash(s.SHA256); err != nil || int64(len(s.Head)) < min(s.Size, int64(len(r.Header))) {
			return fmt.Errorf("%s was not read", s.Path)
		}
		file := s.File
		kind := r.decide(&file, s.Head[:min(len(s.Head), len(r.Header))])
		f.Files = append(f.Files, file)
		switch {
		case file.Faulty:
			faulty++
		case kind:
			good++
		}
	}
	f.Verdict = verdictOf(good, faulty)
	if !there && len(f.Files) == 0 {
		f.Verdict = Absent
	}
	return r.limit(faulty)
}
