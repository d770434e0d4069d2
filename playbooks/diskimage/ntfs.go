package diskimage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"www.velocidex.com/golang/go-ntfs/parser"
)

const (
	rootRecord  = 5  // MFT record of the root directory
	lastMeta    = 11 // records up to here are the file system's own
	reparseFlag = 0x400
	indexName   = "$I30"
	pageSize    = 4096
	cachedPages = 4096
	cachedDirs  = 256
)

// A Volume is an NTFS volume, read-only. It implements playbooks.Volume: names are found in
// any case, times are the last write of $STANDARD_INFORMATION in UTC. Files of the file
// system itself ($MFT, …) and 8.3 names are not shown; links and reparse points are shown
// and not followed.
type Volume struct {
	ntfs    *parser.NTFSContext
	cluster int64

	mu   sync.Mutex
	dirs map[int64][]entry // by MFT record
}

// OpenVolume opens the NTFS volume of size bytes in r: of a partition, or of the plain text of
// an encrypted one.
func OpenVolume(r io.ReaderAt, size int64) (v *Volume, err error) {
	err = guard(func() error {
		if err := fits(r, size); err != nil {
			return err
		}
		pages, err := parser.NewPagedReader(r, pageSize, cachedPages)
		if err != nil {
			return err
		}
		ntfs, err := parser.GetNTFSContext(pages, 0)
		if err != nil {
			return err
		}
		v = &Volume{ntfs: ntfs, cluster: ntfs.ClusterSize, dirs: map[int64][]entry{}}
		_, err = v.list(rootRecord)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the NTFS volume: %w", err)
	}
	return v, nil
}

// guard turns a panic of the NTFS library into an error: it was written for images that are
// whole, and ours come from hosts that crashed.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file system is damaged (%v)", p)
		}
	}()
	return f()
}

// Remove implements playbooks.Volume: it always fails with fs.ErrPermission.
func (v *Volume) Remove(name string) error {
	return &fs.PathError{Op: "remove", Path: name, Err: fmt.Errorf("an image is only read, never written: %w", fs.ErrPermission)}
}

// WriteFile implements playbooks.Volume: it always fails with fs.ErrPermission.
func (v *Volume) WriteFile(name string, _ []byte) error {
	return &fs.PathError{Op: "write", Path: name, Err: fmt.Errorf("an image is only read, never written: %w", fs.ErrPermission)}
}

// Open implements fs.FS.
func (v *Volume) Open(name string) (fs.File, error) {
	var f fs.File
	err := guard(func() (err error) {
		f, err = v.open(name)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

func (v *Volume) open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	e := entry{name: ".", record: rootRecord, flags: dirFlag}
	if name != "." {
		for elem := range strings.SplitSeq(name, "/") {
			if e.Type() != fs.ModeDir {
				return nil, fs.ErrNotExist
			}
			list, err := v.list(e.record)
			if err != nil {
				return nil, err
			}
			found, ok := find(list, elem)
			if !ok {
				return nil, fs.ErrNotExist
			}
			e = found
		}
	}
	info, err := v.info(e)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return &openDir{v: v, info: info}, nil
	case info.Mode().IsRegular():
		r, err := v.data(e)
		return &openFile{info: info, Reader: guardedReader{r}}, err
	}
	return &openFile{info: info, Reader: strings.NewReader("")}, nil
}

// find prefers the very name: Linux can put two names on NTFS that differ by case.
func find(list []entry, name string) (entry, bool) {
	for _, e := range list {
		if e.name == name {
			return e, true
		}
	}
	for _, e := range list {
		if strings.EqualFold(e.name, name) {
			return e, true
		}
	}
	return entry{}, false
}

// record returns the MFT record that e names, if it is still that file's.
func (v *Volume) record(e entry) (*parser.MFT_ENTRY, error) {
	m, err := v.ntfs.GetMFT(e.record)
	if err != nil {
		return nil, fmt.Errorf("MFT record %d is damaged: %w", e.record, err)
	}
	flags := m.Flags()
	if !m.Magic().IsValid() || !flags.IsSet("ALLOCATED") || e.seq != 0 && m.Sequence_value() != e.seq {
		return nil, fmt.Errorf("MFT record %d is not that of the file: the volume is damaged", e.record)
	}
	if flags.IsSet("DIRECTORY") != (e.flags&dirFlag != 0) {
		return nil, fmt.Errorf("MFT record %d and its directory entry disagree: the volume is damaged", e.record)
	}
	return m, nil
}

func (v *Volume) info(e entry) (*fileInfo, error) {
	m, err := v.record(e)
	if err != nil {
		return nil, err
	}
	si, err := m.StandardInformation(v.ntfs)
	if err != nil {
		return nil, fmt.Errorf("MFT record %d is damaged: %w", e.record, err)
	}
	i := &fileInfo{entry: e, mtime: fileTime(parser.ParseUint64(si.Reader, si.Offset+8))}
	if i.Mode().IsRegular() {
		if i.size, err = v.dataSize(m); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// fileTime converts 100 ns since 1601. The library's own conversion overflows before 1678 and
// after 2262, and would move such times into our century.
func fileTime(ft uint64) time.Time {
	const to1970 = 11644473600
	return time.Unix(int64(ft/1e7)-to1970, int64(ft%1e7)*100).UTC()
}

func (v *Volume) stream(m *parser.MFT_ENTRY, kind uint64, name string) (*parser.NTFS_ATTRIBUTE, io.ReaderAt, error) {
	vcns := parser.GetAllVCNs(v.ntfs, m, kind, parser.WILDCARD_STREAM_ID, name)
	if len(vcns) == 0 {
		return nil, nil, fs.ErrNotExist
	}
	r, err := parser.OpenStream(v.ntfs, m, kind, parser.WILDCARD_STREAM_ID, name)
	return vcns[0], r, err
}

func (v *Volume) dataSize(m *parser.MFT_ENTRY) (int64, error) {
	a, _, err := v.stream(m, parser.ATTR_TYPE_DATA, "")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errors.New("a file has no data: the volume is damaged")
	}
	if err != nil {
		return 0, err
	}
	n := a.DataSize()
	if n < 0 {
		return 0, errors.New("a file has a size that cannot be: the volume is damaged")
	}
	return n, nil
}

// data opens the content of a file.
func (v *Volume) data(e entry) (io.Reader, error) {
	m, err := v.record(e)
	if err != nil {
		return nil, err
	}
	a, r, err := v.stream(m, parser.ATTR_TYPE_DATA, "")
	if err != nil {
		return nil, err
	}
	const encrypted = 1 << 14
	if uint64(*a.Flags())&encrypted != 0 {
		return nil, errors.New("the file is encrypted by EFS")
	}
	return io.NewSectionReader(r, 0, a.DataSize()), nil
}
