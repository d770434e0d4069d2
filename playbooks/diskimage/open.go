package diskimage

import (
	"io"
	"io/fs"
	"time"
)

type fileInfo struct {
	entry
	size  int64
	mtime time.Time
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.size }
func (i *fileInfo) ModTime() time.Time { return i.mtime }
func (i *fileInfo) IsDir() bool        { return i.Type() == fs.ModeDir }
func (i *fileInfo) Sys() any           { return nil }
func (i *fileInfo) Mode() fs.FileMode  { return i.Type() | 0o444 }

type dirEntry struct {
	entry
	v *Volume
}

func (d dirEntry) Name() string { return d.name }
func (d dirEntry) IsDir() bool  { return d.Type() == fs.ModeDir }

func (d dirEntry) Info() (i fs.FileInfo, err error) {
	err = guard(func() error {
		info, err := d.v.info(d.entry)
		i = info
		return err
	})
	return i, err
}

type openFile struct {
	io.Reader
	info *fileInfo
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

// A guardedReader reads from the library, which may panic on what it finds.
type guardedReader struct{ r io.Reader }

func (g guardedReader) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	gerr := guard(func() error {
		n, err = g.r.Read(p)
		return nil
	})
	if gerr != nil {
		return 0, gerr
	}
	return n, err
}

type openDir struct {
	v     *Volume
	info  *fileInfo
	read  bool
	queue []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		var list []entry
		err := guard(func() (err error) {
			list, err = d.v.list(d.info.record)
			return err
		})
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: d.info.name, Err: err}
		}
		d.read = true
		for _, e := range list {
			d.queue = append(d.queue, dirEntry{e, d.v})
		}
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
