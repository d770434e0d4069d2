package rescue

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"unbrick/remediate/rescue/wire"
)

// quarantine keeps a file that the agent is about to remove, under the hash of its content,
// so that 40,000 copies of one file take the room of one. It answers after file and index
// line are on disk, and only while the host is at repair: an agent whose repair was given up
// removes nothing more.
func (s *Server) quarantine(c *call, _ *claim) (any, error) {
	want := c.PathValue("sha256")
	if b, err := hex.DecodeString(want); err != nil || len(b) != sha256.Size || hex.EncodeToString(b) != want {
		return nil, refuse(http.StatusBadRequest, "the name of a quarantined file is its SHA-256 in lower-case hex")
	}
	if c.live == nil {
		return nil, notYet
	}
	if c.ContentLength > s.cfg.MaxQuarantine {
		return nil, s.tooLarge()
	}
	size, err := s.keep(c, want)
	if err != nil {
		return nil, err
	}
	file, err := url.PathUnescape(c.Header.Get(wire.FileHeader))
	if err != nil {
		file = ""
	}
	return nil, s.indexFile(kept{Time: s.cfg.Now().UTC(), Run: c.job.Run, Host: c.job.Host, File: file, Size: size, SHA256: want})
}

func (s *Server) tooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, "a file that is to be removed or changed is larger than the %d bytes that this server keeps; allow more, or remove it by hand", s.cfg.MaxQuarantine)
}

// keep writes the body to its place, whole and checked, or not at all.
func (s *Server) keep(c *call, want string) (size int64, err error) {
	dir := filepath.Join(s.cfg.Dir, quarantineDir)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("cannot quarantine a file: %w", err)
	}
	defer os.Remove(f.Name())
	sum := sha256.New()
	body := &source{r: http.MaxBytesReader(c.w, c.Body, s.cfg.MaxQuarantine)}
	size, err = io.Copy(io.MultiWriter(f, sum), body)
	var tooLong *http.MaxBytesError
	switch err = errors.Join(err, f.Sync(), f.Close()); {
	case errors.As(body.err, &tooLong):
		return 0, s.tooLarge()
	case body.err != nil:
		return 0, refuse(http.StatusServiceUnavailable, "the file did not arrive whole; send it again")
	case err != nil:
		return 0, fmt.Errorf("cannot quarantine a file: %w", err)
	case hex.EncodeToString(sum.Sum(nil)) != want:
		return 0, refuse(http.StatusUnprocessableEntity, "the content does not have the hash that names it: the file changed while it was read")
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, want)); err != nil {
		return 0, fmt.Errorf("cannot quarantine a file: %w", err)
	}
	return size, syncDir(dir)
}

// A source remembers its error, to tell a bad line from a full disk.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// kept is a line of quarantine/index.jsonl. A file sent twice has two lines.
type kept struct {
	Time   time.Time `json:"time"`
	Run    string    `json:"run"`
	Host   string    `json:"host"`
	File   string    `json:"file,omitempty"` // volume and path on the host
	Size   int64     `json:"size"`
	SHA256 string    `json:"sha256"`
}

func (s *Server) indexFile(k kept) error {
	line, err := json.Marshal(k)
	if err != nil {
		return err
	}
	s.index.Lock()
	defer s.index.Unlock()
	f, err := os.OpenFile(filepath.Join(s.cfg.Dir, quarantineDir, "index.jsonl"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the index of the quarantine: %w", err)
	}
	last := []byte{'\n'}
	if end, err := f.Seek(0, io.SeekEnd); err == nil && end > 0 {
		f.ReadAt(last, end-1)
	}
	if last[0] != '\n' { // a crash cut off the last line: it must not spoil this one
		line = append([]byte{'\n'}, line...)
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot write the index of the quarantine: %w", err)
	}
	return nil
}
