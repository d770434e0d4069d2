// Package agent is the part of the fixer that is the same wherever it runs: it says hello to
// the rescue server, opens what is locked, applies the playbook to each volume, sees that it
// worked, and reports. What a volume is, and how it is opened, a [Machine] knows.
//
// It looks before it writes: a volume is opened for writing only after the playbook found
// something to do on it, opened read-only. It trusts nothing but the server's key that its
// configuration names.
package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

// A Machine is the host that the agent runs on, or beside.
type Machine interface {
	// Identity says what the host says of itself. What it returns beside an error counts.
	Identity() (wire.Identity, error)
	// Volumes returns every volume that may hold Windows, and changes nothing.
	Volumes(ctx context.Context) ([]Volume, error)
}

// A Volume is one volume of a Machine. One that is an io.Closer is closed when the agent is
// through with it, and forgets its key.
type Volume interface {
	// Name names it to a person and in the report.
	Name() string
	// Protectors returns the ids of the volume's recovery keys if it is locked. It is empty if
	// the volume needs no key, or is open.
	Protectors() []string
	// Unlock opens the volume with the key of one of its protectors. It changes nothing on it,
	// and its error has no digit of the key.
	Unlock(ctx context.Context, protector string, key bitlocker.Key) error
	// Open makes the file system readable or, if write is set, writable too; allow says which
	// losses the operator accepts for that. An error wraps ErrLocked if a key is missing. What
	// was written is on the disk when the closer has returned without an error.
	Open(ctx context.Context, write bool, allow wire.Allow) (playbooks.Volume, io.Closer, error)
}

// A Stretcher is a Volume that opens with less than a recovery key. Optional.
type Stretcher interface {
	// Salt returns the salt of a protector, or nil if the volume needs the key itself.
	Salt(protector string) []byte
	// UnlockStretched is Unlock with the key stretched with that salt.
	UnlockStretched(ctx context.Context, protector string, key bitlocker.Stretched) error
}

// A Booter is a Volume that Windows may be started from and that never holds Windows itself:
// an EFI system partition. Optional. It is opened only for a playbook that has a step for such
// volumes, and reported only if there is something to say of it.
type Booter interface{ Boots() bool }

// ErrLocked means that a volume is encrypted and not open.
var ErrLocked = errors.New("the volume is locked")

// Options say how patient the agent is, and what it calls itself. The zero Options will do.
type Options struct {
	Version  string        // of the agent; "dev" if empty
	Patience time.Duration // how long it tries to say hello; 15m if zero
	Pause    time.Duration // between the first two tries of a message; 1s if zero, later ones wait longer
	Log      *slog.Logger  // for the host's console; none if nil
}

// maxPause is the longest wait between two tries, in Options.Pause.
const maxPause = 15

func (o Options) complete() Options {
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Patience == 0 {
		o.Patience = 15 * time.Minute
	}
	if o.Pause == 0 {
		o.Pause = time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
