// Package rollback is the last way into virtual hosts but a person: the whole machine goes back
// to the newest of its own snapshots that was made before the incident began, and is started.
//
// What was written since that snapshot is lost to the machine. So nobody comes here by accident:
// the way has to be on the ladder, which it is not by default, and to be allowed beside that; and
// before the machine goes back a snapshot of the present is made. It stays: [Forward] is the
// command that goes there again, [Removal] the one that removes it.
//
// # The order of things
//
//	put it on record · power off · snapshot of the present · go back · put that on record
//
// How far a machine is can be seen on it: it has the snapshot of the present or not, and where
// its disks stand is what the platform calls the current snapshot. So a call that was cut off
// anywhere is made again, by any process. When it is on record that the machine went back, it
// never goes again in that run, whatever becomes of it. Leave starts it; one that could not be
// finished goes forward first.
//
// # What is refused
//
// Domain controllers, whatever is allowed: replication with the others breaks without a word
// when one goes back in time (USN rollback), see "Safely virtualizing Active Directory Domain
// Services (AD DS)", https://learn.microsoft.com/windows-server/identity/ad-ds/introduction-to-active-directory-domain-services-ad-ds-virtualization-level-100.
// That a host may be one is known by its tier, dependency, and by what sources call it. Clusters
// and databases that replicate have troubles of the same kind and do not say what they are: the
// posture warns.
//
// That a snapshot is older than the incident is by the clock of the hypervisor.
package rollback

import (
	"context"
	"io"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// A Platform is where machines run.
type Platform interface {
	// Reach finds the machine that the target's route names. Its error says what to do when
	// there is none.
	Reach(ctx context.Context, t remediate.Target) (Machine, error)
}

// A Machine is a virtual machine during one call of the driver. Its methods return soon after
// their context ends; Close lets go of the platform and not of the machine.
type Machine interface {
	// Look says how the machine and its snapshots stand, and changes nothing.
	Look(ctx context.Context) (State, error)
	// Do does one step, or sets it going: Look then says Changing until it is done, also to
	// another process. Keep has the name of the snapshot that it makes, Back the id of the one
	// that it goes back to; the machine is off before and after both, or Paused after Back.
	Do(ctx context.Context, step Step, snapshot string) error
	io.Closer
}

// A Step is one change.
type Step string

// The steps.
const (
	Stop  Step = "stop"  // without asking Windows, which does not answer
	Keep  Step = "keep"  // make a snapshot of the present
	Back  Step = "back"  // go to a snapshot; nothing but the memory of now is lost by that
	Start Step = "start" // without the memory of a snapshot, where the platform can
)

// A Power says whether a machine runs.
type Power string

// The powers.
const (
	On       Power = "on"
	Off      Power = "off"
	Paused   Power = "paused"   // it has its memory and does not run
	Changing Power = "changing" // something is done to it: look again
)

// A State is how a machine and its snapshots stand.
type State struct {
	ID        string // of the machine, among all of its kind, however the route is spelt
	Name      string // for people
	Power     Power
	Snapshots []Snapshot        // oldest first; of those of one second, each behind what it was made of
	Refused   string            // why it must not go back to any of them, and what to do; or nothing
	Remark    map[string]string // for people: what else there is to know
}

// A Snapshot is one of a whole machine.
type Snapshot struct {
	ID      string    `json:"id"` // the platform's
	Name    string    `json:"name"`
	Made    time.Time `json:"made"`
	Memory  bool      `json:"memory,omitempty"` // it has that too
	Current bool      `json:"-"`                // what the disks were made from last: it, or back to it
	Refused string    `json:"-"`                // why the machine must not go back to it, and what to do; or nothing
}

// Options say when to go back. Way, Platform and Records are needed.
type Options struct {
	Way      string // name of the driver: libvirt-rollback, …
	Platform Platform
	Records  swap.Records
	Prober   remediate.Prober // nil: whether Windows is up is not asked again before it is stopped

	Before  time.Time     // when the incident began; zero: nobody knows, and nothing goes back
	Allowed bool          // the person who runs this has said that what was written since may be lost
	Every   time.Duration // how often to look how a step goes; 2 s if 0
}

// A Driver is the way in by going back to a snapshot. Its routes have the addresses of the
// platform's way by volume swap. It is safe for concurrent use.
type Driver struct {
	opt     Options
	journal *swap.Journal
}

var (
	_ remediate.Driver   = (*Driver)(nil)
	_ remediate.Repairer = (*Driver)(nil)
)

// New returns a driver.
func New(o Options) *Driver {
	if o.Every <= 0 {
		o.Every = 2 * time.Second
	}
	return &Driver{opt: o, journal: swap.NewJournal(o.Records)}
}
