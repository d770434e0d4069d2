package winrm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"unbrick/playbooks"
	client "unbrick/remediate/winrm"
)

// The plain form is for cmd.exe as a command line has it: one line, single percent signs. What
// Wine's cmd.exe does otherwise than Windows' is avoided: a glob in quotes is not expanded by
// for, an @ before a parenthesis ends the line, and so does a for /f whose command fails. Every if and every for is in parentheses of
// its own: without them, the rest of the line is theirs in Windows.

// keepBase is where moved files are, on the volume of the Windows that runs.
const keepBase = `%SystemDrive%\ProgramData\unbrick`

// maxPlain is the largest file, in bytes, that the plain form reads: it comes here whole.
const maxPlain = 4 << 20

// plainName is what file names may be made of, in a line that cmd.exe reads.
var plainName = regexp.MustCompile(`^[A-Za-z0-9 ._(){}$~+,;=@#&'^-]+$`)

// plain carries the plan out in three commands: look, move, look again.
func (p *plan) plain(ctx context.Context, s *client.Session) (*survey, error) {
	sv, err := p.look(ctx, s)
	if err != nil {
		return nil, err
	}
	findings, err := p.judge(sv)
	if err != nil {
		return nil, err // nothing is moved
	}
	var moves []string
	for i, r := range p.removals {
		more, err := p.moves(sv, i, r, findings[i])
		if err != nil {
			return nil, err
		}
		moves = append(moves, more...)
	}
	if len(moves) == 0 {
		return sv, nil
	}
	for _, m := range moves {
		// Whether it went well is seen, not believed.
		if _, err := s.Run(ctx, m, nil); err != nil {
			return nil, err
		}
	}
	if sv, err = p.look(ctx, s); err != nil {
		return nil, err
	}
	return sv, p.back(ctx, s, sv)
}

