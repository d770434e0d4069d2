package redfishtest

import (
	"net/http"
	"time"
)

// A Kind is a way in which a BMC fails.
type Kind string

// The kinds of a fault.
const (
	LostRequest  Kind = "lost request"  // the connection is cut, and nothing was done
	LostReply    Kind = "lost reply"    // it was done, then the connection is cut
	Busy         Kind = "busy"          // 503, Retry-After: 1
	Hang         Kind = "hang"          // accepts and never answers
	Internal     Kind = "internal"      // 500, and nothing was done
	Slow         Kind = "slow"          // answers after Delay
	Unauthorized Kind = "unauthorized"  // 401, whatever the credentials
	SessionsFull Kind = "sessions full" // a login is refused as if the table were full

	// These come true without an answer that says so. On is not asked.
	StaleMedia      Kind = "stale media"      // an eject is done, but the next two reads do not show it
	OverrideIgnored Kind = "override ignored" // the next start with an override uses it up and boots the disk
)

// Kinds lists every kind of fault.
func Kinds() []Kind {
	return []Kind{LostRequest, LostReply, Busy, Hang, Internal, Slow, Unauthorized, SessionsFull, StaleMedia, OverrideIgnored}
}

// The operations that a fault can be ordered on.
const (
	OpRoot     = "root"     // service root, and whatever has no name here
	OpLogin    = "login"    // POST to Sessions
	OpLogout   = "logout"   // DELETE of a session
	OpSystems  = "systems"  // read the collections of systems or managers
	OpSystem   = "system"   // read the system
	OpManager  = "manager"  // read the manager
	OpMedia    = "media"    // read virtual media, one or the collection
	OpInsert   = "insert"   // by action or PATCH
	OpEject    = "eject"    // by action or PATCH
	OpOverride = "override" // PATCH of the system's Boot, or of the boot attribute
	OpReset    = "reset"    // every power action
)

// A Fault is one order to fail.
type Fault struct {
	Kind  Kind
	On    string        // operation; empty: any
	Skip  int           // requests let through before
	Count int           // requests hit; 0 means 1, below 0 means all from then on
	Delay time.Duration // of Slow; of Busy, what Retry-After says in whole seconds
}

// Order adds a fault. Faults are tried in the order in which they were added, and one request
// meets one at most.
func (b *BMC) Order(f Fault) { b.faults.Order(f, f.Skip, f.Count) }

// Pending returns the faults that were ordered and have not all happened yet.
func (b *BMC) Pending() []Fault { return b.faults.Pending() }

// Heal takes back every fault.
func (b *BMC) Heal() { b.faults.Heal() }

// request notes a request and returns the fault that it meets, if any.
func (b *BMC) request(op string) (Fault, bool) {
	b.mu.Lock()
	b.requests = append(b.requests, op)
	b.mu.Unlock()
	return b.faults.Meet(func(f Fault) bool {
		return f.Kind != StaleMedia && f.Kind != OverrideIgnored && (f.On == "" || f.On == op) &&
			(f.Kind != SessionsFull || op == OpLogin)
	})
}

// silent uses up a fault of a kind that comes true without an answer.
func (b *BMC) silent(k Kind) bool {
	_, ok := b.faults.Meet(func(f Fault) bool { return f.Kind == k })
	return ok
}

// fail does what a fault orders. It returns false if the request is then to be served, and
// reports whether its answer is to be lost.
func (b *BMC) fail(f Fault, w http.ResponseWriter, r *http.Request) (done, cut bool) {
	switch f.Kind {
	case LostRequest:
		panic(http.ErrAbortHandler)
	case LostReply:
		return false, true
	case Busy:
		after := int(f.Delay / time.Second)
		rep := refuse(http.StatusServiceUnavailable, "Base.1.8.ServiceTemporarilyUnavailable", "The service is temporarily unavailable. Retry in a moment.")
		rep.header = http.Header{"Retry-After": {itoa(max(after, 1))}}
		rep.write(w)
	case Hang:
		b.wait(r, 24*time.Hour)
		panic(http.ErrAbortHandler)
	case Slow:
		b.wait(r, f.Delay)
		return false, false
	case Unauthorized:
		unauthorized().write(w)
	case SessionsFull:
		b.tableFull().write(w)
	default:
		refuse(http.StatusInternalServerError, "Base.1.8.InternalError", "The request failed due to an internal service error.").write(w)
	}
	return true, false
}

// wait passes time, unless the client or the BMC goes away.
func (b *BMC) wait(r *http.Request, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	case <-b.closed:
	}
}
