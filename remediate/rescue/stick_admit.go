package rescue

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"

	"unbrick/remediate/rescue/wire"
)

const (
	maxVisits  = 20 // of sticks at one target: who boots a host more often has another problem
	stickRaces = 20 // tries to write down what a stick did, while others do the same
	wakeLimit  = 10 * time.Second
)

// A stickEvent is the record of one time that a stick asked for a host: its N-th, under
// stickevent/ID N.
type stickEvent struct {
	At       time.Time     `json:"at"`
	From     string        `json:"from"`
	Identity wire.Identity `json:"identity"`
	Host     string        `json:"host,omitempty"` // as which it was let in
	Target   string        `json:"target,omitempty"`
	Refused  string        `json:"refused,omitempty"` // or why not
}

// stickAPI answers an agent on a stick that asks whose host it is on.
func (s *Server) stickAPI() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{Request: r, w: w, log: s.cfg.Log.With("from", remoteIP(r), "asks", r.Pattern)}
		answer, err := s.welcome(c)
		s.answer(c, answer, err)
	})
}

// welcome lets the agent in as that of the one host that it is on, if that host waits for a
// person and the stick is good. The same agent may ask again: answers get lost.
func (s *Server) welcome(c *call) (any, error) {
	st, err := s.goodStick(c)
	if err != nil {
		return nil, err
	}
	c.log = c.log.With("stick", st.ID, "by", st.By)
	var h wire.Hello
	if err := c.decode(&h, maxHello); err != nil {
		return nil, err
	}
	if h.Version != wire.Version {
		return nil, refuse(http.StatusForbidden, "the agent on the stick (%.40q) speaks version %d of the protocol, this server version %d: make the stick with this release", h.Agent, h.Version, wire.Version)
	}
	if _, err := publicKey(h.PublicKey); err != nil {
		return nil, refuse(http.StatusBadRequest, "the public key is not one")
	}
	for range stickRaces {
		a, err := s.admit(c, st, h)
		if !errors.Is(err, fs.ErrExist) {
			return a, err
		}
	}
	return nil, fmt.Errorf("stick %s is used in too many places at once", st.ID)
}

// goodStick returns the stick whose token the request bears, if it is in use.
func (s *Server) goodStick(c *call) (stick, error) {
	token, ok := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
	st, err := s.Sticks().find(c.Context(), c.PathValue("id"))
	if err != nil && !errors.Is(err, ErrNoStick) {
		return st, err
	}
	if err != nil || !ok || subtle.ConstantTimeCompare([]byte(hashToken(token)), []byte(st.Hash)) != 1 {
		return st, refuse(http.StatusUnauthorized, "this server did not make this stick, or its records are others now: make a new one")
	}
	var rev revocation
	switch err := s.Sticks().load(c.Context(), "revoked/"+st.ID, &rev); {
	case err == nil:
		return st, refuse(http.StatusForbidden, "stick %s was taken out of use at %s by %s", st.ID, rev.At.Format(time.RFC3339), rev.By)
	case !errors.Is(err, fs.ErrNotExist):
		return st, err
	}
	if s.cfg.Now().After(st.Until) {
		return st, refuse(http.StatusForbidden, "stick %s was good until %s: make a new one", st.ID, st.Until.Format(time.RFC3339))
	}
	return st, nil
}

// admit decides, writes down what it decided, and only then lets the agent in. The error wraps
// fs.ErrExist if the stick did something else meanwhile: then it has to decide anew.
func (s *Server) admit(c *call, st stick, h wire.Hello) (any, error) {
	events, err := s.Sticks().events(c.Context(), st.ID)
	if err != nil {
		return nil, err
	}
	e := stickEvent{At: s.cfg.Now().UTC(), From: remoteIP(c.Request), Identity: h.Identity}
	if err := tooManyRefused(st, events, e.At); err != nil {
		return nil, err // and not written down: nobody fills our records
	}
	w, why, err := s.hostOf(c.Context(), st, h.Identity)
	if err != nil {
		return nil, err
	}
	if why == "" {
		why = tooMany(st, events, w.Host.Name, e.At)
	}
	if why != "" {
		e.Refused = why
		if err := s.Sticks().addEvent(c.Context(), st.ID, len(events), e); err != nil {
			return nil, err
		}
		return nil, refuse(http.StatusForbidden, "%s", why)
	}
	c.log = c.log.With("run", w.Run, "host", w.Host.Name)
	visits, err := s.visits(c.Context(), w.Target)
	if err != nil {
		return nil, err
	}
	for _, v := range visits {
		if v.Stick == st.ID && slices.Equal(v.PublicKey, h.PublicKey) {
			return s.letIn(c, w, v)
		}
	}
	if len(visits) >= maxVisits {
		return nil, refuse(http.StatusForbidden, "%s was booted from a stick %d times: something else is wrong with it", w.Host.Name, len(visits))
	}
	e.Host, e.Target = w.Host.Name, w.Target
	if err := s.Sticks().addEvent(c.Context(), st.ID, len(events), e); err != nil {
		return nil, err
	}
	return s.newVisit(c, w, visit{Stick: st.ID, By: st.By, PublicKey: h.PublicKey, At: e.At, number: len(visits) + 1})
}

