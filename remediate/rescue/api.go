package rescue

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"unbrick/remediate/rescue/wire"
)

// Sizes of the largest bodies.
const (
	maxHello  = 64 << 10
	maxReport = 1 << 20
)

// A refusal is an answer other than success; its text goes to the agent and into the log.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

// notYet is the answer while the engine is not at repair: the agent asks again.
var notYet = &refusal{http.StatusConflict, "not now: this host is not at repair yet, or any more; ask again"}

// notOurs is the answer to a message that cannot be read.
var notOurs = &refusal{http.StatusBadRequest, "the message is not what this server expects; agent and server have to be of one release"}

// A call is one request of an agent that showed a token of ours.
type call struct {
	*http.Request
	w    http.ResponseWriter
	hash string // of the token
	job  job
	live *repair // nil while the engine does not wait for this target here
	log  *slog.Logger
}

// agentAPI serves package wire. A handler returns what is to be encoded, or nil for 204.
func (s *Server) agentAPI() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /v1/hello", s.handle(s.hello))
	mux.Handle("POST /v1/keys", s.handle(s.claimed(s.releaseKeys)))
	mux.Handle("PUT /v1/quarantine/{sha256}", s.handle(s.claimed(s.quarantine)))
	mux.Handle("POST /v1/report", s.handle(s.claimed(s.report)))
	mux.Handle("POST "+wire.StickPath("{id}"), s.stickAPI())
	mux.Handle("POST "+wire.HelperPath("{id}"), s.helperAPI())
	mux.Handle("GET "+wire.HelperPath("{id}"), s.enrolAPI(s.helperGood))
	mux.Handle("POST "+wire.EnrolPath("{id}"), s.enrolAPI(s.enrol))
	mux.Handle("GET "+wire.EnrolAgentPath("{id}"), s.enrolAPI(s.enrolAgent))
	return mux
}

type handler func(c *call) (answer any, err error)

func (s *Server) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, w: w, log: s.cfg.Log.With("from", remoteIP(r), "asks", r.Pattern)}
		answer, err := any(nil), s.authenticate(c)
		if err == nil {
			answer, err = h(c)
		}
		s.answer(c, answer, err)
	})
}

func (s *Server) answer(c *call, answer any, err error) {
	var no *refusal
	switch {
	case err == nil && answer == nil:
		c.w.WriteHeader(http.StatusNoContent)
	case err == nil:
		c.w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(c.w).Encode(answer)
	case errors.As(err, &no) && no.code == http.StatusConflict:
		c.log.Debug("agent has to wait", "err", err)
		http.Error(c.w, no.text, no.code)
	case errors.As(err, &no):
		c.log.Warn("agent refused", "code", no.code, "err", err)
		http.Error(c.w, no.text, no.code)
	default: // our own trouble, whose details are not the agent's business
		c.log.Error("cannot answer an agent", "err", err)
		http.Error(c.w, "the rescue server has a problem of its own (see its log); ask again", http.StatusServiceUnavailable)
	}
}

// authenticate finds the job of the token that the request bears.
func (s *Server) authenticate(c *call) (err error) {
	token, ok := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	if !ok || len(token) != tokenText.EncodedLen(tokenSize) {
		return refuse(http.StatusUnauthorized, "a token is missing")
	}
	c.hash = hashToken(token)
	if c.job, err = s.job(c.Context(), c.hash); errors.Is(err, errNoJob) {
		return refuse(http.StatusUnauthorized, "%v", err)
	}
	c.log = c.log.With("run", c.job.Run, "host", c.job.Host)
	s.mu.Lock()
	c.live = s.live[c.hash]
	s.mu.Unlock()
	return err
}

// decode reads a JSON body of at most limit bytes.
func (c *call) decode(into any, limit int64) error {
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, limit))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return refuse(http.StatusRequestEntityTooLarge, "this message is larger than %d bytes", limit)
	}
	if err != nil {
		return refuse(http.StatusBadRequest, "the message did not arrive whole")
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber() // sizes and times do not pass through floating point
	if err := dec.Decode(into); err != nil || dec.More() {
		return notOurs
	}
	return nil
}

// A claim is the record of the agent that a token belongs to: the first that said hello.
type claim struct {
	PublicKey []byte        `json:"public_key"`
	Identity  wire.Identity `json:"identity"`
	Agrees    []string      `json:"agrees"` // what of the identity the inventory has too
	Agent     string        `json:"agent"`
	From      string        `json:"from"`
	At        time.Time     `json:"at"`
}

