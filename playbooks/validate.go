package playbooks

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// What names in a playbook are made of. ASCII only: how a file system folds the case of
// other letters differs from one to the next.
const (
	letters  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	inNames  = letters + " ._(){}$~+,;=@#&!'^`-"
	maxDir   = 200
	maxGlob  = 100
	maxHead  = 64
	maxHash  = 500
	mostMax  = 100
	leastLit = 3
)

// Validate says what is wrong with a step that was not made by [Parse].
func (r *Remove) Validate() error {
	errs := []error{checkDirectory(r.Directory), checkGlob(r.Glob), r.checkWhole()}
	for _, h := range r.SHA256 {
		errs = append(errs, checkHash(h))
	}
	if len(r.Header) > maxHead || r.Max < 0 || r.Max > mostMax {
		errs = append(errs, fmt.Errorf("a header has up to %d bytes, max is up to %d", maxHead, mostMax))
	}
	if !r.Written.isZero() {
		errs = append(errs, checkWindow(r.Written))
	}
	return errors.Join(errs...)
}

func (r *Remove) checkWhole() error {
	if r.Written.isZero() && len(r.SHA256) == 0 {
		return errors.New("a file is never removed by its name alone: give written (from, until), sha256, or both")
	}
	return nil
}

func checkDirectory(s string) error {
	elems := strings.Split(s, "/")
	switch {
	case s == "" || s == "." || s == "/":
		return errors.New("the directory may not be the Windows directory itself: name one in it, such as System32/drivers/CrowdStrike")
	case len(s) > maxDir:
		return fmt.Errorf("the directory is longer than %d characters", maxDir)
	case strings.Contains(s, `\`):
		return fmt.Errorf("write slashes: %s", strings.Trim(strings.ReplaceAll(s, `\`, "/"), "/"))
	case strings.Contains(s, ":"):
		return errors.New("leave out the drive: the directory is relative to the Windows directory, whatever its letter and name")
	case strings.Contains(s, "%"):
		return errors.New("leave out %SystemRoot%: the directory is relative to the Windows directory")
	case strings.HasPrefix(s, "/"):
		return errors.New("leave out the first slash: the directory is relative to the Windows directory")
	case foldEqual("windows", elems[0]) || foldEqual("winnt", elems[0]):
		return fmt.Errorf("leave out %q: the directory is relative to the Windows directory", elems[0])
	}
	for _, e := range elems {
		switch {
		case e == "" || e == "." || e == "..":
			return fmt.Errorf("the directory has an element %q: write it from the Windows directory down, each element by its name", e)
		case strings.Trim(e, inNames) != "":
			return fmt.Errorf("the directory has %q, which no playbook may have there: write the name as it is on disk, without wildcards", strings.Trim(e, inNames))
		case strings.TrimLeft(e, " ") != e || strings.TrimRight(e, " .") != e:
			return fmt.Errorf("the element %q begins or ends with a space or a dot: no such name exists in Windows", e)
		}
	}
	return nil
}

func checkGlob(s string) error {
	switch {
	case s == "":
		return errors.New("the glob is empty: give a file name such as C-00000291*.sys")
	case len(s) > maxGlob:
		return fmt.Errorf("the glob is longer than %d characters", maxGlob)
	case strings.ContainsAny(s, `/\`):
		return errors.New("the glob is a file name: the folders go into directory")
	case strings.Trim(s, inNames+"*?") != "":
		return fmt.Errorf("the glob has %q: it may have letters, digits, * and ?", strings.Trim(s, inNames+"*?"))
	}
	stem := s
	if i := strings.LastIndexByte(s, '.'); i >= 0 {
		stem = s[:i]
	}
	literal := 0
	for _, r := range stem {
		if strings.ContainsRune(letters, r) {
			literal++
		}
	}
	if literal < leastLit {
		return fmt.Errorf("the glob matches nearly everything: give at least %d letters or digits of the name besides the extension", leastLit)
	}
	return nil
}

func checkWindow(w Window) error {
	if !w.From.Before(w.Until) {
		return fmt.Errorf("the window ends (%s) before it begins (%s): swap from and until", utc(w.Until), utc(w.From))
	}
	return nil
}

func checkHash(s string) error {
	if b, err := hex.DecodeString(s); err != nil || len(b) != 32 {
		return errors.New("a SHA-256 has 64 hexadecimal digits")
	}
	return nil
}

// remove decodes the step of that name.
func (d *decoder) remove(n ast.Node) Step {
	r, before := &Remove{}, len(d.errs)
	d.mapping(n, "remove", map[string]func(ast.Node){
		"directory": func(n ast.Node) {
			r.Directory = d.text(n, "a directory")
			d.check(n, checkDirectory(r.Directory))
		},
		"glob": func(n ast.Node) {
			r.Glob = d.text(n, "a file name")
			d.check(n, checkGlob(r.Glob))
		},
		"header":  func(n ast.Node) { r.Header = d.header(n) },
		"written": func(n ast.Node) { r.Written = d.window(n) },
		"sha256": func(n ast.Node) {
			for _, n := range d.list(n, maxHash, "sha256") {
				h := d.text(n, "a SHA-256")
				d.check(n, checkHash(h))
				r.SHA256 = append(r.SHA256, strings.ToLower(h))
			}
		},
		"max": func(n ast.Node) { r.Max = d.integer(n, 1, mostMax) },
	}, "directory", "glob")
	if len(d.errs) == before {
		d.check(n, r.checkWhole())
	}
	return r
}

func (d *decoder) header(n ast.Node) []byte {
	text := d.text(n, "bytes such as AA AA 01 00")
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	spaced := strings.TrimRight(fmt.Sprintf("% X", b), " ")
	if err != nil || len(b) == 0 || len(b) > maxHead || !bytesWritten(text, spaced) {
		d.fail(n, "a header is 1 to %d bytes, two hexadecimal digits each: AA AA 01 00", maxHead)
	}
	return b
}

// bytesWritten says that text is the bytes of spaced ("AA 01"), each space there or not.
func bytesWritten(text, spaced string) bool {
	for _, pair := range strings.Fields(spaced) {
		if len(text) < 2 || !strings.EqualFold(text[:2], pair) {
			return false
		}
		text = strings.TrimPrefix(text[2:], " ")
	}
	return text == ""
}

func (d *decoder) window(n ast.Node) (w Window) {
	before := len(d.errs)
	d.mapping(n, "written", map[string]func(ast.Node){
		"from":  func(n ast.Node) { w.From = d.time(n) },
		"until": func(n ast.Node) { w.Until = d.time(n) },
	}, "from", "until")
	if len(d.errs) == before {
		d.check(n, checkWindow(w))
	}
	return w
}

// time wants UTC in one form, so that nobody has to think about zones at night.
func (d *decoder) time(n ast.Node) time.Time {
	const layout = "2006-01-02T15:04:05Z"
	text := d.text(n, "a time such as 2024-07-19T04:09:00Z")
	t, err := time.ParseInLocation(layout, text, time.UTC)
	if err != nil || len(text) != len(layout) || t.IsZero() {
		if text != "" {
			d.fail(n, "a time is written in UTC, to the second, as 2024-07-19T04:09:00Z, not %q", text)
		}
		return time.Time{}
	}
	return t
}
