package keyfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"unbrick/bitlocker"
)

// Windows saves a key as a text, "BitLocker Recovery Key GUID.TXT", and "manage-bde -protectors
// -get" prints one. Their words are those of the user's language. What is the same in all: the
// id stands before its key, and a key stands alone on its line.
var (
	guidText = regexp.MustCompile(`\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b`)
	loneKey  = regexp.MustCompile(`^[\s\x{200e}\x{200f}]*[0-9]{6}(?:-[0-9]{4,7}){6,8}[\s\x{200e}\x{200f}]*$`)
)

// isProse says whether the text, which is no table with a header, holds keys as Windows writes
// them for people.
func isProse(text string) bool {
	for line := range strings.Lines(text) {
		switch t := strings.TrimRight(line, "\r\n"); {
		case loneKey.MatchString(t):
			return true
		case strings.TrimSpace(t) != "" && new(parser).takeHeader(t) == nil:
			return false
		}
	}
	return false
}

// prose takes the keys of such a text, each with the last id before it.
func (p *parser) prose(text string) {
	p.header, p.key, p.host = []string{""}, 0, 0 // problems have no column
	named := guidText.FindString(filepath.Base(p.file.name))
	last, used := "", 0
	for line := range strings.Lines(text) {
		p.line++
		if id := guidText.FindAllString(line, -1); len(id) > 0 {
			last, used = id[len(id)-1], 0
			continue
		}
		if !loneKey.MatchString(line) {
			continue
		}
		if last == "" {
			last = named
		}
		used++
		switch {
		case last == "":
			p.lost("", "a key with no id before it: it cannot be told from another", "the file as Windows wrote it")
			continue
		case used > 1:
			p.lost("", fmt.Sprintf("a second key after the id %s: it is not known whose it is", strings.ToUpper(last)), "the file as Windows wrote it")
			continue
		case named != "" && !strings.EqualFold(named, last):
			p.warn("", "the name of the file has another id than its text: the one in the text counts", "")
		}
		id, err := bitlocker.ParseKeyID(last)
		if err != nil || id.IsZero() {
			p.lost("", "the id before this key is no key id", "")
			continue
		}
		e := &entry{line: p.line}
		if e.key, err = bitlocker.ParseKey(line); err != nil {
			e.why = err.Error()
			p.lost("", e.why, "")
		}
		p.add(id, e)
	}
}

// openFolder reads the text files of a folder and of those below it into one File. A file that
// is no key is none of ours.
func openFolder(path string) (*File, error) {
	all := &File{name: path, keys: map[bitlocker.KeyID]*entry{}, byHost: map[string][]bitlocker.KeyID{}}
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.EqualFold(filepath.Ext(name), ".txt") {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		p := parser{file: &File{name: name, keys: all.keys, ids: all.ids}}
		if err := p.parse(f); err != nil {
			all.problems = append(all.problems, Problem{Place: name, Reason: "was not read: " + err.Error()})
			return nil
		}
		all.ids, all.problems = p.file.ids, append(all.problems, p.file.problems...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read keys: %w", err)
	}
	if len(all.ids) == 0 {
		return nil, fmt.Errorf("cannot read keys: no file of %s and its folders is a key as Windows saves it (*.txt)", path)
	}
	all.fileHosts()
	return all, nil
}
