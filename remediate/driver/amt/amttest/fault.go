package amttest

import (
	"net/http"
	"strings"
	"time"
)

// A Kind is a way in which AMT fails.
type Kind string

// The kinds of a fault.
const (
	LostRequest  Kind = "lost request" // the connection is cut, and nothing was done
	LostReply    Kind = "lost reply"   // it was done, then the connection is cut
	Hang         Kind = "hang"         // accepts and never answers
	Unauthorized Kind = "unauthorized" // 401, whatever the credentials
	Forbidden    Kind = "forbidden"    // 403: the account lacks the realm
	Busy         Kind = "busy"         // 503
	Refused      Kind = "refused"      // a WS-Management fault: internal error

	// Ignored comes true without an answer that says so: the BIOS uses the boot options up and
	// boots the disk. On is not asked.
	Ignored Kind = "ignored"
)

// The operations that a fault can be ordered on.
const (
	OpChallenge = "challenge" // a request without valid credentials
	OpIdentify  = "identify"
	OpGet       = "get"
	OpEnumerate = "enumerate"
	OpPull      = "pull"
	OpSettings  = "put settings"
	OpOrder     = "change boot order"
	OpRole      = "set boot config role"
	OpPower     = "request power state change"
	OpOther     = "other"
)

// Reads says whether an operation changes nothing.
func Reads(op string) bool {
	switch op {
	case OpChallenge, OpIdentify, OpGet, OpEnumerate, OpPull:
		return true
	}
	return false
}

func opOf(m message, bad *fault) string {
	method := m.action[strings.LastIndex(m.action, "/")+1:]
	switch {
	case bad != nil:
		return OpOther
	case m.identify:
		return OpIdentify
	}
	switch method {
	case "Get":
		return OpGet
	case "Put":
		return OpSettings
	case "Enumerate":
		return OpEnumerate
	case "Pull":
		return OpPull
	case "ChangeBootOrder":
		return OpOrder
	case "SetBootConfigRole":
		return OpRole
	case "RequestPowerStateChange":
		return OpPower
	}
	return OpOther
}

// A Fault is one order to fail.
type Fault struct {
	Kind  Kind
	On    string // operation; empty: any
	Skip  int    // requests let through before
	Count int    // requests hit; 0 means 1, below 0 means all from then on
}

// Order adds a fault. Faults are tried in the order in which they were added, and one request
// meets one at most.
func (a *AMT) Order(f Fault) { a.faults.Order(f, f.Skip, f.Count) }

// Heal takes back every fault.
func (a *AMT) Heal() { a.faults.Heal() }

// Requests returns the operations that clients asked for so far, in order.
func (a *AMT) Requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.requests...)
}

// meet notes a request and returns the fault that it meets, if any.
func (a *AMT) meet(op string) (Fault, bool) {
	a.mu.Lock()
	a.requests = append(a.requests, op)
	a.mu.Unlock()
	return a.faults.Meet(func(f Fault) bool { return f.Kind != Ignored && (f.On == "" || f.On == op) })
}

// silent uses up a fault that comes true without an answer.
func (a *AMT) silent(k Kind) bool {
	_, ok := a.faults.Meet(func(f Fault) bool { return f.Kind == k })
	return ok
}

// fail does what a fault orders. done says that the request is answered, and cut that it is to
// be served without its answer arriving.
func (a *AMT) fail(f Fault, w http.ResponseWriter, r *http.Request, m message) (done, cut bool) {
	switch f.Kind {
	case LostRequest:
		panic(http.ErrAbortHandler)
	case LostReply:
		return false, true
	case Hang:
		t := time.NewTimer(24 * time.Hour)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
		case <-a.closed:
		}
		panic(http.ErrAbortHandler)
	case Unauthorized:
		a.mu.Lock()
		c := a.challenge(false)
		a.mu.Unlock()
		w.Header().Set("WWW-Authenticate", c)
		w.WriteHeader(http.StatusUnauthorized)
	case Forbidden:
		http.Error(w, "Forbidden", http.StatusForbidden)
	case Busy:
		http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
	default:
		(&fault{http.StatusInternalServerError, "Receiver", "e:InternalError", "The service cannot comply with the request due to internal processing errors."}).write(w, m)
	}
	return true, false
}

// tell queues what the host is told, in order and without a lock held. The caller holds mu.
func (a *AMT) tell(f func(Host)) {
	if a.opt.Host == nil {
		return
	}
	a.news = append(a.news, f)
	if len(a.news) > 1 {
		return // somebody is telling
	}
	a.busy.Add(1)
	go func() {
		defer a.busy.Done()
		for {
			a.mu.Lock()
			next := a.news[0]
			a.mu.Unlock()
			next(a.opt.Host)
			a.mu.Lock()
			a.news = a.news[1:]
			last := len(a.news) == 0
			a.mu.Unlock()
			if last {
				return
			}
		}
	}()
}
