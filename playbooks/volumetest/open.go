package volumetest

import (
	"bytes"
	"io"
	"io/fs"
	"time"
)

// An openFile reads what the file held when it was opened.
type openFile struct {
	*bytes.Reader
	node *node
}

func (f *openFile) Stat() (fs.FileInfo, error) { return info{f.node}, nil }
func (f *openFile) Close() error               { return nil }

// An openDir lists a directory as it is at the first ReadDir.
type openDir struct {
	v     *Volume
	name  string
	node  *node
	read  bool
	queue []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return info{d.node}, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		entries, err := d.v.list(d.name)
		if err != nil {
			return nil, err
		}
		d.read, d.queue = true, entries
	}
	if n <= 0 {
		n = len(d.queue)
	} else if len(d.queue) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.queue))
	out := d.queue[:n:n]
	d.queue = d.queue[n:]
	return out, nil
}

type info struct{ n *node }

func (i info) Name() string       { return i.n.name }
func (i info) Size() int64        { return int64(len(i.n.content)) }
func (i info) Mode() fs.FileMode  { return i.n.mode }
func (i info) ModTime() time.Time { return i.n.mtime }
func (i info) IsDir() bool        { return i.n.mode.IsDir() }
func (i info) Sys() any           { return nil }
