package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/rescue/wire"
)

// Loans are all in the records, so that any process finds there what another wrote:
//
//	loan/MARK N          the N-th target whose disk has this mark; the last one counts.
//	                     Of a mark that is a place, each helper has one
//	lent/TOKEN           the loan of a target
//	withdrawn/TOKEN      it ended
//	busy/TOKEN N         after that the agent was heard for the N-th time, and still has it open
//	letgo/TOKEN          and the agent has let go of the disk

// A loan is the record of a disk that hangs on a helper.
type loan struct {
	Target string    `json:"target"` // Target.ID
	Run    string    `json:"run"`
	Host   string    `json:"host"`
	Hash   string    `json:"hash"` // of the target's token
	Helper string    `json:"helper"`
	Mark   string    `json:"mark"`
	At     time.Time `json:"at"`
}

const (
	maxMark = 128
	// letGo is after how long a helper that says nothing has no disk open any more. That it was
	// heard is on record so often in that time.
	letGo = time.Minute
	beats = 6
)

// Lend says that the helper of that name may repair the target on the disk that shows this mark
// there, while the target is at repair. The last word on a mark counts.
func (s *Server) Lend(ctx context.Context, t remediate.Target, helper, mark string) error {
	if helper == "" || mark == "" || len(mark) > maxMark {
		return fmt.Errorf("%q on helper %q is not what a disk can be known by", mark, helper)
	}
	hash, _, err := s.open(ctx, t)
	if err != nil {
		return err
	}
	l := loan{Target: t.ID(), Run: t.Run, Host: t.Host.Name, Hash: hash, Helper: helper, Mark: mark, At: s.cfg.Now().UTC()}
	if err := s.create(ctx, "lent/"+hash, l); err != nil {
		return err
	}
	for {
		last, n, err := s.lastLoan(ctx, helper, mark)
		if err != nil {
			return err
		}
		if n > 0 && last.Hash == l.Hash && last.Helper == l.Helper {
			return nil
		}
		b, err := json.Marshal(l)
		if err != nil {
			return err
		}
		err = s.cfg.Records.Create(ctx, loanKey(helper, mark, n), b)
		if !errors.Is(err, fs.ErrExist) { // somebody else was faster: look what they said
			return err
		}
	}
}

// create writes a record that may be there already.
func (s *Server) create(ctx context.Context, key string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := s.cfg.Records.Create(ctx, key, b); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot record a loan: %w", err)
	}
	return nil
}

// loanKey names the n-th loan of a mark. A place, "lun:7", says which disk is meant on one helper
// alone.
func loanKey(helper, mark string, n int) string {
	if strings.HasPrefix(mark, "lun:") {
		return recordKey("loan", helper, mark, n)
	}
	return recordKey("loan", mark, n)
}

// lastLoan returns the last word on a mark that a helper sees, and how many there were.
func (s *Server) lastLoan(ctx context.Context, helper, mark string) (last loan, n int, err error) {
	for {
		var l loan
		err := s.Sticks().load(ctx, loanKey(helper, mark, n), &l)
		if errors.Is(err, fs.ErrNotExist) {
			return last, n, nil
		}
		if err != nil {
			return loan{}, 0, err
		}
		last, n = l, n+1
	}
}

// loanOf returns the loan of the target with that token. The error wraps fs.ErrNotExist if its
// disk hangs on no helper.
func (s *Server) loanOf(ctx context.Context, hash string) (l loan, err error) {
	err = s.Sticks().load(ctx, "lent/"+hash, &l)
	return l, err
}

