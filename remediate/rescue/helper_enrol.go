package rescue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"unbrick/remediate/rescue/wire"
)

// sha256Text is a SHA-256 in hex.
var sha256Text = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Enrolments are for helpers to which a platform carries no more than a command, and keeps what
// it carried. All is in the records:
//
//	enrolment/MACHINE N  the N-th enrolment of a machine; the last one counts
//	enrol/ID             the same by its id
//	enrolled/ID          who used it, and the helper that it became
//	enrolend/ID          it is void
//	met/ID               the helper of that id has called home

const (
	// enrolLife is how long a token of an enrolment can be used.
	enrolLife = 10 * time.Minute
	// enrolDoubt is how long after it was made a second use may be that of the true helper: what
	// brings the command gives up within ten minutes, and the command itself too.
	enrolDoubt   = 30 * time.Minute
	maxEnrolment = 1000 // of one machine
	secretSize   = 32   // least bytes of wire.Enrol's
)

// An EnrolOrder says which machine is to become a helper.
type EnrolOrder struct {
	HelperOrder
	Machine string // what the platform knows it by, and nothing else: "ec2 eu-west-1/i-…"
	Agent   string // SHA-256 of the agent that it is to run, in hex
}

// An Enrolment is what has to reach the machine: see [Enrolment.Script]. The token is good once,
// for ten minutes, and for this machine's helper alone. Another order for the same machine makes
// it void.
type Enrolment struct {
	ID      string
	URL     string
	Pin     string // SHA-256 of the server's public key, in hex
	Token   string
	Agent   string // SHA-256 of the agent, in hex
	Expires time.Time
}

// An enrolment is the record of one. It is never changed.
type enrolment struct {
	ID       string    `json:"id"`
	Hash     string    `json:"hash"` // of its token
	Machine  string    `json:"machine"`
	Name     string    `json:"name"` // of the helper
	URL      string    `json:"url"`
	Agent    string    `json:"agent"`
	IssuedBy string    `json:"issued_by,omitempty"`
	Made     time.Time `json:"made"`
	Expires  time.Time `json:"expires"`
	Until    time.Time `json:"until"` // of the helper
}

// An enrolled is the record of the use of one.
type enrolled struct {
	Helper string    `json:"helper"` // id
	Secret string    `json:"secret"` // hash of wire.Enrol's
	From   string    `json:"from"`
	Agent  string    `json:"agent"`
	At     time.Time `json:"at"`
}

// Enrol puts an enrolment on record. Those of the same machine before it, if they were not used,
// are void from now on.
func (h *Helpers) Enrol(ctx context.Context, o EnrolOrder) (e Enrolment, err error) {
	now := h.sticks.now()
	if err := o.check(now); err != nil {
		return e, err
	}
	if o.Machine == "" || !sha256Text.MatchString(o.Agent) {
		return e, errors.New("an enrolment needs the machine that it is for, and the SHA-256 of the agent")
	}
	random := make([]byte, tokenSize+4)
	rand.Read(random)
	r := enrolment{ID: hex.EncodeToString(random[:4]), Machine: o.Machine, Name: o.Name, URL: o.URL, Agent: o.Agent,
		IssuedBy: o.IssuedBy, Made: now.UTC(), Expires: now.Add(enrolLife).UTC(), Until: o.Until.UTC()}
	token := hex.EncodeToString(random[4:])
	r.Hash = hashToken(token)
	b, err := json.Marshal(r)
	if err != nil {
		return e, err
	}
	if err := h.sticks.records.Create(ctx, "enrol/"+r.ID, b); err != nil {
		return e, fmt.Errorf("cannot record an enrolment: %w", err)
	}
	for {
		_, n, err := h.lastEnrolment(ctx, o.Machine)
		if err != nil {
			return e, err
		}
		err = h.sticks.records.Create(ctx, recordKey("enrolment", o.Machine, n), b)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		return Enrolment{ID: r.ID, URL: o.URL, Pin: h.sticks.keys.pin, Token: token, Agent: o.Agent, Expires: r.Expires}, err
	}
}

// lastEnrolment returns the last enrolment of a machine, and how many there were.
func (h *Helpers) lastEnrolment(ctx context.Context, machine string) (last enrolment, n int, err error) {
	for ; n < maxEnrolment; n++ {
		var e enrolment
		err := h.sticks.load(ctx, recordKey("enrolment", machine, n), &e)
		if errors.Is(err, fs.ErrNotExist) {
			return last, n, nil
		}
		if err != nil {
			return last, n, err
		}
		last = e
	}
	return last, n, fmt.Errorf("%s was enrolled %d times: something else is wrong with it", machine, n)
}

// Void makes an enrolment void that was not used. Twice is the same as once.
func (h *Helpers) Void(ctx context.Context, id, by string) error {
	return h.end(ctx, "enrolend/"+id, by)
}

// end records that something is good no more.
func (h *Helpers) end(ctx context.Context, key, by string) error {
	b, err := json.Marshal(revocation{By: by, At: h.sticks.now().UTC()})
	if err != nil {
		return err
	}
	if err := h.sticks.records.Create(ctx, key, b); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// A Standing is what a machine is that was enrolled.
type Standing struct {
	Helper string // id; empty: no enrolment of this machine was used, or what it got was revoked
	Until  time.Time
	From   string // where it enrolled from
	Met    bool   // the helper has called home with its credential
}

// Standing returns what the last enrolment that was used made of a machine.
func (h *Helpers) Standing(ctx context.Context, machine string) (s Standing, err error) {
	for _, n, err := h.lastEnrolment(ctx, machine); n > 0 || err != nil; n-- {
		if err != nil {
			return s, err
		}
		var e enrolment
		var used enrolled
		err := h.sticks.load(ctx, recordKey("enrolment", machine, n-1), &e)
		if err == nil {
			err = h.sticks.load(ctx, "enrolled/"+e.ID, &used)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return s, err
		}
		var rev revocation
		if err := h.sticks.load(ctx, "helperend/"+used.Helper, &rev); !errors.Is(err, fs.ErrNotExist) {
			return s, err // revoked, or not to be known
		}
		met := h.sticks.load(ctx, "met/"+used.Helper, new(struct{}))
		if met != nil && !errors.Is(met, fs.ErrNotExist) {
			return s, met
		}
		return Standing{Helper: used.Helper, Until: e.Until, From: used.From, Met: met == nil}, nil
	}
	return s, nil
}

// config is what the helper has to hold that an enrolment became.
func (h *Helpers) config(e enrolment, used enrolled) wire.Config {
	return wire.Config{URL: e.URL, Pin: h.sticks.keys.pin, Token: h.token(used.Helper),
		Helper: &wire.Helper{ID: used.Helper, Name: e.Name, Until: e.Until}}
}
