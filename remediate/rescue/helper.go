package rescue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode"

	"unbrick/remediate/rescue/wire"
)

// Helpers makes the credentials of helpers and takes them out of use. It needs no server: only
// the directory of one, whose key the helpers will know it by, and its records.
//
// A helper's token is made as a stick's is. It is good for one thing: to ask for the tokens of
// hosts whose disks the engine has hung on the helper of that name, while they are at repair,
// and until an agent said hello with them.
type Helpers struct{ sticks Sticks }

// OpenHelpers reads or makes the keys in dir, as [Start] does.
func OpenHelpers(dir string, records Records) (*Helpers, error) {
	s, err := OpenSticks(dir, records)
	if err != nil {
		return nil, err
	}
	return &Helpers{*s}, nil
}

// Pin is what helpers know the server by: see [Server.Pin].
func (h *Helpers) Pin() string { return h.sticks.keys.pin }

// Helpers are those of this server.
func (s *Server) Helpers() *Helpers { return &Helpers{*s.Sticks()} }

// A HelperOrder says which helper to make a credential for.
type HelperOrder struct {
	URL      string    // of the rescue server, as the helper reaches it
	Name     string    // as the platform calls it
	IssuedBy string    // who has it made
	Until    time.Time // at most 31 days from now
}

// A helper is the record of one. It is never changed.
type helper struct {
	ID       string    `json:"id"`
	Hash     string    `json:"hash"` // of its token
	Name     string    `json:"name"`
	IssuedBy string    `json:"issued_by,omitempty"`
	Made     time.Time `json:"made"`
	Until    time.Time `json:"until"`
}

// Issue puts a new credential on record and returns what the helper has to hold: in its image,
// or in a file. One name may have several.
func (h *Helpers) Issue(ctx context.Context, o HelperOrder) (wire.Config, error) {
	now := h.sticks.now()
	if err := o.check(now); err != nil {
		return wire.Config{}, err
	}
	random := make([]byte, 4)
	rand.Read(random)
	id := hex.EncodeToString(random)
	token := h.token(id)
	b, err := json.Marshal(helper{ID: id, Hash: hashToken(token), Name: o.Name, IssuedBy: o.IssuedBy, Made: now.UTC(), Until: o.Until.UTC()})
	if err != nil {
		return wire.Config{}, err
	}
	if err := h.sticks.records.Create(ctx, "helper/"+id, b); err != nil {
		return wire.Config{}, fmt.Errorf("cannot record a helper: %w", err)
	}
	return wire.Config{URL: o.URL, Pin: h.sticks.keys.pin, Token: token,
		Helper: &wire.Helper{ID: id, Name: o.Name, Until: o.Until.UTC()}}, nil
}

func (o HelperOrder) check(now time.Time) error {
	for _, text := range []string{o.Name, o.IssuedBy} {
		if len(text) > 200 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return errors.New("a name for the helper is too long, or has characters that no name has")
		}
	}
	switch {
	case strings.TrimSpace(o.Name) == "":
		return errors.New("a helper needs the name that its platform has for it: by that it is told which disks are on it")
	case !o.Until.After(now):
		return fmt.Errorf("a helper that is good until %s would be of no use now", o.Until.Format(time.RFC3339))
	case o.Until.Sub(now) > maxStickLife:
		return fmt.Errorf("a helper is good for %d days at most: make another then", maxStickLife/(24*time.Hour))
	}
	return nil
}

func (h *Helpers) token(id string) string {
	return h.sticks.keys.newToken("unbrick helper 1\x00" + id)
}

// ErrNoHelper means that there is no helper of that id on record.
var ErrNoHelper = errors.New("there is no such helper on record")

// Revoke takes a credential out of use, for good and at once. Twice is the same as once.
func (h *Helpers) Revoke(ctx context.Context, id, by string) error {
	id = strings.ToLower(strings.TrimSpace(id))
	if _, err := h.find(ctx, id); err != nil {
		return err
	}
	if err := h.end(ctx, "helperend/"+id, by); err != nil {
		return fmt.Errorf("cannot take helper %s out of use: %w", id, err)
	}
	return nil
}

// find returns the record of a helper, or ErrNoHelper.
func (h *Helpers) find(ctx context.Context, id string) (r helper, err error) {
	if !stickID.MatchString(id) {
		return r, fmt.Errorf("%q: %w", id, ErrNoHelper)
	}
	err = h.sticks.load(ctx, "helper/"+id, &r)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%q: %w", id, ErrNoHelper)
	}
	return r, err
}
