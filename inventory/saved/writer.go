package saved

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"unbrick/inventory"
)

// A Writer makes a saved fleet. Sources may be recorded by several goroutines at
// once. Close lets go of it; without Publish nothing remains.
type Writer struct {
	dir   string // of the files that it needs meanwhile
	mu    sync.Mutex
	parts map[string]part
}

// A part is a section, and where its rows are.
type part struct {
	section Section
	file    *os.File          // rows that were recorded
	old     *io.SectionReader // rows of another file
}

// NewWriter begins a saved fleet whose file will be in dir.
func NewWriter(dir string) *Writer { return &Writer{dir: dir, parts: map[string]part{}} }

// Record reads a source to its end. Name, Kind and Config of the section are the caller's, the
// rest is set. Count, if it is there, is told now and then how many hosts there are so far. On
// an error the Writer is as it was before; but of a source that ends in an *inventory.PartialError
// the part is recorded, and the section says so.
func (w *Writer) Record(ctx context.Context, s Section, src inventory.Source, count func(hosts int)) error {
	if count == nil {
		count = func(int) {}
	}
	f, err := os.CreateTemp(w.dir, ".unbrick-fleet-*")
	if err != nil {
		return fmt.Errorf("cannot save hosts: %w", err)
	}
	out := bufio.NewWriterSize(f, 1<<20)
	e, err := newEncoder(out)
	if err == nil {
		err = e.record(ctx, src, &s, count)
		err = errors.Join(err, e.zstd.Close()) // a second time does nothing
	}
	var missing *inventory.PartialError
	some := err
	if errors.As(err, &missing) {
		s.Partial, s.Failed, err = true, err.Error(), nil
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		drop(f)
		return err
	}
	_, s.Supplement = src.(inventory.Supplement)
	s.Read = time.Now().UTC().Truncate(time.Second)
	w.put(part{section: s, file: f})
	return some
}

func drop(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// Keep takes over what an earlier file, open until Fleet has returned, has of a source, as the
// answer to config: the question that brought it, whatever it was called then. Why is why the
// source could not be read. It says whether there was anything to take.
func (w *Writer) Keep(f *Fleet, name, config, why string) bool {
	return w.take(f, name, func(s *Section) { s.Config, s.Failed, s.Missing = config, why, false })
}

// Park is Keep for a source that is configured otherwise now, and cannot be read: nobody uses the
// rows, and they are not lost to whoever goes back.
func (w *Writer) Park(f *Fleet, name, why string) bool {
	return w.take(f, name, func(s *Section) { s.Failed, s.Missing = why, true })
}

func (w *Writer) take(f *Fleet, name string, as func(*Section)) bool {
	s := f.Section(name)
	if s == nil || s.Missing && !s.Parked() {
		return false
	}
	one := part{section: *s, old: f.rows(name)}
	as(&one.section)
	w.put(one)
	return true
}

// Miss notes a source of which nothing is known.
func (w *Writer) Miss(s Section, why string) {
	s.Failed, s.Missing = why, true
	w.put(part{section: s})
}

func (w *Writer) put(p part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was := w.parts[p.section.Name]; was.file != nil {
		drop(was.file)
	}
	w.parts[p.section.Name] = p
}

// Fleet makes one file of the sections, in the order of the names, and opens it. It lasts until
// the fleet is closed, unless it is published.
func (w *Writer) Fleet(names []string) (*Fleet, error) {
	h := header{Fleet: version, Saved: time.Now().UTC().Truncate(time.Second), Sources: []Section{}}
	for _, n := range names {
		h.Sources = append(h.Sources, w.parts[n].section)
	}
	f, err := os.CreateTemp(w.dir, ".unbrick-fleet-*")
	if err != nil {
		return nil, fmt.Errorf("cannot save the fleet: %w", err)
	}
	if err = w.write(f, h); err == nil {
		var fleet *Fleet
		if fleet, err = reopen(f); err == nil {
			return fleet, nil
		}
	}
	drop(f)
	return nil, fmt.Errorf("cannot save the fleet: %w", err)
}

// reopen reads what was written, from its beginning.
func reopen(f *os.File) (*Fleet, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	fleet, err := read(f)
	if err != nil {
		return nil, err
	}
	fleet.temp = true
	return fleet, nil
}

// write writes the whole file to the disk.
func (w *Writer) write(f *os.File, h header) error {
	first, err := json.Marshal(h)
	if err != nil {
		return err
	}
	first = append(first, '\n')
	sum := sha256.Sum256(first)
	if _, err := f.Write(append(first, hex.EncodeToString(sum[:])+"\n"...)); err != nil {
		return err
	}
	for _, s := range h.Sources {
		var rows io.Reader
		switch p := w.parts[s.Name]; {
		case p.file != nil:
			rows = io.NewSectionReader(p.file, 0, s.Bytes)
		case p.old != nil:
			rows = io.NewSectionReader(p.old, 0, s.Bytes)
		default:
			continue
		}
		if n, err := io.Copy(f, rows); err != nil || n != s.Bytes {
			return errors.Join(err, fmt.Errorf("%d of %d bytes of %s were written", n, s.Bytes, s.Name))
		}
	}
	return f.Sync()
}

// Close removes what it needed.
func (w *Writer) Close() {
	for _, p := range w.parts {
		if p.file != nil {
			drop(p.file)
		}
	}
	clear(w.parts)
}

// Publish makes the file of a fleet that a Writer made the one at path, in the Writer's folder:
// all of it or, after a crash, the earlier one.
func (f *Fleet) Publish(path string) error {
	if !f.temp {
		return nil
	}
	if err := os.Rename(f.file.Name(), path); err != nil {
		return fmt.Errorf("cannot save the fleet: %w", err)
	}
	f.temp = false
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // not every system can
		dir.Sync()
		dir.Close()
	}
	return nil
}
