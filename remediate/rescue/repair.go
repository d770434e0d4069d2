package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"unbrick/bitlocker"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue/wire"
)

const (
	defaultPatience = 30 * time.Minute // where the engine sets no deadline
	reportMargin    = 15 * time.Second // what an agent is told to stop before the engine's deadline
)

// errClosed ends the repairs that wait in a server which is closed.
var errClosed = errors.New("the rescue server was closed while the host was at repair")

// A repair is a target that the engine waits for in this process.
type repair struct {
	target   remediate.Target
	playbook []byte
	since    time.Time
	deadline time.Time
	waiters  int           // under Server.mu
	done     chan struct{} // closed when the end is on record
	once     sync.Once

	mu       sync.Mutex
	last     string                  // what the agent last asked for, when
	away     string                  // who was turned away
	released map[bitlocker.KeyID]int // every protector asked for, and how often its key went out
}

// Repair waits for the agent of this target to report, and returns the report; where it went
// wrong, also beside the error. Called again, by any process that has the same records, it
// returns the same. See judge for what is an error. If ctx ends first, the error says how far
// the host came: that is what a person needs at night.
//
// The token of the target is good for a job, a key and a removal only while Repair waits.
func (s *Server) Repair(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	hash, _, err := s.open(ctx, t)
	if err != nil {
		return remediate.Report{}, err
	}
	return s.await(ctx, hash, t, pb)
}

// await is Repair for the agent that has the token of this hash.
func (s *Server) await(ctx context.Context, hash string, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	if rep, err, ended := s.outcome(ctx, hash, nil); ended {
		return rep, err
	}
	r, err := s.enter(ctx, hash, t, pb)
	if err != nil {
		return remediate.Report{}, err
	}
	defer s.leave(hash, r)
	poll := time.NewTicker(s.cfg.Poll)
	defer poll.Stop()
	for {
		select {
		case <-r.done:
		case <-poll.C:
		case <-s.closed:
			return remediate.Report{}, errClosed
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if rep, err, ended := s.outcome(last, hash, r); ended {
				return rep, err
			}
			return remediate.Report{}, s.missing(last, ctx, hash, r)
		}
		if rep, err, ended := s.outcome(ctx, hash, r); ended {
			return rep, err
		}
	}
}

// enter lets agents in that have the target's token.
func (s *Server) enter(ctx context.Context, hash string, t remediate.Target, pb *playbooks.Playbook) (*repair, error) {
	source := pb.Source()
	if len(source) == 0 {
		return nil, fmt.Errorf("playbook %s has no source to send to an agent", pb.Name)
	}
	now := time.Now()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = now.Add(defaultPatience)
	}
	deadline = deadline.Add(-min(reportMargin, deadline.Sub(now)/10))
	s.readsOf(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.live[hash]
	if r == nil {
		r = &repair{target: t, playbook: source, since: now, deadline: deadline, done: make(chan struct{}), released: map[bitlocker.KeyID]int{}}
		s.live[hash] = r
	}
	r.waiters++
	return r, nil
}

// leave shuts the door behind the last one who waits.
func (s *Server) leave(hash string, r *repair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.waiters--; r.waiters == 0 {
		delete(s.live, hash)
		delete(s.reads, hash)
	}
}

// An ending is the record of a repair that ended without a report.
type ending struct {
	Reason string `json:"reason"`
	Final  bool   `json:"final"` // no other route would help
}

// outcome returns how the repair ended, if it did. Records that cannot be read are an end
// that may be tried again.
func (s *Server) outcome(ctx context.Context, hash string, r *repair) (_ remediate.Report, err error, ended bool) {
	var rep wire.Report
	switch err := s.load(ctx, "report/"+hash, &rep); {
	case err == nil:
		return public(rep, r), judge(rep), true
	case !errors.Is(err, fs.ErrNotExist):
		return remediate.Report{}, &remediate.RetryError{After: 10 * time.Second, Err: err}, true
	}
	var end ending
	switch err := s.load(ctx, "refused/"+hash, &end); {
	case err == nil && end.Final:
		return remediate.Report{}, &remediate.FinalError{Err: errors.New(end.Reason)}, true
	case err == nil:
		return remediate.Report{}, errors.New(end.Reason), true
	case !errors.Is(err, fs.ErrNotExist):
		return remediate.Report{}, &remediate.RetryError{After: 10 * time.Second, Err: err}, true
	}
	return remediate.Report{}, nil, false
}

func (s *Server) load(ctx context.Context, key string, into any) error {
	b, err := s.cfg.Records.Load(ctx, key)
	if err != nil {
		return fmt.Errorf("cannot read how a repair ended: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("the record of a repair is damaged: %v", err)
	}
	return nil
}

// turnAway ends a repair whose host cannot be let in: on record first, so that every process
// gives the same answer.
func (s *Server) turnAway(c *call, final bool, why error) error {
	b, err := json.Marshal(ending{Reason: why.Error(), Final: final})
	if err != nil {
		return err
	}
	if err := s.cfg.Records.Create(c.Context(), "refused/"+c.hash, b); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	c.live.once.Do(func() { close(c.live.done) })
	return refuse(http.StatusForbidden, "%v", why)
}

func (r *repair) heard(now time.Time, what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = fmt.Sprintf("%s at %s", what, now.UTC().Format(time.TimeOnly))
}

func (r *repair) turnedAway(who string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = "; " + who
}

func (r *repair) seen() (last, away string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.away
}

// mayRelease notes that a key was asked for, and says whether that is still what an agent
// does.
func (r *repair) mayRelease(id bitlocker.KeyID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.released[id]; !known && len(r.released) >= maxProtectors {
		return false
	}
	r.released[id] += 0
	return r.released[id] < maxRepeats
}

func (r *repair) wasReleased(id bitlocker.KeyID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.released[id]++
}
