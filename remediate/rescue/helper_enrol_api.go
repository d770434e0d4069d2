package rescue

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"unbrick/remediate/rescue/wire"
)

// enrolAPI answers a machine that is to be a helper, or is one.
func (s *Server) enrolAPI(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, w: w, log: s.cfg.Log.With("from", remoteIP(r), "asks", r.Pattern)}
		answer, err := h(c)
		if f, ok := answer.(*os.File); ok && err == nil {
			s.sendFile(c, f)
			return
		}
		s.answer(c, answer, err)
	})
}

func (s *Server) sendFile(c *call, f *os.File) {
	defer f.Close()
	setCaching(c.w, "")
	c.w.Header().Set("Content-Type", "application/octet-stream")
	out := &patient{ResponseWriter: c.w, rc: http.NewResponseController(c.w)}
	http.ServeContent(out, c.Request, "", time.Time{}, f)
	c.log.Info("agent sent", "status", out.status, "bytes", out.sent)
}

// enrol gives the credential of a helper to the first that asks with the token of an enrolment.
// The same process may ask again: answers get lost.
func (s *Server) enrol(c *call) (any, error) {
	e, err := s.goodEnrolment(c)
	if err != nil {
		return nil, err
	}
	c.log = c.log.With("helper", e.Name, "machine", e.Machine)
	var in wire.Enrol
	if err := c.decode(&in, maxHello); err != nil {
		return nil, err
	}
	switch {
	case in.Version != wire.Version:
		return nil, refuse(http.StatusForbidden, "the agent (%.40q) speaks version %d of the protocol, this server version %d: enrol with an image of this release", in.Agent, in.Version, wire.Version)
	case len(in.Secret) < secretSize:
		return nil, notOurs
	}
	used, err := s.takeEnrolment(c, e, in)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(used.Secret), []byte(hashToken(string(in.Secret)))) != 1 {
		return nil, s.usedTwice(c, e, used)
	}
	if err := s.makeHelper(c, e, used); err != nil {
		return nil, err
	}
	c.log.Info("helper enrolled", "id", used.Helper)
	return s.Helpers().config(e, used), nil
}

// goodEnrolment returns the enrolment whose token the request bears. That it is too old or void
// is no error yet: it may have been used before.
func (s *Server) goodEnrolment(c *call) (e enrolment, err error) {
	id := c.PathValue("id")
	token, ok := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	err = fs.ErrNotExist
	if stickID.MatchString(id) {
		err = s.Sticks().load(c.Context(), "enrol/"+id, &e)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return e, err
	}
	if err != nil || !ok || subtle.ConstantTimeCompare([]byte(hashToken(token)), []byte(e.Hash)) != 1 {
		return e, refuse(http.StatusUnauthorized, "this server did not make this enrolment, or its records are others now: enrol again, with the state of this server")
	}
	return e, nil
}

// takeEnrolment returns who has used the enrolment: the first that asked while it was good.
func (s *Server) takeEnrolment(c *call, e enrolment, in wire.Enrol) (used enrolled, err error) {
	key := "enrolled/" + e.ID
	if err = s.Sticks().load(c.Context(), key, &used); !errors.Is(err, fs.ErrNotExist) {
		return used, err
	}
	if err := s.enrolmentOver(c, e); err != nil {
		return used, err
	}
	random := make([]byte, 4)
	rand.Read(random)
	used = enrolled{Helper: hex.EncodeToString(random), Secret: hashToken(string(in.Secret)), From: remoteIP(c.Request), Agent: in.Agent, At: s.cfg.Now().UTC()}
	if err := s.create(c.Context(), key, used); err != nil {
		return used, err
	}
	return used, s.Sticks().load(c.Context(), key, &used) // ours, or that of who was faster
}

