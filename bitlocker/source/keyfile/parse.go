package keyfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"unbrick/bitlocker"
)

// What exports call our columns, as foldHeader leaves them; the surest name first.
const (
	hostNames = "host hostname dnshostname computername computer devicename device machinename machine name devicedisplayname displayname"
	idNames   = "keyid recoverykeyid recoveryid recoverypasswordid passwordid keyprotectorid protectorid volumekeyprotectorid bitlockerkeyid"
	keyNames  = "recoverykey recoverypassword bitlockerrecoverykey bitlockerrecoverypassword bitlockerkey numericalpassword password key"
	dirNames  = "directory"
)

func foldHeader(s string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "", ".", "").Replace(strings.TrimSpace(s)))
}

// A parser reads one file.
type parser struct {
	file           *File
	line           int
	header         []string
	host, id, key  int // columns; -1 if the file has none
	directory      int
	separator      byte
	rows           int
	byDirectory    map[string]int
	directoryNames []string
}

// parse reads the header and then row by row. Each line is a row of its own: a quote that
// somebody forgot to close must not swallow the rows after it.
func (p *parser) parse(r io.Reader) error {
	in, err := toUTF8(r)
	if err != nil {
		return err
	}
	// A text for people is short: what does not show in its beginning is not one.
	if head, _ := in.Peek(in.Size()); isProse(string(head)) {
		text, err := io.ReadAll(in)
		p.prose(string(text))
		return err
	}
	for {
		text, err := in.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		p.line++
		// Export-Csv of old PowerShells begins with a line of its own, "#TYPE …".
		if t := strings.TrimRight(text, "\r\n"); strings.TrimSpace(t) != "" && !strings.HasPrefix(t, "#") {
			if err := p.take(t); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	if p.header == nil {
		return errors.New("the file is empty; " + wantHeader)
	}
	p.pages()
	return nil
}

const wantHeader = "its first line must name the columns, such as host,key_id,recovery_key"

// take takes one line that is not empty.
func (p *parser) take(text string) error {
	if p.header == nil {
		return p.takeHeader(text)
	}
	p.rows++
	fields, err := split(text, p.separator)
	if err != nil {
		p.lost("", err.Error(), "")
		return nil
	}
	p.row(fields)
	return nil
}

// takeHeader finds the columns. It repeats nothing of the line: in a file without a header it
// is a key.
func (p *parser) takeHeader(text string) error {
	p.separator = ','
	for _, c := range []byte{';', '\t'} {
		if strings.Count(text, string(c)) > strings.Count(text, string(p.separator)) {
			p.separator = c
		}
	}
	header, err := split(text, p.separator)
	if err != nil {
		return fmt.Errorf("line %d %v; %s", p.line, err, wantHeader)
	}
	find := func(names string) int {
		for name := range strings.FieldsSeq(names) {
			if i := slices.IndexFunc(header, func(h string) bool { return foldHeader(h) == name }); i >= 0 {
				return i
			}
		}
		return -1
	}
	p.header, p.byDirectory = header, map[string]int{}
	p.host, p.id, p.key, p.directory = find(hostNames), find(idNames), find(keyNames), find(dirNames)
	switch {
	case p.id < 0 && p.key < 0:
		return fmt.Errorf("line %d is not a header; %s", p.line, wantHeader)
	case p.id < 0:
		return fmt.Errorf("line %d names no column of key ids; %s", p.line, wantHeader)
	case p.key < 0:
		return fmt.Errorf("line %d names no column of recovery keys; %s", p.line, wantHeader)
	}
	return nil
}

// row takes the fields of one row.
func (p *parser) row(fields []string) {
	field := func(i int) string {
		if i < 0 || i >= len(fields) {
			return ""
		}
		return strings.TrimSpace(fields[i])
	}
	if d := p.directory; d >= 0 {
		if p.byDirectory[field(d)] == 0 {
			p.directoryNames = append(p.directoryNames, field(d))
		}
		p.byDirectory[field(d)]++
	}
	if len(fields) <= max(p.id, p.key) {
		p.lost("", fmt.Sprintf("has %d of %d fields", len(fields), len(p.header)), "")
		return
	}
	id, err := bitlocker.ParseKeyID(field(p.id))
	if err != nil || id.IsZero() {
		p.lostID(field(p.id))
		return
	}
	host, ok := p.hostName(field(p.host))
	if !ok {
		return
	}
	e := &entry{line: p.line}
	if host != "" {
		e.hosts = []string{host}
	}
	if e.key, err = bitlocker.ParseKey(field(p.key)); err != nil {
		e.why = err.Error()
		reason, want := explain(field(p.key), err)
		p.lost(p.header[p.key], reason, want)
	}
	p.add(id, e)
}

// lostID says what is wrong with a key id.
func (p *parser) lostID(text string) {
	reason, want := "is not a key id", "a GUID such as 4290B6C0-B17A-497A-8552-272CC30E80D4"
	if looksLikeKey(text) {
		reason, want = "is a recovery key: the columns are exchanged", "the id in this column"
	} else if text == "" {
		reason = "is empty: a key without its id cannot be told from another"
	}
	p.lost(p.header[p.id], reason, want)
}

// looksLikeKey says whether text is a key, or was one before somebody mistyped it. Host names
// are shown to people, and no id or name has as many digits.
func looksLikeKey(text string) bool {
	if len(text) < 40 {
		return false
	}
	_, err := bitlocker.ParseKey(text)
	return err == nil || len(text)-len(strings.Trim(text, "0123456789-")) > 40
}

// explain says what is wrong with a recovery key.
func explain(text string, err error) (reason, want string) {
	if strings.HasPrefix(text, "System.") || strings.HasPrefix(text, "Microsoft.") {
		return "is the name of a type: the computer has several recovery keys, and the export lost them all",
			"an export with a row for each key"
	}
	return err.Error(), ""
}

// hostName returns the name that the key is filed under, empty if there is none to compare. It
// reports false if the row is lost.
func (p *parser) hostName(text string) (string, bool) {
	if looksLikeKey(text) {
		p.lost(p.header[p.host], "is a recovery key: the columns are exchanged", "the name of the host in this column")
		return "", false
	}
	name := text
	if cn, ok := commonName(text); ok {
		name = cn
	}
	if strings.ContainsAny(name, " \t,=\"'/") {
		p.warn(p.header[p.host], "is not a host name but one for display: the key is filed under no host", "the host's own name")
		return "", true
	}
	return name, true
}

// add files the entry under its id. The same id with other digits leaves neither: one of the
// two is wrong, and nobody here can tell which.
func (p *parser) add(id bitlocker.KeyID, e *entry) {
	old, ok := p.file.keys[id]
	if !ok {
		p.file.keys[id] = e
		p.file.ids = append(p.file.ids, id)
		return
	}
	for _, h := range e.hosts {
		if len(old.hosts) > 0 && !old.of(h) {
			p.warn(p.header[p.host], fmt.Sprintf("key id %s is also in line %d under another host", id, old.line), "one host, unless its disk was cloned")
		}
		if !old.of(h) {
			old.hosts = append(old.hosts, h)
		}
	}
	switch {
	case old.conflict() || e.why != "": // lost already, and said
	case old.why != "":
		old.key, old.why, old.line = e.key, "", e.line
	case !old.key.Equal(e.key):
		p.lost(p.header[p.key], fmt.Sprintf("key id %s has another key in line %d: neither is used", id, old.line), "one key for an id")
		old.key, old.why = bitlocker.Key{}, conflicting
	}
}

// conflicting is why an id with several keys has none.
const conflicting = "other lines have other keys for the same id"

func (e *entry) conflict() bool { return e.why == conflicting }

// pages warns where an export seems to have ended with its first page.
func (p *parser) pages() {
	check := func(n int, what string) {
		if slices.Contains([]int{100, 200, 500, 999, 1000, 1500, 2000, 5000}, n) {
			p.file.problems = append(p.file.problems, Problem{Place: p.file.name,
				Reason: fmt.Sprintf("has exactly %d rows%s, which is the size of a page: the rest may be missing", n, what), Want: "an export of all pages"})
		}
	}
	if len(p.directoryNames) < 2 {
		check(p.rows, "")
		return
	}
	for i, d := range p.directoryNames {
		check(p.byDirectory[d], fmt.Sprintf(" of its directory no. %d", i+1))
	}
}

func (p *parser) lost(column, reason, want string) {
	p.file.problems = append(p.file.problems, Problem{p.file.name, p.line, column, reason, want, true})
}

func (p *parser) warn(column, reason, want string) {
	p.file.problems = append(p.file.problems, Problem{p.file.name, p.line, column, reason, want, false})
}

// toUTF8 returns r without its byte order mark, decoded if that says UTF-16.
func toUTF8(r io.Reader) (*bufio.Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	mark, err := in.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case strings.HasPrefix(string(mark), "\xef\xbb\xbf"):
		_, err = in.Discard(3)
		return in, err
	case strings.HasPrefix(string(mark), "\xff\xfe"), strings.HasPrefix(string(mark), "\xfe\xff"):
		return decodeUTF16(in)
	}
	return in, nil
}
