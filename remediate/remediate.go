// Package remediate brings hosts that no longer boot back to work.
//
// It holds the contract between those who reach a host ([Driver]), those who repair it
// ([Medic]), those who see whether Windows is up ([Prober]) and the engine that drives them
// through the stages of state.go. It is pure: no I/O, no database, and no recovery key: what
// cannot name a key cannot leak one.
package remediate

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
)

// A Target is one host, to be reached by one of its routes in one attempt of one run.
type Target struct {
	Run     string
	Attempt int // 1 is the first
	Host    inventory.Host
	Route   inventory.Route

	// Up says that Windows was just seen up by itself: Leave puts back what it has to and
	// must not restart the host.
	Up bool
	// Notes are what was said of the host while it waited for a person, oldest first.
	Notes []Note
	// Returned says that the way which a ThenError named has failed too: none may be returned
	// again, and what made the host ready for that way is to be undone.
	Returned bool
}

// A Note is a word on a host that waits, or will.
type Note struct {
	By   string    `json:"by"`             // a person, or "unbrick"
	What string    `json:"what"`           // one of the constants
	Text string    `json:"text,omitempty"` // what they want to add; for Seen, the evidence
	At   time.Time `json:"at"`
}

// What a note may say.
const (
	Done     = "done"   // the person did what was asked; a claim, not a proof
	GaveUp   = "failed" // the person could not
	Remarked = "note"   // neither: look again
	Seen     = "up"     // Windows was seen up, by unbrick itself
)

// ID names the target: the same for every process and every repetition of the attempt.
func (t Target) ID() string {
	return fmt.Sprintf("%s/%s/%d/%s", t.Run, t.Host.Name, t.Attempt, t.Route.Driver)
}

// A Driver brings the system volume of a host within reach of the fixer, and puts the host
// back.
//
// Every method may be cut off anywhere and called again by another process, and must then
// finish the job: it looks before it acts. Drivers do not retry beyond what their protocol
// needs and do not log; every method returns soon after its context ends.
type Driver interface {
	// Observe says how the host stands, and changes nothing on it.
	Observe(ctx context.Context, t Target) (Posture, error)
	// Enter makes the host boot img, or brings its volume to a helper. On return the fixer
	// will run without further help.
	Enter(ctx context.Context, t Target, img Image) error
	// Leave puts the host back as before says, nothing inserted and nothing overridden, and
	// starts Windows. Called after Enter in every case, also after one that failed half-way
	// or never began.
	Leave(ctx context.Context, t Target, before Posture) error
}

// A Repairer is a Driver that repairs in place, without a fixer of its own. Optional. It
// returns an *UpError, and nothing else, when the host came up without having been repaired.
type Repairer interface {
	Repair(ctx context.Context, t Target, pb *playbooks.Playbook) (Report, error)
}

// A Supporter is a Driver that does not carry out every step. Optional: the others do, or have a
// fixer that does. A way that cannot carry out the playbook of a run is not taken in it.
type Supporter interface {
	// Supports returns why pb cannot be carried out by this way, with the step. It asks nobody.
	Supports(pb *playbooks.Playbook) error
}

// Supports asks a driver that is a Supporter; others support everything.
func Supports(d Driver, pb *playbooks.Playbook) error {
	if s, ok := d.(Supporter); ok && pb != nil {
		return s.Supports(pb)
	}
	return nil
}

// A Screenshotter is a Driver that can show the host's screen as PNG. Optional.
type Screenshotter interface {
	Screenshot(ctx context.Context, t Target) ([]byte, error)
}

// A Medic supplies what a host boots to be repaired, and repairs it. rescue.Server is one.
type Medic interface {
	// Image returns the image for this target alone: the same one when asked again.
	Image(ctx context.Context, t Target) (Image, error)
	// Repair waits for the fixer to reach the volume, lets it apply pb, and returns its
	// report. Called again it returns the same report. It fails when ctx ends first.
	Repair(ctx context.Context, t Target, pb *playbooks.Playbook) (Report, error)
}

// A Prober looks for signs of life.
type Prober interface {
	// Probe returns what shows that Windows is up, or the empty string if nothing does. An
	// error means that it could not look at all.
	Probe(ctx context.Context, h inventory.Host) (evidence string, err error)
}

// A Gate says whether a host may be touched now. It returns nil, a *SkipError, or another
// error if it could not find out.
type Gate func(ctx context.Context, t Target) error

// A Posture is how a host stood before it was touched: all that Leave needs, as data.
type Posture struct {
	Power  string            `json:"power"`            // "on", "off" or "unknown"
	Detail map[string]string `json:"detail,omitempty"` // the driver's own
	Said   string            `json:"said,omitempty"`   // what the result of the host is to say of it
}

// String is the posture in words: "power on, boot=disk".
func (p Posture) String() string {
	text := "power " + cmp.Or(p.Power, "unknown")
	for _, k := range slices.Sorted(maps.Keys(p.Detail)) {
		text += ", " + k + "=" + p.Detail[k]
	}
	if p.Said != "" {
		text += "; " + p.Said
	}
	return text
}

// An Image is the rescue image as one host gets it. The URL is plain (no query) and ends in
// .iso, because some BMCs refuse anything else.
type Image struct {
	URL string
}

// A Report is what the fixer found and did on one host.
type Report struct {
	playbooks.Result
	Agent    string        `json:"agent,omitempty"` // version of the fixer
	Elapsed  time.Duration `json:"elapsed,omitempty"`
	Released []string      `json:"released,omitempty"` // ids of protectors whose keys were used

	// SafeMode says that Windows will start in Safe Mode, because the fixer set it so.
	SafeMode bool `json:"safe_mode,omitempty"`

	// Word is what a person said who did the job by hand, and who: no volume was read. Proof
	// takes it where there is nothing else; the host still has to be seen up.
	Word string `json:"word,omitempty"`
}

// A RetryError is a failure that may pass by itself.
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }

// An UpError says that Windows came up by itself while the host was being treated: nothing is
// left to repair. The host is left and confirmed, with the verdict healthy.
type UpError struct{ Evidence string } // as Prober.Probe returns it

func (e *UpError) Error() string { return "came up by itself: " + e.Evidence }

// A WaitError says that a person has to act before the stage can go on. The host is put aside
// as it is and gives its place to others. The same stage runs again, with Target.Notes, when
// somebody says a word or Windows is seen up; it may wait again.
type WaitError struct{ For string }

func (e *WaitError) Error() string { return "waiting for " + e.For }

// A SkipError says that a host must not be touched, and why.
type SkipError struct{ Why string }

func (e *SkipError) Error() string { return e.Why }

// A FinalError is a failure that no other way into the host would cure: a key that nobody
// has, a volume without the faulty file. The host is put back and no further route is tried.
type FinalError struct{ Err error }

func (e *FinalError) Error() string { return e.Err.Error() }
func (e *FinalError) Unwrap() error { return e.Err }

// A ThenError is a failure after which one way can go on, and no other: the host was made
// ready for it, by Windows starting in Safe Mode for instance. See [Detour].
type ThenError struct {
	Way string
	Err error
}

func (e *ThenError) Error() string { return e.Err.Error() }
func (e *ThenError) Unwrap() error { return e.Err }