// enrolmentOver says why an enrolment that was not used cannot be used any more, or is nil.
func (s *Server) enrolmentOver(c *call, e enrolment) error {
	var rev revocation
	switch err := s.Sticks().load(c.Context(), "enrolend/"+e.ID, &rev); {
	case err == nil:
		return refuse(http.StatusForbidden, "this enrolment was made void at %s by %s: enrol again", rev.At.Format(time.RFC3339), rev.By)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	last, _, err := s.Helpers().lastEnrolment(c.Context(), e.Machine)
	switch {
	case err != nil:
		return err
	case last.ID != e.ID:
		return refuse(http.StatusForbidden, "this enrolment is void since another was made for this machine at %s", last.Made.Format(time.RFC3339))
	case s.cfg.Now().After(e.Expires):
		return refuse(http.StatusForbidden, "this enrolment was good until %s: enrol again", e.Expires.Format(time.RFC3339))
	}
	return nil
}

// usedTwice is the answer to the second that has the token of an enrolment. Which of the two is
// the helper nobody can tell, so what the first got is good no more. Where the second cannot be
// the helper since it comes too late, the first keeps it.
func (s *Server) usedTwice(c *call, e enrolment, first enrolled) error {
	from, at := remoteIP(c.Request), first.At.Format(time.RFC3339)
	if s.cfg.Now().Sub(e.Made) > enrolDoubt {
		c.log.Error("SECURITY: somebody tried the token of an enrolment that was used long ago", "first_from", first.From, "first_at", first.At)
		return refuse(http.StatusForbidden, "this enrolment was used at %s, from %s", at, first.From)
	}
	c.log.Error("SECURITY: the token of an enrolment was used twice: what the first got is revoked", "first_from", first.From, "first_at", first.At, "id", first.Helper)
	by := fmt.Sprintf("unbrick, because its enrolment was used twice, from %s and from %s", first.From, from)
	if err := s.Helpers().end(c.Context(), "helperend/"+first.Helper, by); err != nil {
		return err
	}
	return refuse(http.StatusForbidden, "this enrolment was used before, at %s from %s: somebody else may have read its token; what they got is revoked; find out who it was, and enrol again", at, first.From)
}

// makeHelper puts the helper on record, and takes those out of use that the machine was before.
func (s *Server) makeHelper(c *call, e enrolment, used enrolled) error {
	h := s.Helpers()
	err := s.create(c.Context(), "helper/"+used.Helper, helper{ID: used.Helper, Hash: hashToken(h.token(used.Helper)),
		Name: e.Name, IssuedBy: e.IssuedBy, Made: used.At, Until: e.Until})
	if err != nil {
		return err
	}
	_, n, err := h.lastEnrolment(c.Context(), e.Machine)
	for n--; n >= 0 && err == nil; n-- {
		var old enrolment
		var was enrolled
		if err = s.Sticks().load(c.Context(), recordKey("enrolment", e.Machine, n), &old); err != nil || !old.Made.Before(e.Made) {
			continue
		}
		switch err = s.Sticks().load(c.Context(), "enrolled/"+old.ID, &was); {
		case errors.Is(err, fs.ErrNotExist):
			err = nil
		case err == nil:
			err = h.end(c.Context(), "helperend/"+was.Helper, "unbrick, because the machine was enrolled again")
		}
	}
	return err
}

// enrolAgent sends the agent to who may enrol. It tells nobody of an agent that is not there
// before that: who may not enrol learns nothing.
func (s *Server) enrolAgent(c *call) (any, error) {
	e, err := s.goodEnrolment(c)
	if err == nil {
		err = s.enrolmentOver(c, e)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(s.cfg.Agent)
	if err != nil {
		return nil, refuse(http.StatusNotFound, "this server has no agent to send: its image is of an older release, or is none")
	}
	return f, nil
}

// helperGood answers a helper that asks whether its credential is good.
func (s *Server) helperGood(c *call) (any, error) {
	_, err := s.goodHelper(c)
	return nil, err
}

// meet notes once that a helper has called home.
func (s *Server) meet(c *call, h helper) error {
	if s.calls.hasMet(h.ID) {
		return nil
	}
	if err := s.create(c.Context(), "met/"+h.ID, struct{}{}); err != nil {
		return err
	}
	s.calls.noteMet(h.ID)
	return nil
}
