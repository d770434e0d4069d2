package rescue

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"time"
)

// A StickInfo is what is known of one stick. It holds no secret.
type StickInfo struct {
	ID       string    `json:"id"`
	By       string    `json:"by"`
	IssuedBy string    `json:"issued_by,omitempty"`
	Sites    []string  `json:"sites"`
	Made     time.Time `json:"made"`
	Until    time.Time `json:"until"`
	MaxHosts int       `json:"max_hosts"`
	PerHour  int       `json:"per_hour"`

	Hosts     []string  `json:"hosts"` // where it was let in, in order, each once
	Refused   int       `json:"refused"`
	RevokedBy string    `json:"revoked_by,omitempty"`
	Revoked   time.Time `json:"revoked,omitzero"`
}

// List returns every stick on record, oldest first.
func (s *Sticks) List(ctx context.Context) (all []StickInfo, err error) {
	for {
		var id string
		err := s.load(ctx, recordKey("sticks", len(all)), &id)
		if errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		info, err := s.Look(ctx, id)
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
}

// Look returns what is known of one stick, or ErrNoStick.
func (s *Sticks) Look(ctx context.Context, id string) (StickInfo, error) {
	st, err := s.find(ctx, id)
	if err != nil {
		return StickInfo{}, err
	}
	info := StickInfo{ID: st.ID, By: st.By, IssuedBy: st.IssuedBy, Sites: st.Sites, Made: st.Made, Until: st.Until,
		MaxHosts: st.Hosts, PerHour: st.PerHour, Hosts: []string{}}
	var rev revocation
	switch err := s.load(ctx, "revoked/"+id, &rev); {
	case err == nil:
		info.RevokedBy, info.Revoked = rev.By, rev.At
	case !errors.Is(err, fs.ErrNotExist):
		return info, err
	}
	events, err := s.events(ctx, id)
	for _, e := range events {
		switch {
		case e.Refused != "":
			info.Refused++
		case !slices.Contains(info.Hosts, e.Host):
			info.Hosts = append(info.Hosts, e.Host)
		}
	}
	return info, err
}

// enlist puts a new stick behind the others.
func (s *Sticks) enlist(ctx context.Context, id string) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		err := s.records.Create(ctx, recordKey("sticks", n), b)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// events returns what a stick did, in order.
func (s *Sticks) events(ctx context.Context, id string) (all []stickEvent, err error) {
	for {
		var e stickEvent
		err := s.load(ctx, recordKey("stickevent", id, len(all)), &e)
		if errors.Is(err, fs.ErrNotExist) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
}

// addEvent writes down the n-th thing that a stick did. The error wraps fs.ErrExist if there
// is one.
func (s *Sticks) addEvent(ctx context.Context, id string, n int, e stickEvent) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.records.Create(ctx, recordKey("stickevent", id, n), b)
}
