package rescue

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"regexp"
	"strings"
	"time"
	"unicode"

	"unbrick/playbooks"
	"unbrick/remediate/rescue/wire"
)

// Sticks makes sticks, takes them out of use and reads what they bring back. It needs no
// server: only the directory of one, whose key the sticks will know it by, and its records.
//
// A stick's token is made from its id and the key that all tokens are made from; the records
// have its SHA-256 alone. It is good for one thing: to be let in as the agent of a host that
// waits for a person, at the stick's sites, in its time, and for so many hosts.
type Sticks struct {
	keys    keys
	records Records
	now     func() time.Time
}

// OpenSticks reads or makes the keys in dir, as [Start] does.
func OpenSticks(dir string, records Records) (*Sticks, error) {
	k, err := loadKeys(dir)
	if err != nil {
		return nil, err
	}
	return &Sticks{keys: k, records: records, now: time.Now}, nil
}

// Sticks are those of this server.
func (s *Server) Sticks() *Sticks { return &Sticks{s.keys, s.cfg.Records, s.cfg.Now} }

// A StickOrder says which stick to make.
type StickOrder struct {
	URL      string    // of the rescue server, as hosts reach it
	By       string    // the person who will carry it
	IssuedBy string    // who has it made
	Sites    []string  // where it is good; at least one
	Until    time.Time // at most maxStickLife from now
	Hosts    int       // for how many hosts; 100 if zero
	PerHour  int       // and how many in an hour; 20 if zero

	Offline  bool                // never ask a server
	Patience time.Duration       // how long to look for it; 3m if zero
	Playbook *playbooks.Playbook // for a host that no server reaches
	Allow    wire.Allow          // likewise
}

const (
	maxStickLife    = 31 * 24 * time.Hour
	defaultHosts    = 100
	defaultPerHour  = 20
	defaultLookAway = 3 * time.Minute
)

// A stick is the record of one. It is never changed: what becomes of it stands in others.
type stick struct {
	ID       string    `json:"id"`
	Hash     string    `json:"hash"` // of its token
	By       string    `json:"by"`
	IssuedBy string    `json:"issued_by,omitempty"`
	Sites    []string  `json:"sites"`
	Made     time.Time `json:"made"`
	Until    time.Time `json:"until"`
	Hosts    int       `json:"hosts"`
	PerHour  int       `json:"per_hour"`
}

// Issue puts a new stick on record and returns what its image has to hold.
func (s *Sticks) Issue(ctx context.Context, o StickOrder) (wire.Config, error) {
	def(&o.Hosts, defaultHosts)
	def(&o.PerHour, defaultPerHour)
	def(&o.Patience, defaultLookAway)
	now := s.now()
	if err := o.check(now); err != nil {
		return wire.Config{}, err
	}
	random := make([]byte, 4)
	rand.Read(random)
	id := hex.EncodeToString(random)
	token := s.token(id)
	b, err := json.Marshal(stick{
		ID: id, Hash: hashToken(token), By: o.By, IssuedBy: o.IssuedBy, Sites: o.Sites,
		Made: now.UTC(), Until: o.Until.UTC(), Hosts: o.Hosts, PerHour: o.PerHour,
	})
	if err != nil {
		return wire.Config{}, err
	}
	if err := s.records.Create(ctx, "stick/"+id, b); err != nil {
		return wire.Config{}, fmt.Errorf("cannot record a stick: %w", err)
	}
	if err := s.enlist(ctx, id); err != nil {
		return wire.Config{}, fmt.Errorf("cannot record a stick: %w", err)
	}
	return wire.Config{URL: o.URL, Pin: s.keys.pin, Token: token, Stick: &wire.Stick{
		ID: id, By: o.By, Sites: o.Sites, Until: o.Until.UTC(),
		Offline: o.Offline, Patience: o.Patience, Playbook: o.Playbook.Source(), Allow: o.Allow,
	}}, nil
}

func (o StickOrder) check(now time.Time) error {
	for _, text := range append([]string{o.By, o.IssuedBy}, o.Sites...) {
		if len(text) > 100 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return errors.New("a name for the stick is too long, or has characters that no name has")
		}
	}
	switch {
	case strings.TrimSpace(o.By) == "":
		return errors.New("a stick needs the name of the person who carries it: it goes on the ledger with every key")
	case len(o.Sites) == 0:
		return errors.New("a stick needs the site that it is for")
	case !o.Until.After(now):
		return fmt.Errorf("a stick that is good until %s would be of no use now", o.Until.Format(time.RFC3339))
	case o.Until.Sub(now) > maxStickLife:
		return fmt.Errorf("a stick is good for %d days at most: make another then", maxStickLife/(24*time.Hour))
	case o.Hosts < 0 || o.PerHour < 0 || o.Patience < 0:
		return errors.New("a stick cannot be good for fewer than no hosts")
	case o.Playbook == nil || len(o.Playbook.Source()) == 0:
		return errors.New("a stick needs a playbook, for hosts that no server reaches")
	}
	return nil
}

// token returns the token of a stick. It is made, not stored.
func (s *Sticks) token(id string) string {
	return s.keys.newToken("unbrick stick 1\x00" + id)
}

// newToken makes the token that a text stands for.
func (k keys) newToken(text string) string {
	mac := hmac.New(sha256.New, k.token)
	mac.Write([]byte(text))
	return strings.ToLower(tokenText.EncodeToString(mac.Sum(nil)[:tokenSize]))
}

// A revocation is the record of a stick that was taken out of use.
type revocation struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

var stickID = regexp.MustCompile(`^[0-9a-f]{8}$`)

// ErrNoStick means that there is no stick of that id on record.
var ErrNoStick = errors.New("there is no such stick on record")

// Revoke takes a stick out of use, for good and at once: every server that has these records
// refuses it from now on. Twice is the same as once.
func (s *Sticks) Revoke(ctx context.Context, id, by string) error {
	id = strings.ToLower(strings.TrimSpace(id))
	if _, err := s.find(ctx, id); err != nil {
		return err
	}
	b, err := json.Marshal(revocation{By: by, At: s.now().UTC()})
	if err != nil {
		return err
	}
	if err := s.records.Create(ctx, "revoked/"+id, b); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot take stick %s out of use: %w", id, err)
	}
	return nil
}

// find returns the record of a stick, or ErrNoStick.
func (s *Sticks) find(ctx context.Context, id string) (st stick, err error) {
	if !stickID.MatchString(id) {
		return st, fmt.Errorf("%q: %w", id, ErrNoStick)
	}
	err = s.load(ctx, "stick/"+id, &st)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%q: %w", id, ErrNoStick)
	}
	return st, err
}

// load reads a record. The error wraps fs.ErrNotExist if it is not there.
func (s *Sticks) load(ctx context.Context, key string, into any) error {
	b, err := s.records.Load(ctx, key)
	if err != nil {
		return fmt.Errorf("cannot read a record of a stick: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("a record of a stick is damaged: %v", err)
	}
	return nil
}

// recordKey names a record by what it is of: the parts are hashed, because keys are hex.
func recordKey(kind string, parts ...any) string {
	var text strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&text, "%v\x00", p)
	}
	return kind + "/" + hashToken(text.String())
}

// URL returns how hosts reach a rescue server that is told to listen for agents at listen,
// where given does not say so.
func URL(given, listen string) (string, error) {
	def(&listen, defaultAgentListen)
	addr, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return "", fmt.Errorf("cannot tell by which address hosts reach the rescue server: %w", err)
	}
	return publicURL("https", given, addr)
}
