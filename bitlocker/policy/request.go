package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"unbrick/bitlocker"
)

// Why returns why one person alone may not have the keys of the request, or nothing if that
// person may. Special names the hosts for which two are always needed, each with the reason.
func (l Limits) Why(past []bitlocker.Event, r bitlocker.Request, special func(host string) string, now time.Time) string {
	var why []string
	if len(r.Keys) > l.AtOnce {
		why = append(why, fmt.Sprintf("%d keys at once are more than %d", len(r.Keys), l.AtOnce))
	}
	if left := l.Tokens(past, r.Actor, now); len(r.Keys) > left {
		why = append(why, fmt.Sprintf("%s has had so many that %d are left (%d an hour, %d a day)", r.Actor, left, l.Hour, l.Day))
	}
	for _, q := range r.Keys {
		if s := special(q.Host); s != "" {
			why = append(why, s)
			break // one is enough, and 250 hosts would fill the screen
		}
	}
	return strings.Join(why, "; ")
}

// A State is how far a request has come.
type State struct {
	Request  bitlocker.Request
	Hash     string
	Asked    time.Time
	Approved time.Time // zero if it is not
	By       string    // who approved it
	Used     []bitlocker.Query
}

// requests returns every request of the past, oldest first, with what became of it. An
// approval of a request that is not on the ledger, or by its own author, counts for nothing.
func requests(past []bitlocker.Event) []*State {
	var all []*State
	byHash := map[string]*State{}
	for _, e := range past {
		switch {
		case e.Asked != nil:
			s := &State{Request: *e.Asked, Hash: e.Asked.Hash(), Asked: e.Time}
			all, byHash[s.Hash] = append(all, s), s
		case e.Approved != nil:
			if s := byHash[e.Approved.Request]; s != nil && s.Approved.IsZero() && !SamePerson(s.Request.Actor, e.Approved.Actor) {
				s.Approved, s.By = e.Time, e.Approved.Actor
			}
		case e.Release != nil && e.Release.Request != "" && !e.Withheld:
			if s := byHash[e.Release.Request]; s != nil {
				s.Used = append(s.Used, e.Query)
			}
		}
	}
	return all
}

// within says whether now is in the time after start. What starts in the future does not hold:
// the clock was set back, and it would hold for too long.
func within(start, now time.Time, d time.Duration) bool {
	return !now.Before(start) && now.Sub(start) < d
}

// Pending returns the requests that wait for an approval, oldest first.
func (l Limits) Pending(past []bitlocker.Event, now time.Time) (open []State) {
	for _, s := range requests(past) {
		if s.Approved.IsZero() && within(s.Asked, now, l.Open) {
			open = append(open, *s)
		}
	}
	return open
}

// Find returns how far the same wish of the same person has come: a request that may be used
// now, else one that waits. A request of which any key was used is of no further use.
func (l Limits) Find(past []bitlocker.Event, r bitlocker.Request, now time.Time) (s State, approved, found bool) {
	all := requests(past)
	for _, s := range slices.Backward(all) {
		if !sameWish(s.Request, r) {
			continue
		}
		if !s.Approved.IsZero() && len(s.Used) == 0 && within(s.Approved, now, l.Approval) {
			return *s, true, true
		}
		if s.Approved.IsZero() && within(s.Asked, now, l.Open) {
			return *s, false, true
		}
	}
	return State{}, false, false
}

// sameWish says whether two requests are of the same person for the same keys and reason.
func sameWish(a, b bitlocker.Request) bool {
	same := func(x, y bitlocker.Query) bool { return x.ID == y.ID && bitlocker.SameHost(x.Host, y.Host) }
	return a.Actor == b.Actor && a.Purpose == b.Purpose && a.Reason == b.Reason && slices.EqualFunc(a.Keys, b.Keys, same)
}

// CheckApproval says why a may not be written, after the past.
func (l Limits) CheckApproval(past []bitlocker.Event, a bitlocker.Approval, now time.Time) error {
	for _, s := range requests(past) {
		if s.Hash != a.Request {
			continue
		}
		switch {
		case SamePerson(s.Request.Actor, a.Actor):
			return fmt.Errorf("%s asked for it and cannot approve it: a second person has to", s.Request.Actor)
		case !s.Approved.IsZero():
			return fmt.Errorf("it was approved by %s at %s", s.By, s.Approved.Format(time.RFC3339))
		case !within(s.Asked, now, l.Open):
			return fmt.Errorf("it was asked at %s and is no longer open", s.Asked.Format(time.RFC3339))
		}
		return nil
	}
	return errors.New("no such request on the ledger")
}

// CheckRelease says why r may not go out, after the past. It holds for one key what Why and
// Find say of all of a request.
func (l Limits) CheckRelease(past []bitlocker.Event, r bitlocker.Release, special func(host string) string, now time.Time) error {
	if !r.Person {
		return nil
	}
	if err := CheckReason(r.Reason); err != nil {
		return err
	}
	if r.Request == "" {
		why := l.Why(past, bitlocker.Request{Actor: r.Actor, Keys: []bitlocker.Query{r.Query}}, special, now)
		if why != "" {
			return fmt.Errorf("a second person has to approve it: %s", why)
		}
		return nil
	}
	for _, s := range requests(past) {
		if s.Hash == r.Request {
			return l.checkUse(s, r, now)
		}
	}
	return errors.New("its request is not on the ledger")
}

// checkUse says why the approved request does not cover r.
func (l Limits) checkUse(s *State, r bitlocker.Release, now time.Time) error {
	q := s.Request
	switch {
	case s.Approved.IsZero():
		return errors.New("its request is not approved")
	case !within(s.Approved, now, l.Approval):
		return fmt.Errorf("its approval held for %s and is over", l.Approval)
	case q.Actor != r.Actor || q.Purpose != r.Purpose || q.Reason != r.Reason || !slices.Contains(q.Keys, r.Query):
		return errors.New("its request is for something else")
	case slices.Contains(s.Used, r.Query):
		return errors.New("its approval was used: ask again")
	}
	return nil
}
