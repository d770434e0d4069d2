package rescue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"

	"unbrick/remediate/rescue/wire"
)

// isoName is the image's name in its URL; its files for network boot are in a folder beside it.
const (
	isoName       = "rescue.iso"
	netbootPrefix = "netboot/"
	siteFile      = "site.img" // the archive that holds the configuration
)

// A netFile is one file that hosts load from the network. The one with the configuration is a
// Base of its own and has no tag; all others are the same for every host.
type netFile struct {
	Base
	tag string
	own bool
}

// A netFolder holds what is in the image's folder for network boot, by path.
type netFolder map[string]netFile

// openNetboot opens every file of the folder, and keeps it open: a new image that is built in
// its place is not mixed with the one that hosts are loading.
func openNetboot(fsys fs.FS) (folder netFolder, err error) {
	folder = netFolder{}
	if fsys == nil {
		return folder, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot use the image's files for network boot: %w", err), folder.Close())
		}
	}()
	err = fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := fsys.Open(name)
		if err != nil {
			return err
		}
		folder[name], err = readNetFile(name, f)
		return err
	})
	if err == nil && !folder[siteFile].own {
		err = fmt.Errorf("it has no %s: build the image again", siteFile)
	}
	return folder, err
}

func readNetFile(name string, f fs.File) (n netFile, err error) {
	r, ok := f.(io.ReaderAt)
	info, err := f.Stat()
	if !ok || err != nil {
		return n, errors.Join(fmt.Errorf("cannot read %s", name), err, f.Close())
	}
	n = netFile{Base: Base{ReaderAt: r, Size: info.Size()}}
	if name == siteFile {
		n.own = true
		n.ConfigOffset, err = findPlaceholder(r, n.Size)
		return n, err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, io.NewSectionReader(r, 0, n.Size))
	n.tag = `"` + hex.EncodeToString(sum.Sum(nil)) + `"`
	return n, err
}

// Close closes the files.
func (f netFolder) Close() error {
	var errs []error
	for _, n := range f {
		if c, ok := n.ReaderAt.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// content returns what a host with this token gets under a name: the image or one of its files
// for network boot. It is nil if there is no such thing.
func (s *Server) content(name, token string, seen *reads) (r io.ReaderAt, size int64, tag string, err error) {
	base := s.cfg.Base
	if name != isoName {
		f, ok := s.netboot[name[len(netbootPrefix):]]
		if !ok {
			return nil, 0, "", nil
		}
		if !f.own {
			return f, f.Size, f.tag, nil
		}
		base, seen = f.Base, nil
	}
	window, err := wire.Config{URL: s.cfg.AgentURL, Pin: s.keys.pin, Token: token}.Window()
	return &overlay{base: base, window: window, seen: seen}, base.Size, "", err
}

// setCaching lets nobody keep what is one host's.
func setCaching(w http.ResponseWriter, tag string) {
	w.Header().Set("Cache-Control", "no-store")
	if tag != "" {
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("ETag", tag)
	}
}

// isNetboot says whether a name is that of a file for network boot.
func isNetboot(name string) bool {
	return len(name) > len(netbootPrefix) && name[:len(netbootPrefix)] == netbootPrefix && path.Clean(name) == name
}
