package rescue

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"unbrick/remediate/rescue/wire"
)

const (
	askAgain = 2 * time.Second
	maxDisks = 512 // of one helper
)

// helperAPI answers the agent on a helper.
func (s *Server) helperAPI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, w: w, log: s.cfg.Log.With("from", remoteIP(r), "asks", r.Pattern)}
		answer, err := s.tell(c)
		s.answer(c, answer, err)
	})
}

// tell says what to do with the disks that a helper has.
func (s *Server) tell(c *call) (any, error) {
	h, err := s.goodHelper(c)
	if err != nil {
		return nil, err
	}
	c.log = c.log.With("helper", h.Name)
	var in wire.HelperCall
	if err := c.decode(&in, maxHello); err != nil {
		return nil, err
	}
	if in.Version != wire.Version {
		return nil, refuse(http.StatusForbidden, "the agent on the helper (%.40q) speaks version %d of the protocol, this server version %d: start the helper with an image of this release", in.Agent, in.Version, wire.Version)
	}
	if len(in.Disks) > maxDisks {
		return nil, refuse(http.StatusForbidden, "%d disks on one helper are too many", len(in.Disks))
	}
	s.calls.heard(h.Name, s.cfg.Now(), in.Disks)
	if err := s.meet(c, h); err != nil {
		return nil, err
	}
	out := wire.HelperAnswer{Again: min(askAgain, s.cfg.Poll)}
	for _, d := range in.Disks {
		if err := s.tellOf(c, h, d, &out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tellOf adds what to do with one disk.
func (s *Server) tellOf(c *call, h helper, d wire.HelperDisk, out *wire.HelperAnswer) error {
	if d.Mark == "" || len(d.Mark) > maxMark {
		return nil
	}
	l, n, err := s.lastLoan(c.Context(), h.Name, d.Mark)
	if err != nil || n == 0 || l.Helper != h.Name {
		return err
	}
	ended, err := s.there(c.Context(), "withdrawn/"+l.Hash)
	if err != nil {
		return err
	}
	if ended {
		out.Stop = append(out.Stop, d.Mark)
		if d.Busy {
			return s.beat(c.Context(), l.Hash)
		}
		return s.create(c.Context(), "letgo/"+l.Hash, struct{}{})
	}
	s.mu.Lock()
	waiting := s.live[l.Hash] != nil
	s.mu.Unlock()
	if !waiting || d.Busy {
		return nil
	}
	claimed, err := s.there(c.Context(), "claim/"+l.Hash)
	if err != nil || claimed {
		return err
	}
	token := s.tokenOf(l.Target)
	if hashToken(token) != l.Hash {
		return nil // lent by a process with other keys
	}
	c.log.Debug("token lent", "run", l.Run, "host", l.Host, "mark", l.Mark)
	out.Loans = append(out.Loans, wire.Loan{Mark: l.Mark, Host: l.Host, Token: token})
	return nil
}

// goodHelper returns the helper whose token the request bears, if it is in use.
func (s *Server) goodHelper(c *call) (helper, error) {
	token, ok := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	h, err := s.Helpers().find(c.Context(), c.PathValue("id"))
	if err != nil && !errors.Is(err, ErrNoHelper) {
		return h, err
	}
	if err != nil || !ok || subtle.ConstantTimeCompare([]byte(hashToken(token)), []byte(h.Hash)) != 1 {
		return h, refuse(http.StatusUnauthorized, "this server did not make this helper's credential, or its records are others now: make a new one")
	}
	var rev revocation
	switch err := s.Sticks().load(c.Context(), "helperend/"+h.ID, &rev); {
	case err == nil:
		return h, refuse(http.StatusForbidden, "helper %s was taken out of use at %s by %s", h.ID, rev.At.Format(time.RFC3339), rev.By)
	case !errors.Is(err, fs.ErrNotExist):
		return h, err
	}
	if s.cfg.Now().After(h.Until) {
		return h, refuse(http.StatusForbidden, "helper %s was good until %s: make a new one", h.ID, h.Until.Format(time.RFC3339))
	}
	return h, nil
}

// helperCalls remember what helpers said last: for a person who wonders why nothing happens.
// The zero value is ready.
type helperCalls struct {
	mu  sync.Mutex
	m   map[string]helperCall
	met map[string]bool // by id: on record

	beats map[string]pulse // by token hash: of disks that were withdrawn, and are held
}

// A pulse is how often an agent was put on record as busy, and when it is the next time.
type pulse struct {
	n    int
	next time.Time
}

type helperCall struct {
	at    time.Time
	disks []wire.HelperDisk
}

func (h *helperCalls) heard(name string, at time.Time, disks []wire.HelperDisk) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil {
		h.m = map[string]helperCall{}
	}
	h.m[name] = helperCall{at, disks}
}

func (h *helperCalls) hasMet(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.met[id]
}

func (h *helperCalls) noteMet(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.met == nil {
		h.met = map[string]bool{}
	}
	h.met[id] = true
}

// beat says whether it is time to put on record that an agent is busy, and how often it was.
func (h *helperCalls) beat(hash string, now time.Time, every time.Duration) (n int, due bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.beats[hash]
	if now.Before(p.next) {
		return p.n, false
	}
	if h.beats == nil {
		h.beats = map[string]pulse{}
	}
	h.beats[hash] = pulse{p.n, now.Add(every)}
	return p.n, true
}

func (h *helperCalls) beaten(hash string, n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.beats[hash] = pulse{n, h.beats[hash].next}
}

// last says what the helper last said of a disk.
func (h *helperCalls) last(name, mark string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, ok := h.m[name]
	if !ok {
		return "it never called home: look whether it runs, with an image that unbrick made for it, and whether it reaches this server"
	}
	at := c.at.UTC().Format(time.TimeOnly)
	for _, d := range c.disks {
		if d.Mark == mark {
			return fmt.Sprintf("it saw the disk %s at %s", mark, at)
		}
	}
	return fmt.Sprintf("it called home at %s and did not see the disk %s among %d", at, mark, len(c.disks))
}