// moves returns the commands that move the faulty files of one step away.
func (p *plan) moves(sv *survey, i int, r *playbooks.Remove, f playbooks.Finding) ([]string, error) {
	dir := strings.ReplaceAll(`%SystemRoot%\`+r.Directory, "/", `\`)
	next := 1
	for _, k := range sv.Steps[i].Kept {
		number, _, _ := strings.Cut(k.base(), "~")
		if n, err := strconv.Atoi(number); err == nil && n >= next {
			next = n + 1
		}
	}
	var moves []string
	for _, file := range f.Files {
		name := file.Path[strings.LastIndexByte(file.Path, '/')+1:]
		if !file.Faulty || file.Removed {
			continue
		}
		if !plainName.MatchString(name) {
			return nil, fmt.Errorf("the plain form cannot name the file %q", name)
		}
		// The number is new: nothing is overwritten.
		to := p.keep(i)
		moves = append(moves, fmt.Sprintf(`echo off& (if not exist "%s\*" (mkdir "%s"& icacls "%s" /inheritance:r /grant:r *S-1-5-18:^(OI^)^(CI^)F *S-1-5-32-544:^(OI^)^(CI^)F))& (if not exist "%s\*" mkdir "%s")& (if not exist "%s\%d~%s" move "%s\%s" "%s\%d~%s")`,
			keepBase, keepBase, keepBase, to, to, to, next, name, dir, name, to, next, name))
		next++
	}
	return moves, nil
}

// back moves back what turns out not to be faulty: it took the faulty file's place while
// somebody looked.
func (p *plan) back(ctx context.Context, s *client.Session, sv *survey) error {
	var errs []error
	for i, r := range p.removals {
		dir := strings.ReplaceAll(`%SystemRoot%\`+r.Directory, "/", `\`)
		for _, f := range p.wrong(sv, i, r) {
			if !plainName.MatchString(f.name()) || strings.ContainsAny(f.Path, "\"%\r\n") {
				errs = append(errs, fmt.Errorf("%q was moved and is not faulty: move it back by hand", f.Path))
				continue
			}
			line := fmt.Sprintf(`echo off& if not exist "%s\%s" move "%s" "%s\%s"`, dir, f.name(), f.Path, dir, f.name())
			if _, err := s.Run(ctx, line, nil); err != nil {
				return err
			}
			errs = append(errs, fmt.Errorf("%s changed while it was looked at: it was put back", f.name()))
		}
	}
	return errors.Join(errs...)
}

// look asks how every removal stands.
func (p *plan) look(ctx context.Context, s *client.Session) (*survey, error) {
	sv := &survey{}
	for i, r := range p.removals {
		line, err := p.lookLine(i, r)
		if err != nil {
			return nil, err
		}
		res, err := s.Run(ctx, line, nil)
		if err != nil {
			return nil, err
		}
		root, st, err := parseLook(res.Stdout, r.Directory)
		if err != nil {
			return nil, fmt.Errorf("cannot read what the host says of %s: %w", r.Directory, err)
		}
		sv.Root = root
		sv.Steps = append(sv.Steps, st)
	}
	return sv, nil
}

// lookLine prints, for one step, the Windows directory, whether the step's is there, and each
// file: its size, attributes, path, content in base64, and time with its offset from UTC.
func (p *plan) lookLine(i int, r *playbooks.Remove) (string, error) {
	if !plainName.MatchString(strings.NewReplacer("*", "a", "?", "a").Replace(r.Glob)) || !plainName.MatchString(strings.ReplaceAll(r.Directory, "/", "a")) {
		return "", fmt.Errorf("the plain form cannot look for %s in %s", r.Glob, r.Directory)
	}
	dir := strings.ReplaceAll(`%SystemRoot%\`+r.Directory, "/", `\`)
	tmp := `%SystemRoot%\Temp\unbrick-` + p.id + `.tmp`
	each := func(what, list, query string) string {
		return fmt.Sprintf(`(if exist "%s" for /f "delims=" %%F in ('dir /b /s /a "%s" 2^>nul') do (echo unbrick %s %%~zF %%~aF %%F& if %%~zF0 LEQ %d0 (certutil -f -encode "%%F" "%s" >nul& type "%s"& wmic datafile where "name='%s\\%%~nxF'" get LastModified /value <nul& del "%s")))`,
			list, list, what, maxPlain, tmp, tmp, query, tmp)
	}
	inPlace := `%SystemRoot:\=\\%\\` + strings.ReplaceAll(r.Directory, "/", `\\`)
	return fmt.Sprintf(`echo off& echo unbrick root %%SystemRoot%%& (if exist "%s\*" echo unbrick there)& %s& %s& echo unbrick end`,
		dir, each("file", dir+`\`+r.Glob, inPlace), each("kept", p.keep(i)+`\*`, strings.ReplaceAll(p.keep(i), `\`, `\\`))), nil
}

// keep is where the files of step i are moved to, each as NUMBER~NAME.
func (p *plan) keep(i int) string { return fmt.Sprintf(`%s\%s\%d`, keepBase, p.id, i) }

// parseLook reads what a lookLine printed.
func parseLook(out []byte, directory string) (root string, st standing, err error) {
	l := looker{directory: directory}
	for line := range strings.Lines(string(out)) {
		if err := l.line(strings.TrimSpace(line)); err != nil {
			return "", st, err
		}
	}
	if !l.whole || !validRoot(l.root) {
		return "", st, errNoSurvey
	}
	return l.root, l.standing, nil
}

// A looker reads the lines in their order.
type looker struct {
	standing
	root, directory string
	whole           bool  // the end came
	file            *seen // whose content and time come next; nil if they do not matter
	body            bytes.Buffer
	inBody, timed   bool
}

func (l *looker) line(line string) error {
	rest, ours := strings.CutPrefix(line, "unbrick ")
	switch {
	case ours:
		return l.ours(rest)
	case strings.HasPrefix(line, "-----BEGIN"):
		l.inBody = true
	case strings.HasPrefix(line, "-----END"):
		l.inBody = false
	case l.inBody:
		l.body.WriteString(line)
	case l.file != nil && strings.HasPrefix(line, "LastModified="):
		t, err := cimTime(line[len("LastModified="):])
		l.file.Time, l.timed = t, err == nil
	}
	return nil
}

// ours reads a line that lookLine's own words begin.
func (l *looker) ours(text string) (err error) {
	if err := l.finish(); err != nil {
		return err
	}
	kind, rest, _ := strings.Cut(text, " ")
	switch kind {
	case "root":
		l.root = rest
	case "there":
		l.There = true
	case "end":
		l.whole = true
	case "file", "kept":
		l.file, err = l.add(kind, rest)
	}
	return err
}

// finish makes sure that the file before was read whole, and has a time.
func (l *looker) finish() error {
	if f := l.file; f != nil {
		b, err := base64.StdEncoding.DecodeString(l.body.String())
		if err != nil || int64(len(b)) != f.Size || !l.timed {
			return fmt.Errorf("%s was not read", f.name())
		}
		sum := sha256.Sum256(b)
		f.SHA256, f.Head = hex.EncodeToString(sum[:]), b[:min(len(b), 64)]
	}
	l.file, l.timed, l.inBody = nil, false, false
	l.body.Reset()
	return nil
}

// add notes a file. A directory of the kept ones is nil, and so is a file further down than
// the step's own directory.
func (l *looker) add(kind, text string) (*seen, error) {
	size, rest, _ := strings.Cut(text, " ")
	attributes, path, ok := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(size, 10, 64)
	if !ok || strings.ContainsRune(attributes, 'd') && kind == "kept" {
		return nil, nil
	}
	f := &seen{Path: path, Size: n}
	if kind == "file" {
		dir := l.root + `\` + strings.ReplaceAll(l.directory, "/", `\`) + `\`
		if !strings.EqualFold(path, dir+f.base()) {
			return nil, nil
		}
	}
	switch {
	case err != nil || strings.ContainsAny(attributes, "dl"):
		return nil, fmt.Errorf("%s is not a plain file", path)
	case n > maxPlain:
		return nil, fmt.Errorf("%s has %d bytes, and the plain form reads %d", path, n, maxPlain)
	}
	list := &l.Files
	if kind == "kept" {
		list = &l.Kept
	}
	*list = append(*list, *f)
	return &(*list)[len(*list)-1], nil
}

// cimTime reads 20240719061000.123456+120, a local time and its minutes ahead of UTC.
func cimTime(text string) (time.Time, error) {
	if len(text) != 25 {
		return time.Time{}, errNoSurvey
	}
	t, err := time.Parse("20060102150405.000000", text[:21])
	if err != nil {
		return time.Time{}, errNoSurvey
	}
	ahead, err := strconv.Atoi(text[21:])
	if err != nil || text[21] != '+' && text[21] != '-' {
		return time.Time{}, errNoSurvey
	}
	return t.Add(-time.Duration(ahead) * time.Minute), nil
}
