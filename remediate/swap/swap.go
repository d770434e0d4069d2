// Package swap is the way into virtual hosts, on whatever they run: the instance is stopped,
// its system volume is hung on a helper instance beside it, the agent there repairs it, and it
// is hung back exactly as it was.
//
// A [Platform] knows one cloud or hypervisor; [Driver] is the same for all. What follows what
// is the table in steps.go: each call looks how instance and volume stand, does the one step
// that the table names, and looks again. So a call that was cut off anywhere is simply made
// again, by any process, and long operations of a platform are found, not started twice.
//
// # What is never done
//
// The original volume is what is repaired; it is never deleted, and never attached twice: it is
// taken off its instance before a helper gets it, and off the helper before it goes back. How
// it hung on its instance is on record, in the [Journal], before the first change, and stays
// there until the instance runs with it again.
package swap

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A Platform is where instances run.
type Platform interface {
	// Reach finds the instance that the target's route names. Its error says what to do when
	// there is none.
	Reach(ctx context.Context, t remediate.Target) (Instance, error)
}

// An Instance is one instance during one call of the driver. Its methods look before they act
// where the platform does not, and return soon after their context ends; Close lets go of the
// platform and not of the instance.
type Instance interface {
	// ID names the instance, however the route is spelt, among all of its kind.
	ID() string
	// Describe returns all that it takes to hang the volume back as it hangs now, and nothing
	// secret. It refuses an instance whose volume must not be swapped, and says what to do
	// instead; it is called while the volume is its own, before anything is changed.
	Describe(ctx context.Context) (Slot, error)
	// Look says how instance and volume of an entry stand now. With the zero Entry, where nobody
	// knows which volume is meant, it says Own and the power.
	Look(ctx context.Context, e Entry) (State, error)
	// Do does one step, or sets it going: Look then says Changing or Moving until it is done, also
	// to another process. Only Lend and Recover have a helper.
	Do(ctx context.Context, step Step, e Entry, helper string) error
	// Helpers returns the helpers that can take the volume, and what each has now.
	Helpers(ctx context.Context) ([]Helper, error)
	io.Closer
}

// A Marker is an Instance on whose platform a volume cannot be given a mark of ours. Optional.
type Marker interface {
	// Mark returns what the agent on a helper knows the volume of an entry by, before it hangs
	// there and while it does: a serial number that the platform gives it, for instance. Where
	// that is its place on the helper, it is empty until Look has seen the volume there.
	Mark(e Entry) string
}

// A Tidier is an Instance on whose platform a swap takes more than the volume: a disk that
// stands in for it, for instance. Optional.
type Tidier interface {
	// Tidy removes what Do made for an entry, but for its snapshot. It is called when the volume
	// is its own again, before the entry ends; that there is nothing is no error.
	Tidy(ctx context.Context, e Entry) error
}

// A Slot is how a volume hangs on its instance.
type Slot struct {
	Volume string            `json:"volume"`           // the platform's id of it
	Name   string            `json:"name"`             // for people: "/images/ws1.qcow2 as vda of ws1"
	Detail json.RawMessage   `json:"detail"`           // the platform's own
	Remark map[string]string `json:"remark,omitempty"` // for people: what else there is to know
}

// A Helper is an instance that volumes are hung on.
type Helper struct {
	Name string
	Lent int // volumes of others on it now, whoever hung them there
}

// A Desk tells the agent on a helper which disk is whose. rescue.Server is one.
type Desk interface {
	// Lend says that the agent on the helper may repair the target on the disk with this mark,
	// while the target is at repair. Said again, it replaces what was said of the mark before.
	Lend(ctx context.Context, t remediate.Target, helper, mark string) error
	// Withdraw ends that. It returns when the agent has let go of the disk, or when it was not
	// heard of for so long that it cannot have it any more.
	Withdraw(ctx context.Context, t remediate.Target) error
}

// Records keep what was done. A second process that works on the same run must see them.
type Records interface {
	// Create stores value under key, durably before it returns. It wraps fs.ErrExist if the
	// key is taken.
	Create(ctx context.Context, key string, value []byte) error
	// Load returns what was stored. It wraps fs.ErrNotExist if nothing was.
	Load(ctx context.Context, key string) ([]byte, error)
}

// Options say how to swap. Way, Platform, Desk and Records are needed.
type Options struct {
	Way      string // name of the driver: libvirt, ec2, …
	Platform Platform
	Desk     Desk
	Records  Records
	Prober   remediate.Prober // nil: whether Windows is up is not asked again before it is stopped

	// Snapshot has a snapshot made of each volume before it is moved. It stays when all is done:
	// Journal.All names it.
	Snapshot bool

	// WasOff says what becomes of instances that are off when they are found. If it is empty, the
	// incident decides: what was off before From is skipped, what was not is repaired and
	// started, as is what nobody knows of.
	WasOff   WasOff
	Incident inventory.Incident

	PerHelper int           // volumes on one helper at once; 10 if 0
	Every     time.Duration // how often to look how a step goes; 2 s if 0
}

// A Driver is the way in by volume swap. It is safe for concurrent use.
type Driver struct {
	opt     Options
	journal *Journal
	queue   queue
	asked   sync.Map // a *turn by place
}

var _ remediate.Driver = (*Driver)(nil)

// New returns a driver.
func New(o Options) *Driver {
	if o.PerHelper <= 0 {
		o.PerHelper = 10
	}
	if o.Every <= 0 {
		o.Every = 2 * time.Second
	}
	return &Driver{opt: o, journal: NewJournal(o.Records), queue: queue{limit: o.PerHelper}}
}
