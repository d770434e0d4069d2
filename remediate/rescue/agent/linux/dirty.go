package linux

import (
	"errors"
	"fmt"

	"unbrick/remediate/rescue/wire"
)

// ErrHibernated means that Windows saved its session to the disk and will go on from there:
// whatever is changed under it damages the volume.
var ErrHibernated = errors.New("Windows is hibernated on this volume; allow it to lose the saved session, or shut Windows down")

// A JournalError means that the journal of an NTFS volume cannot be replayed.
type JournalError struct{ Why string }

func (e *JournalError) Error() string {
	return "cannot replay the journal: " + e.Why + "; allow the journal to be dropped (Windows then runs chkdsk), or restore the volume"
}

// A cure is what has to be done to an NTFS volume before it may be mounted for writing.
// The order of cures is that of ntfs-3g's maintainer: replay before anything that loses data.
type cure struct {
	replay     []string // the command, without the device; nil where there is nothing to replay
	drop       bool     // the journal is beyond replay and may be dropped
	mayDrop    bool     // if replaying fails the journal may be dropped
	endSession bool     // the saved session is dropped by the mount
}

// decide says what a volume needs before it may be written to, or why it must not be. It is
// the rule of the whole agent about volumes that Windows did not leave cleanly.
//
// session holds the first bytes of hiberfil.sys, none if there is no such file; logErr is why
// the journal's state could not be read.
func decide(session []byte, l Log, logErr error, allow wire.Allow) (cure, error) {
	c := cure{mayDrop: allow.DropJournal}
	if hibernated(session) {
		if !allow.Hibernated {
			return cure{}, ErrHibernated
		}
		c.endSession = true
	}
	switch {
	case logErr != nil:
		if !allow.DropJournal {
			return cure{}, &JournalError{logErr.Error()}
		}
		c.drop = true
	case l.Empty:
	case l.Major == 2 && l.Minor == 0:
		// Refused by ntfs-3g whether clean or not: Windows kept metadata elsewhere.
		c.replay = []string{"ntfsrecover", "-k"}
	case l.Major == 1 && l.Minor <= 1:
		if !l.Clean {
			c.replay = []string{"ntfsrecover"}
		}
	case allow.DropJournal:
		c.drop = true
	default:
		return cure{}, &JournalError{fmt.Sprintf("its version %d.%d is not known", l.Major, l.Minor)}
	}
	return c, nil
}

// hibernated says whether the beginning of hiberfil.sys is that of a saved session. A session
// that was resumed or given up begins with something else, or with zeros.
func hibernated(head []byte) bool {
	return len(head) >= 4 && (string(head[:4]) == "hibr" || string(head[:4]) == "HIBR")
}