// there says whether a record is there.
func (s *Server) there(ctx context.Context, key string) (bool, error) {
	_, err := s.cfg.Records.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Withdraw ends the loan of a target. It returns when nobody has its disk open: at once where
// no agent began, or the agent reported, since it closes everything first; else when the agent
// says so, or has said nothing for a minute. An agent that is heard and does not let go is waited
// for: then, when the context ends, the error is a *remediate.RetryError. A target that was not
// lent is none.
func (s *Server) Withdraw(ctx context.Context, t remediate.Target) error {
	hash := hashToken(s.token(t))
	l, err := s.loanOf(ctx, hash)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := s.create(ctx, "withdrawn/"+hash, struct{}{}); err != nil {
		return err
	}
	before, err := s.loansBefore(ctx, l)
	if err != nil {
		return err
	}
	heard := 0
	for end := time.Now().Add(s.cfg.letGo); ; {
		open, err := s.mayBeOpen(ctx, hash, before...)
		if err != nil || !open {
			return err
		}
		known := heard
		if heard, err = s.beatsOf(ctx, hash, heard); err != nil {
			return err
		}
		if heard > known {
			end = time.Now().Add(s.cfg.letGo + s.cfg.letGo/beats) // the last may be as old as that
		} else if time.Now().After(end) {
			return nil
		}
		select {
		case <-time.After(s.cfg.letGo / 120):
		case <-ctx.Done():
			return &remediate.RetryError{After: 10 * time.Second, Err: fmt.Errorf(
				"the helper %s is still at work on the disk of %s (%s), so it is not taken off: %w\nlook at the helper if that goes on; the disk is taken a minute after the agent there ends or is heard no more",
				l.Helper, t.Host.Name, s.calls.last(l.Helper, l.Mark), context.Cause(ctx))}
		}
	}
}

// beatsOf returns how often an agent was heard to be busy on a disk that was withdrawn; n is how
// often that is known.
func (s *Server) beatsOf(ctx context.Context, hash string, n int) (int, error) {
	for {
		is, err := s.there(ctx, recordKey("busy", hash, n))
		if err != nil || !is {
			return n, err
		}
		n++
	}
}

// beat puts on record that an agent is heard and busy on a disk that was withdrawn: it may be
// another process that waits for it. It does so now and then.
func (s *Server) beat(ctx context.Context, hash string) error {
	n, due := s.calls.beat(hash, time.Now(), s.cfg.letGo/beats)
	if !due {
		return nil
	}
	n, err := s.beatsOf(ctx, hash, n)
	if err == nil {
		err = s.create(ctx, recordKey("busy", hash, n), struct{}{})
	}
	if err == nil {
		s.calls.beaten(hash, n+1)
	}
	return err
}

// loansBefore returns the token hashes of earlier targets that are the same host on the same disk:
// of an attempt that ended while the agent hung.
func (s *Server) loansBefore(ctx context.Context, l loan) (hashes []string, err error) {
	for n := 0; ; n++ {
		var one loan
		err := s.Sticks().load(ctx, loanKey(l.Helper, l.Mark, n), &one)
		if errors.Is(err, fs.ErrNotExist) || err == nil && one.Hash == l.Hash {
			return hashes, nil
		}
		if err != nil {
			return nil, err
		}
		if one.Host == l.Host && one.Helper == l.Helper {
			hashes = append(hashes, one.Hash)
		}
	}
}

// mayBeOpen says whether an agent began on the disk of a target, or of one of those before it,
// and has not come to an end. That the disk is let go is noted of the last.
func (s *Server) mayBeOpen(ctx context.Context, hash string, before ...string) (bool, error) {
	if gone, err := s.there(ctx, "letgo/"+hash); err != nil || gone {
		return false, err
	}
	for _, h := range append(before, hash) {
		began, err := s.there(ctx, "claim/"+h)
		for _, end := range []string{"report/", "letgo/"} {
			if began && err == nil {
				var ended bool
				ended, err = s.there(ctx, end+h)
				began = !ended
			}
		}
		if err != nil || began {
			return began, err
		}
	}
	return false, nil
}

// recognise is identify, also for an agent beside the host: it runs on another machine, and was
// given the token of the host, for one disk, over its own conversation with the server.
func (s *Server) recognise(c *call, id wire.Identity) (agrees []string, err error) {
	l, err := s.loanOf(c.Context(), c.hash)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Identify(c.live.target.Host, id)
	case err != nil:
		return nil, err
	case id.UUID != "" || id.Serial != "" || len(id.MAC) > 0:
		return nil, fmt.Errorf("an agent that is not on the helper %s has the token of %s: only the helper may use it", l.Helper, l.Host)
	}
	return []string{"disk " + l.Mark + " on helper " + l.Helper}, nil
}