// claim returns the claim on a token, or nil if nobody said hello.
func (s *Server) claim(ctx context.Context, hash string) (*claim, error) {
	b, err := s.cfg.Records.Load(ctx, "claim/"+hash)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cl := new(claim)
	if err := json.Unmarshal(b, cl); err != nil {
		return nil, fmt.Errorf("the record of an agent is damaged: %v", err)
	}
	return cl, nil
}

// claimed lets only the agent through that said hello.
func (s *Server) claimed(h func(*call, *claim) (any, error)) handler {
	return func(c *call) (any, error) {
		cl, err := s.claim(c.Context(), c.hash)
		if err != nil {
			return nil, err
		}
		if cl == nil {
			return nil, refuse(http.StatusForbidden, "say hello first")
		}
		if subtle.ConstantTimeCompare([]byte(wire.Session(cl.PublicKey)), []byte(c.Header.Get(wire.SessionHeader))) != 1 {
			return nil, s.stranger(c, cl)
		}
		if c.live != nil {
			c.live.heard(s.cfg.Now(), c.Pattern)
		}
		return h(c, cl)
	}
}

// stranger is the answer to somebody who has the token of a host whose agent is another one:
// a host that booted the image twice, or somebody who read the token off the wire.
func (s *Server) stranger(c *call, cl *claim) error {
	err := refuse(http.StatusForbidden, "this token belongs to the agent that said hello from %s at %s: a token serves one boot only", cl.From, cl.At.Format(time.RFC3339))
	c.log.Error("SECURITY: a token was used by a second agent: the host booted its image twice, or somebody else has its token", "first_from", cl.From, "first_at", cl.At)
	if c.live != nil {
		c.live.turnedAway(fmt.Sprintf("a second agent with its token, from %s, was refused", remoteIP(c.Request)))
	}
	return err
}

// hello gives the job to the first agent that asks while the host is at repair. The same
// agent may ask again: answers get lost.
func (s *Server) hello(c *call) (any, error) {
	var h wire.Hello
	if err := c.decode(&h, maxHello); err != nil {
		return nil, err
	}
	if c.live == nil {
		return nil, notYet
	}
	cl, err := s.claim(c.Context(), c.hash)
	if err == nil && cl == nil {
		cl, err = s.take(c, h)
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(cl.PublicKey, h.PublicKey) != 1 {
		return nil, s.stranger(c, cl)
	}
	c.live.heard(s.cfg.Now(), "hello")
	c.log.Info("agent said hello", "agrees", cl.Agrees, "agent", h.Agent)
	return s.wireJob(c.live), nil
}

// take claims the token for the agent, or says why it may not have it; then nobody may, and
// Repair ends with the same words.
func (s *Server) take(c *call, h wire.Hello) (*claim, error) {
	if h.Version != wire.Version {
		return nil, s.turnAway(c, false, fmt.Errorf("the agent in the rescue image (%.40q) speaks version %d of the protocol, this server version %d: build the image with this release", h.Agent, h.Version, wire.Version))
	}
	if err := s.tooOld(c.job); err != nil {
		return nil, s.turnAway(c, false, err)
	}
	if _, err := publicKey(h.PublicKey); err != nil {
		return nil, refuse(http.StatusBadRequest, "the public key is not one")
	}
	agrees, err := s.recognise(c, h.Identity)
	if err != nil {
		return nil, s.turnAway(c, true, err)
	}
	cl := claim{PublicKey: h.PublicKey, Identity: h.Identity, Agrees: agrees, Agent: h.Agent, From: remoteIP(c.Request), At: s.cfg.Now().UTC()}
	b, err := json.Marshal(cl)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Records.Create(c.Context(), "claim/"+c.hash, b); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return s.claim(c.Context(), c.hash) // ours, or that of an agent that was faster
}

// wireJob returns what the agent of r is to do.
func (s *Server) wireJob(r *repair) wire.Job {
	terms := s.cfg.Terms(r.target)
	return wire.Job{
		Host:     r.target.Host.Name,
		Playbook: r.playbook,
		DryRun:   terms.DryRun,
		Deadline: r.deadline.UTC(),
		Budget:   time.Until(r.deadline),
		Allow:    terms.Allow,
	}
}

func publicKey(b []byte) (hpke.PublicKey, error) {
	return hpke.DHKEM(ecdh.X25519()).NewPublicKey(b)
}
