package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"unbrick/remediate/rescue/wire"
)

// A Rack is a helper as its disks come and go.
type Rack interface {
	// Disks returns the marks of the disks that are hung on it now. A mark that two disks have
	// is not among them.
	Disks(ctx context.Context) ([]string, error)
	// Machine returns the host of the disk with this mark: no other disk is its, and it says
	// nothing of the helper.
	Machine(mark string) Machine
}

// errWithdrawn ends the work on a disk that is about to be taken off.
var errWithdrawn = errors.New("the disk is taken back")

// callEvery is how often the server is asked if it does not say.
const callEvery = 2 * time.Second

// Serve works as the agent of every host whose disk is hung on the helper, of many at the same
// time, each in a conversation of its own with that host's token. It returns when ctx ends, after
// every disk is closed, or with an error when the server refuses the helper for good.
func Serve(ctx context.Context, r Rack, cfg wire.Config, o Options) error {
	if cfg.Helper == nil {
		return errors.New("this configuration is not that of a helper")
	}
	o = o.complete()
	c, err := newClient(cfg, o)
	if err != nil {
		return err
	}
	defer c.http.CloseIdleConnections()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &shift{rack: r, cfg: cfg, client: c, o: o, at: map[string]*bench{}}
	defer s.work.Wait()
	defer stop()
	for {
		again, err := s.call(ctx)
		if final(err) {
			return fmt.Errorf("the rescue server refuses this helper: %w", err)
		}
		if err != nil && ctx.Err() == nil {
			o.Log.Info(err.Error(), "phase", "helper")
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(again):
		}
	}
}

// A shift is one Serve.
type shift struct {
	rack   Rack
	cfg    wire.Config
	client *client
	o      Options
	work   sync.WaitGroup

	mu sync.Mutex
	at map[string]*bench // by mark
}

// A bench is where one disk is worked on, and stays after that until the disk is gone: a token
// is used once.
type bench struct {
	token string
	busy  bool
	end   context.CancelCauseFunc
}

// call tells the server what hangs here, does what it answers, and says when to call again.
func (s *shift) call(ctx context.Context) (again time.Duration, err error) {
	marks, err := s.rack.Disks(ctx)
	if err != nil {
		return callEvery, fmt.Errorf("cannot see the disks: %w", err)
	}
	msg := wire.HelperCall{Version: wire.Version, Agent: s.o.Version, Disks: []wire.HelperDisk{}}
	s.mu.Lock()
	for mark, b := range s.at {
		if !slices.Contains(marks, mark) {
			b.end(errWithdrawn)
			if b.busy {
				marks = append(marks, mark) // it is gone, and what had it open is not
			} else {
				delete(s.at, mark)
			}
		}
	}
	for _, mark := range marks {
		b := s.at[mark]
		msg.Disks = append(msg.Disks, wire.HelperDisk{Mark: mark, Busy: b != nil && b.busy})
	}
	s.mu.Unlock()
	try, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	var ans wire.HelperAnswer
	if err := s.client.post(try, wire.HelperPath(s.cfg.Helper.ID), msg, &ans); err != nil {
		return callEvery, fmt.Errorf("cannot ask the rescue server: %w", err)
	}
	for _, mark := range ans.Stop {
		s.stop(mark)
	}
	for _, l := range ans.Loans {
		if slices.Contains(marks, l.Mark) {
			s.begin(ctx, l)
		}
	}
	if ans.Again <= 0 || ans.Again > time.Minute {
		ans.Again = callEvery
	}
	return ans.Again, nil
}

func (s *shift) stop(mark string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.at[mark]; b != nil {
		b.end(errWithdrawn)
	}
}

// begin works on a disk, unless something does or its token was used.
func (s *shift) begin(ctx context.Context, l wire.Loan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.at[l.Mark]; b != nil && (b.busy || b.token == l.Token) {
		return
	}
	ctx, end := context.WithCancelCause(ctx)
	b := &bench{token: l.Token, busy: true, end: end}
	s.at[l.Mark] = b
	s.work.Go(func() {
		defer func() {
			s.mu.Lock()
			b.busy = false
			s.mu.Unlock()
			end(nil)
		}()
		o := s.o
		o.Log = o.Log.With("host", l.Host)
		cfg := wire.Config{URL: s.cfg.URL, Pin: s.cfg.Pin, Token: l.Token}
		if _, err := Run(ctx, s.rack.Machine(l.Mark), cfg, o); err != nil {
			o.Log.Info(err.Error(), "phase", "failed")
			return
		}
		o.Log.Info("the server has the report", "phase", "done")
	})
}