func (s *Server) newVisit(c *call, w waiting, v visit) (any, error) {
	v.Hash = hashToken(s.visitToken(w, v))
	b, err := json.Marshal(v)
	if err == nil {
		err = s.cfg.Records.Create(c.Context(), recordKey("visit", w.Target, v.number), b)
	}
	if err != nil {
		return nil, err
	}
	c.log.Info("stick let in", "visit", v.number)
	return s.letIn(c, w, v)
}

// hostOf returns the one host that waits and is at a site of the stick, or why there is none.
func (s *Server) hostOf(ctx context.Context, st stick, id wire.Identity) (w waiting, why string, err error) {
	hosts, err := s.awaited(ctx, id)
	if err != nil {
		return w, "", err
	}
	said := fmt.Sprintf("UUID %.64q, serial number %.64q, %d network cards", id.UUID, id.Serial, len(id.MAC))
	switch {
	case len(hosts) == 0:
		return w, "no host that waits for a person is this one (" + said + "): either it is not its turn yet, or the inventory knows it by something else", nil
	case len(hosts) > 1:
		var all []string
		for _, h := range hosts {
			all = append(all, h.Host.Name)
		}
		slices.Sort(all)
		return w, fmt.Sprintf("%d hosts that wait for a person could be this one (%s): %s; correct the inventory, or use the card", len(hosts), said, strings.Join(all, ", ")), nil
	}
	w = hosts[0]
	if !slices.ContainsFunc(st.Sites, func(site string) bool { return strings.EqualFold(site, w.Host.Site) }) {
		return w, fmt.Sprintf("this is %s of site %q, and the stick is for %s", w.Host.Name, w.Host.Site, strings.Join(st.Sites, ", ")), nil
	}
	return w, "", nil
}

// tooMany says why the stick may not serve one more host now, or nothing. A host that it
// served before is not one more.
func tooMany(st stick, events []stickEvent, host string, now time.Time) string {
	all, hour := map[string]bool{}, map[string]bool{}
	var first time.Time
	for _, e := range events {
		if e.Host == "" {
			continue
		}
		all[e.Host] = true
		if now.Sub(e.At) < time.Hour {
			hour[e.Host] = true
			if first.IsZero() {
				first = e.At
			}
		}
	}
	switch {
	case !all[host] && len(all) >= st.Hosts:
		return fmt.Sprintf("the stick has served %d hosts, and is good for no more: make another", len(all))
	case !hour[host] && len(hour) >= st.PerHour:
		return fmt.Sprintf("the stick has served %d hosts within an hour, and is good for no more: go on at %s", len(hour), first.Add(time.Hour).Format("15:04 MST"))
	}
	return ""
}

// tooManyRefused ends the questions of somebody who tries names.
func tooManyRefused(st stick, events []stickEvent, now time.Time) error {
	n := 0
	for _, e := range events {
		if e.Refused != "" && now.Sub(e.At) < time.Hour {
			n++
		}
	}
	if n < st.PerHour {
		return nil
	}
	return refuse(http.StatusForbidden, "the stick was refused %d times within an hour: it has to rest", n)
}

// visitToken returns the token of a visit: that of a host, good for this one boot.
func (s *Server) visitToken(w waiting, v visit) string {
	return s.keys.newToken(fmt.Sprintf("unbrick visit 1\x00%s\x00%d", w.Target, v.number))
}

// letIn gives the visit's token to its agent, and has the host woken.
func (s *Server) letIn(c *call, w waiting, v visit) (any, error) {
	token := s.visitToken(w, v)
	if hashToken(token) != v.Hash {
		return nil, refuse(http.StatusForbidden, "another rescue server let this agent in: restart the host")
	}
	b, err := json.Marshal(job{Target: w.Target, Run: w.Run, Host: w.Host.Name, Created: v.At, Stick: v.Stick, By: v.By})
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Records.Create(c.Context(), "job/"+v.Hash, b); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	s.arrived(c.Context(), job{Run: w.Run, Host: w.Host.Name, Stick: v.Stick})
	return wire.Admission{Host: w.Host.Name, Token: token}, nil
}

// arrived has a host woken where somebody with a stick is at work, or was.
func (s *Server) arrived(ctx context.Context, j job) {
	if s.cfg.Arrived == nil || j.Stick == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), wakeLimit)
	defer cancel()
	s.cfg.Arrived(ctx, j.Run, j.Host, j.Stick)
}
