// Package saved keeps what the sources of a fleet said in one file, so that a fleet is known when
// they cannot be asked.
//
// The file holds the rows of each source apart, as they came, and not what was made of them: the
// rows of a source that is down stand in for it beside fresh rows of the others. It begins with
// a line of JSON that says which sources there are, when each was read and the SHA-256 of its
// rows, and a line with the SHA-256 of the first; then come the rows, a zstd frame of JSON lines
// for each source. It holds references to no secret, and no secret.
package saved

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
)

// A Section is what the file says of one source.
type Section struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Config names what the source was asked: rows that another question brought do not stand
	// in for it.
	Config string    `json:"config,omitempty"`
	Read   time.Time `json:"read"` // when the source had been read
	Hosts  int       `json:"hosts"`
	Notes  int       `json:"notes,omitempty"` // rows that cannot be used, and values put aside
	// Supplement says that the source is an [inventory.Supplement].
	Supplement bool `json:"supplement,omitempty"`
	// Failed is why the source could not be read when the file was made: the rows are older, or
	// there are none.
	Failed string `json:"failed,omitempty"`
	// Partial says that the source could be read in part alone, and Failed what was missing.
	Partial bool `json:"partial,omitempty"`
	// Missing says that there are none that may be used. Rows may be kept for the configuration
	// that brought them: see [Writer.Park].
	Missing bool `json:"missing,omitempty"`

	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256,omitempty"`
}

// version is that of the file's form.
const version = 1

// A header is the first line.
type header struct {
	Fleet   int       `json:"unbrick_fleet"` // the version
	Saved   time.Time `json:"saved"`
	Sources []Section `json:"sources"`
}

// mostHeader bounds what is read of a file that is none of ours.
const mostHeader = 1 << 20

// A Fleet is an open file. It stays what it is when another file takes its place.
type Fleet struct {
	Saved    time.Time
	Sections []Section // in the order in which their sources are believed

	file  *os.File
	start int64 // of the rows
	temp  bool  // the file goes with Close
}

// Open opens a file that [Fleet.Publish] made. The error wraps fs.ErrNotExist if there is none.
// Rows are checked as they are read.
func Open(path string) (*Fleet, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the saved fleet: %w", err)
	}
	fleet, err := read(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot read the saved fleet %s: %w", path, err)
	}
	return fleet, nil
}

// errNone says that a file is not a saved fleet; it may be anything that somebody named.
var errNone = errors.New("it is not a saved fleet, or was cut off; unbrick inventory import makes it anew")

func read(f *os.File) (*Fleet, error) {
	in := bufio.NewReader(io.LimitReader(f, mostHeader))
	first, err := in.ReadBytes('\n')
	if err != nil {
		return nil, errNone
	}
	sum, err := in.ReadString('\n')
	if err != nil {
		return nil, errNone
	}
	var h header
	if err := json.Unmarshal(first, &h); err != nil || h.Fleet == 0 {
		return nil, errNone
	}
	if h.Fleet != version {
		return nil, fmt.Errorf("it has version %d, and this program reads version %d; unbrick inventory import makes it anew", h.Fleet, version)
	}
	if want := sha256.Sum256(first); strings.TrimSpace(sum) != hex.EncodeToString(want[:]) {
		return nil, errors.New("its first line was changed; unbrick inventory import makes it anew")
	}
	fleet := &Fleet{Saved: h.Saved, Sections: h.Sources, file: f, start: int64(len(first) + len(sum))}
	size := fleet.start
	for _, s := range h.Sources {
		size += s.Bytes
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		return nil, errNone
	}
	return fleet, nil
}

// Parked says that the rows of a section are kept, and not used.
func (s *Section) Parked() bool { return s.Missing && s.SHA256 != "" }

// Close lets go of the file. Its sources cannot be read any more.
func (f *Fleet) Close() error {
	err := f.file.Close()
	if f.temp {
		err = errors.Join(err, os.Remove(f.file.Name()))
	}
	return err
}

// Section returns the section of a source, nil if there is none.
func (f *Fleet) Section(name string) *Section {
	i := slices.IndexFunc(f.Sections, func(s Section) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &f.Sections[i]
}

// Source returns a source that yields what the one of that name did, nil if there is none with
// rows.
func (f *Fleet) Source(name string) inventory.Source {
	s := f.Section(name)
	if s == nil || s.Missing {
		return nil
	}
	r := recorded{section: *s, in: f.rows(name)}
	if s.Supplement {
		return supplement{r}
	}
	return r
}

// rows returns the frame of a section.
func (f *Fleet) rows(name string) *io.SectionReader {
	at := f.start
	for _, s := range f.Sections {
		if s.Name == name {
			return io.NewSectionReader(f.file, at, s.Bytes)
		}
		at += s.Bytes
	}
	return nil
}

type supplement struct{ recorded }

// Supplements implements inventory.Supplement.
func (supplement) Supplements() {}
