package winrmtest

import (
	"io"
	"log"
	"net/http"
)

// A Kind is a way in which a host fails.
type Kind string

// The kinds of a fault.
const (
	DropBefore   Kind = "dropped before it was done" // the connection breaks
	DropAfter    Kind = "dropped after it was done"  // not of logins
	Crash        Kind = "crash after it was done"    // no answer, and the host is dead until Revive; not of logins
	CrashBefore  Kind = "crash before it was done"
	Hang         Kind = "hang"         // no answer, the connection stays
	Rebooted     Kind = "rebooted"     // every shell is gone
	Unauthorized Kind = "unauthorized" // HTTP 401, although logged in
	Status500    Kind = "status 500"   // without a SOAP fault
	InPlain      Kind = "in plain"     // an answer that is not sealed, on a connection that is
	Garbage      Kind = "garbage"      // an answer that is no XML
	Endless      Kind = "endless"      // an answer that does not end
)

// A Fault is one order to fail.
type Fault struct {
	Kind  Kind
	Op    Op  // empty: any
	Skip  int // matching requests that are let through before
	Count int // requests that are hit; 0 means 1, below 0 all from then on
}

// Order adds a fault. A request meets the first that matches.
func (s *Server) Order(f Fault) { s.faults.Order(f, f.Skip, f.Count) }

// Heal takes back every fault that was ordered.
func (s *Server) Heal() { s.faults.Heal() }

// meet notes the request and returns the fault that it meets.
func (s *Server) meet(op Op) Kind {
	s.mu.Lock()
	s.requests = append(s.requests, op)
	s.mu.Unlock()
	f, _ := s.faults.Meet(func(f Fault) bool { return f.Op == "" || f.Op == op })
	return f.Kind
}

// before does what a fault does instead of the request. It returns false if the request goes on.
func (s *Server) before(w http.ResponseWriter, r *http.Request, k Kind) bool {
	switch k {
	case DropBefore:
		panic(http.ErrAbortHandler)
	case CrashBefore:
		s.Die()
		panic(http.ErrAbortHandler)
	case Hang:
		<-r.Context().Done()
	case Rebooted:
		s.mu.Lock()
		for id, sh := range s.shells {
			sh.end()
			delete(s.shells, id)
		}
		s.mu.Unlock()
		return false
	case Unauthorized:
		s.challenge(w, "")
	case Status500:
		http.Error(w, "busy", http.StatusInternalServerError)
	case Garbage:
		w.Header().Set("Content-Type", soapType)
		io.WriteString(w, "<<<")
	case Endless:
		w.Header().Set("Content-Type", soapType)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return true
			}
		}
	default:
		return false
	}
	return true
}

// after does what a fault does when the request is done.
func (s *Server) after(k Kind) {
	switch k {
	case Crash:
		s.Die()
		panic(http.ErrAbortHandler)
	case DropAfter:
		panic(http.ErrAbortHandler)
	}
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
