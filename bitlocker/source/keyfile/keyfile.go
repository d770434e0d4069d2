// Package keyfile reads recovery keys from a CSV file: our own host,key_id,recovery_key, the
// export of falcon-windows-host-recovery (Hostname,KeyID,RecoveryKey,Directory), and what other
// exports call these columns. UTF-8 or UTF-16, separated by comma, semicolon or tab.
//
// It also reads what Windows writes for people, in whatever language: the text file that it
// saves a key in, a folder of these, and what manage-bde prints. These name no host, so their
// keys are found by id alone.
//
// A row that cannot be used is a [Problem] and never ends the reading: the keys of the other
// rows are needed tonight. Nothing that this package says has a digit of a key in it.
package keyfile

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"unbrick/bitlocker"
)

// A File holds the keys of one file in memory.
type File struct {
	name     string
	keys     map[bitlocker.KeyID]*entry
	ids      []bitlocker.KeyID            // in the order of the file
	byHost   map[string][]bitlocker.KeyID // by bitlocker.FoldHost
	homeless int                          // ids under no host
	problems []Problem
}

// An entry is all that the file says of one id.
type entry struct {
	key   bitlocker.Key // zero if it cannot be used
	why   string        // why it cannot
	hosts []string      // cloned disks share their ids
	line  int           // the first that has it
}

// A Problem is one thing wrong with the file.
type Problem struct {
	Place  string `json:"place"`
	Line   int    `json:"line,omitempty"`   // 1-based; 0 for the file as a whole
	Column string `json:"column,omitempty"` // as the header of the file has it
	Reason string `json:"reason"`
	Want   string `json:"want,omitempty"` // what would be right
	Lost   bool   `json:"lost"`           // the key of this row cannot be used; otherwise a warning
}

// String says where, what, and what would be right, in one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Place + ":")
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:", p.Line)
	}
	if p.Column != "" {
		fmt.Fprintf(&b, " column %q:", p.Column)
	}
	b.WriteString(" " + p.Reason)
	if p.Want != "" {
		b.WriteString(" (want " + p.Want + ")")
	}
	return b.String()
}

// Open reads the file, or every text file of the folder. It fails if it cannot be read or is
// neither a table whose header names the columns of key ids and keys nor a text of Windows; all
// else is among its Problems.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read keys: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		return openFolder(path)
	}
	k, err := Read(path, f)
	if err != nil {
		return nil, err
	}
	if fi, err := f.Stat(); err == nil && runtime.GOOS != "windows" && fi.Mode().Perm()&0o077 != 0 {
		k.problems = append([]Problem{{Place: path, Reason: fmt.Sprintf("others than its owner may read the keys (mode %04o)", fi.Mode().Perm()),
			Want: "chmod 600"}}, k.problems...)
	}
	return k, nil
}

// Read reads keys from r, which errors and the ledger call name.
func Read(name string, r io.Reader) (*File, error) {
	p := parser{file: &File{name: name, keys: map[bitlocker.KeyID]*entry{}, byHost: map[string][]bitlocker.KeyID{}}}
	if err := p.parse(r); err != nil {
		return nil, fmt.Errorf("cannot read keys from %s: %w", name, err)
	}
	p.file.fileHosts()
	return p.file, nil
}

// String names the file: it is what the ledger calls this source.
func (f *File) String() string { return "keyfile " + f.name }

// Problems returns what is wrong with the file, in the order of its lines.
func (f *File) Problems() []Problem { return f.problems }

// Len returns how many ids have a key that can be used.
func (f *File) Len() (n int) {
	for _, e := range f.keys {
		if e.why == "" {
			n++
		}
	}
	return n
}

// Lookup implements [bitlocker.Source].
func (f *File) Lookup(ctx context.Context, q bitlocker.Query) (bitlocker.Key, error) {
	if err := ctx.Err(); err != nil {
		return bitlocker.Key{}, err
	}
	e, ok := f.keys[q.ID]
	if !ok {
		return bitlocker.Key{}, bitlocker.ErrNoKey
	}
	if q.Host != "" && len(e.hosts) > 0 && !e.of(q.Host) {
		return bitlocker.Key{}, &bitlocker.WrongHostError{ID: q.ID, Host: q.Host, Filed: e.hosts}
	}
	if e.why != "" {
		return bitlocker.Key{}, fmt.Errorf("%w: the one in line %d cannot be used: %s", bitlocker.ErrNoKey, e.line, e.why)
	}
	return e.key, nil
}

// of says whether the entry is filed under host.
func (e *entry) of(host string) bool {
	for _, h := range e.hosts {
		if bitlocker.SameHost(h, host) {
			return true
		}
	}
	return false
}

// Index implements [bitlocker.Indexer]. An id that is filed under several hosts has an entry
// for each.
func (f *File) Index(ctx context.Context, host string) ([]bitlocker.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ids := f.ids
	if host != "" {
		ids = f.byHost[bitlocker.FoldHost(host)]
		if len(ids) == 0 && f.homeless > 0 {
			return nil, fmt.Errorf("has %d keys under no host name, and none of %s", f.homeless, host)
		}
	}
	var entries []bitlocker.Entry
	for _, id := range ids {
		e := f.keys[id]
		entry := bitlocker.Entry{ID: id, Source: f.String(), Valid: e.why == "", Reason: e.why}
		if len(e.hosts) == 0 {
			entries = append(entries, entry)
		}
		for _, h := range e.hosts {
			if host == "" || bitlocker.SameHost(h, host) {
				entry.Host = h
				entries = append(entries, entry)
			}
		}
	}
	return entries, nil
}

// fileHosts builds the index by host.
func (f *File) fileHosts() {
	for _, id := range f.ids {
		e := f.keys[id]
		if len(e.hosts) == 0 {
			f.homeless++
		}
		for _, h := range e.hosts {
			fold := bitlocker.FoldHost(h)
			f.byHost[fold] = append(f.byHost[fold], id)
		}
	}
}
