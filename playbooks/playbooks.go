// Package playbooks says what one incident did to a Windows volume and how to undo it, and
// applies that to a volume that is not running.
//
// A [Playbook] is a list of steps of a closed set. A step decides by what it finds, never by
// a name alone; [Playbook.Check] changes nothing, [Playbook.Apply] changes only what Check
// called faulty. What goes is copied to a [Keeper] first.
package playbooks

import (
	"io"
	"io/fs"
	"time"
)

// A Playbook is one incident: what to look for and what to do about it.
type Playbook struct {
	Name  string `yaml:"name"`
	Title string `yaml:"title"`
	Why   string `yaml:"why"` // what happened, for the person who reads a report
	Steps []Step `yaml:"-"`

	source []byte // as parsed; what travels to an agent
}

// A Step is one change to a Windows installation, or to what starts it. The set is closed:
// [Remove], [Registry], [Hives], [Safeboot].
type Step interface {
	// Check says how the installation at root stands, and changes nothing. An error means
	// that it could not be found out; the Finding then says how far it came.
	Check(v Volume, root string) (Finding, error)
	// Apply makes right what f, a Finding of Check on the same root, calls faulty, and
	// records in f.Files what it removed and in f.Values what it changed. Twice is the same
	// as once.
	Apply(v Volume, f *Finding, keep Keeper) error
	String() string
	step()
}

// A Volume is a file system of a host that is not running. Names are slash-separated, as in
// io/fs, relative to the volume's root; they are compared the way the file system underneath
// compares them, so steps resolve each element by folding case.
type Volume interface {
	fs.FS
	// Remove deletes one file, or an empty directory.
	Remove(name string) error
	// WriteFile makes content the content of a file that is there; it makes none, so that
	// owner, permissions and attributes stay as Windows set them. It returns after the content
	// is on the disk. Cut off, it leaves of the file any mixture of old and new: what must
	// survive that has to be written elsewhere first.
	WriteFile(name string, content []byte) error
}

// A Keeper takes a copy of what is about to be removed or changed.
type Keeper interface {
	// Keep returns after the copy is safe. The content must match f.Size and f.SHA256.
	Keep(f File, content io.Reader) error
}

// A Verdict says how one step found one installation.
type Verdict string

// The verdicts.
const (
	Absent     Verdict = "absent"     // the software the incident is about is not there
	Clean      Verdict = "clean"      // it is there, and no file of the kind is
	Good       Verdict = "good"       // only good files of the kind
	Faulty     Verdict = "faulty"     // only faulty ones
	Both       Verdict = "both"       // faulty and good ones
	Damaged    Verdict = "damaged"    // more than can be put right from here: another way has to
	Unreadable Verdict = "unreadable" // the file system would not say
	Locked     Verdict = "locked"     // the volume is encrypted and was not opened
)

// Affected says that there is something to remove or to change.
func (v Verdict) Affected() bool { return v == Faulty || v == Both }

// A File is one file that a step looked at.
type File struct {
	Path    string    `json:"path"` // on the volume, slashes, in the case found there
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mtime"`  // last write, UTC
	SHA256  string    `json:"sha256"` // lower-case hex
	Faulty  bool      `json:"faulty"`
	Why     string    `json:"why"`               // what decided: "last write in the window …"
	Removed bool      `json:"removed,omitempty"` // gone, and seen to be gone
}

// A Value is one thing within a file that a step looked at: a registry value, a boot option,
// or a registry hive as a whole.
type Value struct {
	Path    string `json:"path"`           // of the file, on the volume
	Name    string `json:"name,omitempty"` // in the file: key, backslash, value; empty for all of it
	Was     string `json:"was"`            // what was found, for a person: "REG_DWORD 1", "not there"
	Is      string `json:"is,omitempty"`   // what it is to be, if faulty; what it is, if changed
	Faulty  bool   `json:"faulty"`
	Why     string `json:"why"`
	Changed bool   `json:"changed,omitempty"` // written, read back, and as it is to be
}

// String names the value and what was found, for messages.
func (v Value) String() string {
	s := v.Path
	if v.Name != "" {
		s += " " + v.Name
	}
	return s + " is " + v.Was + ": " + v.Why
}

// A Finding is what one step found in one Windows installation.
type Finding struct {
	Root    string  `json:"root"` // the Windows directory, or the boot store, as named on the volume
	Step    string  `json:"step"`
	Verdict Verdict `json:"verdict"`
	Files   []File  `json:"files,omitempty"`
	Values  []Value `json:"values,omitempty"`
	Error   string  `json:"error,omitempty"`
	// Aside says that the step puts right what crashes and helpers leave behind and is not
	// about the incident: that it found all well proves nothing. It is never set where a
	// playbook has no other steps.
	Aside bool `json:"aside,omitempty"`
}

// A VolumeResult is what a playbook found, and did, on one volume.
type VolumeResult struct {
	Volume   string    `json:"volume"` // device, partition GUID or path: what names it to a person
	Verdict  Verdict   `json:"verdict"`
	Findings []Finding `json:"findings,omitempty"` // one per Windows root and step
	Error    string    `json:"error,omitempty"`
}

// A Result is what a playbook found, and did, on all volumes of one host.
type Result struct {
	Playbook string         `json:"playbook"`
	DryRun   bool           `json:"dry_run,omitempty"`
	Volumes  []VolumeResult `json:"volumes"`
}
