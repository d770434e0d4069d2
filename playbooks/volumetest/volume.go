// Package volumetest holds a volume in memory that behaves like one of Windows, and a suite
// that every implementation of playbooks.Volume passes.
package volumetest

import (
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// A File is one file of a volume.
type File struct {
	Path     string // slashes, in the case as written
	ModTime  time.Time
	Content  []byte
	ReadOnly bool // the attribute; the file can be removed all the same
}

// An Op is what is asked of a volume.
type Op string

// The operations.
const (
	Open    Op = "open"    // of a file or directory
	ReadDir Op = "readdir" // the entries of a directory
	Remove  Op = "remove"
	Write   Op = "write" // of a whole file
)

// A Volume is a file system in memory that ignores case and keeps it as written, as NTFS
// does. The zero value does not work; all methods may be called at the same time.
type Volume struct {
	mu       sync.Mutex
	nodes    map[string]*node // by folded path; "." is the root
	readOnly bool
	hook     func(Op, string) error
}

// A node is immutable but for the map it is in: an open file goes on reading what it opened.
type node struct {
	name    string // in the case as written
	mode    fs.FileMode
	mtime   time.Time
	content []byte
}

// New returns an empty volume.
func New() *Volume {
	return &Volume{nodes: map[string]*node{".": {name: ".", mode: fs.ModeDir | 0o755}}}
}

// Add writes a file, and the directories above it that are not there. A file of that name,
// in any case, is replaced and keeps its name. Add panics on a path that is none, or that
// leads through a file. It returns v, so that calls can be chained.
func (v *Volume) Add(name string, mtime time.Time, content []byte) *Volume {
	return v.add(name, &node{mode: 0o644, mtime: mtime, content: bytes.Clone(content)})
}

// AddFile is Add for a File.
func (v *Volume) AddFile(f File) *Volume {
	mode := fs.FileMode(0o644)
	if f.ReadOnly {
		mode = 0o444
	}
	return v.add(f.Path, &node{mode: mode, mtime: f.ModTime, content: bytes.Clone(f.Content)})
}

// Mkdir makes an empty directory, and those above it.
func (v *Volume) Mkdir(name string) *Volume {
	return v.add(name, &node{mode: fs.ModeDir | 0o755})
}

// Link puts a link or reparse point there: fs.ModeSymlink or fs.ModeIrregular.
func (v *Volume) Link(name string, mode fs.FileMode) *Volume {
	return v.add(name, &node{mode: mode | 0o777})
}

func (v *Volume) add(name string, n *node) *Volume {
	if !fs.ValidPath(name) || name == "." {
		panic("volumetest: not the path of a file: " + name)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	elems := strings.Split(name, "/")
	for i := 1; i < len(elems); i++ {
		dir := strings.Join(elems[:i], "/")
		if above := v.nodes[fold(dir)]; above == nil {
			v.nodes[fold(dir)] = &node{name: elems[i-1], mode: fs.ModeDir | 0o755, mtime: n.mtime}
		} else if !above.mode.IsDir() {
			panic("volumetest: not a directory: " + dir)
		}
	}
	n.name = elems[len(elems)-1]
	if old := v.nodes[fold(name)]; old != nil {
		n.name = old.name
	}
	v.nodes[fold(name)] = n
	return v
}

// SetReadOnly makes the volume refuse every change by fs.ErrPermission, as a mount that fell
// back to read-only does.
func (v *Volume) SetReadOnly(ro bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.readOnly = ro
}

// Intercept has f called before each operation, with the path as it was asked for. An error
// of f is the operation's. It may change the volume: a file that is replaced between check
// and removal is made so. Nil ends it.
func (v *Volume) Intercept(f func(op Op, name string) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.hook = f
}

// Fail has one operation on one path, in any case, fail with err from now on. It takes the
// place of Intercept.
func (v *Volume) Fail(op Op, name string, err error) {
	v.Intercept(func(o Op, n string) error {
		if o == op && fold(n) == fold(name) {
			return err
		}
		return nil
	})
}

// Files returns the files, sorted by folded path. Directories and links are not among them.
func (v *Volume) Files() []File {
	v.mu.Lock()
	defer v.mu.Unlock()
	var files []File
	for key, n := range v.nodes {
		if n.mode.IsRegular() {
			files = append(files, File{Path: v.written(key), ModTime: n.mtime,
				Content: bytes.Clone(n.content), ReadOnly: n.mode&0o200 == 0})
		}
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(fold(a.Path), fold(b.Path)) })
	return files
}

// Has says whether the file is there, in any case.
func (v *Volume) Has(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.nodes[fold(name)]
	return n != nil && n.mode.IsRegular()
}

// written returns the path of a node with the case of each element as written.
func (v *Volume) written(key string) string {
	if dir := path.Dir(key); dir != "." {
		return v.written(dir) + "/" + v.nodes[key].name
	}
	return v.nodes[key].name
}

// Open implements fs.FS.
func (v *Volume) Open(name string) (fs.File, error) {
	n, err := v.find(Open, name)
	if err != nil {
		return nil, err
	}
	if n.mode.IsDir() {
		return &openDir{v: v, name: name, node: n}, nil
	}
	return &openFile{node: n, Reader: bytes.NewReader(n.content)}, nil
}

// Remove implements playbooks.Volume.
func (v *Volume) Remove(name string) error {
	if _, err := v.find(Remove, name); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	fail := func(err error) error { return &fs.PathError{Op: "remove", Path: name, Err: err} }
	if v.readOnly {
		return fail(fs.ErrPermission)
	}
	if name == "." || len(v.below(name)) > 0 {
		return fail(fs.ErrInvalid)
	}
	if v.nodes[fold(name)] == nil {
		return fail(fs.ErrNotExist)
	}
	delete(v.nodes, fold(name))
	return nil
}

// WriteFile implements playbooks.Volume. The last write of the file stays as it was.
func (v *Volume) WriteFile(name string, content []byte) error {
	n, err := v.find(Write, name)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	fail := func(err error) error { return &fs.PathError{Op: "write", Path: name, Err: err} }
	if v.readOnly {
		return fail(fs.ErrPermission)
	}
	if !n.mode.IsRegular() {
		return fail(fs.ErrInvalid)
	}
	v.nodes[fold(name)] = &node{name: n.name, mode: n.mode, mtime: n.mtime, content: bytes.Clone(content)}
	return nil
}

// find calls the hook, outside of the lock, and returns the node.
func (v *Volume) find(op Op, name string) (*node, error) {
	fail := func(err error) error { return &fs.PathError{Op: string(op), Path: name, Err: err} }
	if !fs.ValidPath(name) {
		return nil, fail(fs.ErrInvalid)
	}
	v.mu.Lock()
	hook := v.hook
	v.mu.Unlock()
	if hook != nil {
		if err := hook(op, name); err != nil {
			return nil, fail(err)
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.nodes[fold(name)]
	if n == nil {
		return nil, fail(fs.ErrNotExist)
	}
	return n, nil
}

// below returns the nodes directly in a directory, sorted as they are shown.
func (v *Volume) below(dir string) []*node {
	var in []*node
	for key, n := range v.nodes {
		if key != "." && path.Dir(key) == fold(dir) {
			in = append(in, n)
		}
	}
	slices.SortFunc(in, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return in
}

// list is what an open directory reads.
func (v *Volume) list(dir string) ([]fs.DirEntry, error) {
	if _, err := v.find(ReadDir, dir); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var entries []fs.DirEntry
	for _, n := range v.below(dir) {
		entries = append(entries, fs.FileInfoToDirEntry(info{n}))
	}
	return entries, nil
}

func fold(name string) string { return strings.ToLower(name) }
