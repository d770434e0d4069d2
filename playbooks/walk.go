package playbooks

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// A Windows directory is known by what it holds, never by its letter or its name.
const systemHive = configDir + "/SYSTEM"

// Roots returns every Windows directory on v: each directory at depth 1 or 2, of any name,
// that holds System32/config/SYSTEM in any case; sorted as the volume lists them. Links are
// not followed. Where a directory cannot be read, the others are still returned, with an
// error: there may be an installation that nobody saw.
func Roots(v Volume) ([]string, error) {
	top, err := subdirs(v, ".")
	if err != nil {
		return nil, fmt.Errorf("cannot look for Windows: %w", err)
	}
	var roots []string
	var errs []error
	look := func(dir string) {
		found, err := walk(v, dir, systemHive, fs.FileMode.IsRegular)
		if err != nil {
			errs = append(errs, err)
		}
		if len(found) > 0 {
			roots = append(roots, dir)
		}
	}
	for _, dir := range top {
		if noWindows(dir) {
			continue
		}
		below, err := subdirs(v, dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		look(dir)
		for _, sub := range below {
			look(sub)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return roots, fmt.Errorf("cannot look for Windows everywhere: %w", err)
	}
	return roots, nil
}

// noWindows names directories that Windows keeps even from administrators, where an
// unreadable one says nothing.
func noWindows(dir string) bool {
	return foldEqual("System Volume Information", dir) || foldEqual("$RECYCLE.BIN", dir)
}

func subdirs(v Volume, dir string) ([]string, error) {
	entries, err := fs.ReadDir(v, dir)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() && fs.ValidPath(e.Name()) {
			dirs = append(dirs, path.Join(dir, e.Name()))
		}
	}
	return dirs, nil
}

// walk resolves rel, below base, element by element, folding case, and returns every path
// that it may mean: where the file system underneath tells case apart there can be several.
// Elements before the last are directories, the last is what want says. None found is no
// error; a link on the way is, because what it names may be anywhere.
func walk(v Volume, base, rel string, want func(fs.FileMode) bool) ([]string, error) {
	paths := []string{base}
	elems := strings.Split(rel, "/")
	for i, elem := range elems {
		ok := fs.FileMode.IsDir
		if i == len(elems)-1 {
			ok = want
		}
		var next []string
		for _, dir := range paths {
			found, err := lookup(v, dir, elem, ok)
			if err != nil {
				return nil, err
			}
			next = append(next, found...)
		}
		paths = next
	}
	return paths, nil
}

func lookup(v Volume, dir, elem string, ok func(fs.FileMode) bool) ([]string, error) {
	entries, err := fs.ReadDir(v, dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if !foldEqual(elem, e.Name()) {
			continue
		}
		name := path.Join(dir, e.Name())
		if t := e.Type(); !t.IsDir() && !t.IsRegular() {
			return nil, fmt.Errorf("%s is %s: it is not followed", name, modeName(t))
		}
		if ok(e.Type()) {
			found = append(found, name)
		}
	}
	return found, nil
}

func modeName(m fs.FileMode) string {
	switch {
	case m&fs.ModeSymlink != 0:
		return "a link"
	case m.IsDir():
		return "a directory"
	case m&fs.ModeIrregular != 0:
		return "a reparse point"
	}
	return "a special file"
}

// foldEqual compares a name found on a volume with one of a playbook, which is ASCII. The
// lengths must agree, because Unicode folds letters such as the Kelvin sign to ASCII ones
// and NTFS does not.
func foldEqual(want, found string) bool {
	return len(want) == len(found) && strings.EqualFold(want, found)
}

// globMatch matches a name found on a volume with a glob, folding ASCII letters alone.
func globMatch(glob, name string) bool {
	ok, err := path.Match(lower(glob), lower(name))
	return ok && err == nil
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
