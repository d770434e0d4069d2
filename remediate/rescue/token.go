package rescue

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"unbrick/remediate"
)

// tokenText writes tokens: lower case, no padding, nothing that a BMC would escape.
var tokenText = base32.StdEncoding.WithPadding(base32.NoPadding)

// tokenSize is the size of a token in bytes: 160 bits, 32 characters. Some BMCs take only
// short URLs.
const tokenSize = 20

// token returns the target's token. It is made, not stored.
func (s *Server) token(t remediate.Target) string { return s.tokenOf(t.ID()) }

// tokenOf is token for a target by its id.
func (s *Server) tokenOf(id string) string { return s.keys.newToken("unbrick token 1\x00" + id) }

// hashToken names a token in records, maps and nowhere else.
func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// A job is the record of a token: whose it is, and since when.
type job struct {
	Target  string    `json:"target"` // Target.ID
	Run     string    `json:"run"`
	Host    string    `json:"host"`
	Created time.Time `json:"created"`

	// Where the agent came on a stick: its id, and who carries it.
	Stick string `json:"stick,omitempty"`
	By    string `json:"by,omitempty"`
}

// purpose is what the ledger says that a key of this host is for.
func (j job) purpose() string {
	if j.Stick == "" {
		return "repair"
	}
	return fmt.Sprintf("repair by stick %s, carried by %s", j.Stick, j.By)
}

// errNoJob means that no such token was given out.
var errNoJob = errors.New("this token was not given out by this server")

// open records the target's job, if that was not done, and returns it.
func (s *Server) open(ctx context.Context, t remediate.Target) (hash string, j job, err error) {
	hash = hashToken(s.token(t))
	if j, err = s.job(ctx, hash); !errors.Is(err, errNoJob) {
		return hash, j, err
	}
	j = job{Target: t.ID(), Run: t.Run, Host: t.Host.Name, Created: s.cfg.Now().UTC()}
	b, err := json.Marshal(j)
	if err != nil {
		return hash, j, err
	}
	err = s.cfg.Records.Create(ctx, "job/"+hash, b)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return hash, j, fmt.Errorf("cannot record the image of %s: %w", t.Host.Name, err)
	}
	j, err = s.job(ctx, hash)
	return hash, j, err
}

// job returns the job of a token's hash, or errNoJob. Jobs do not change, so those once seen
// are kept at hand: a BMC makes thousands of range requests.
func (s *Server) job(ctx context.Context, hash string) (job, error) {
	s.mu.Lock()
	j, ok := s.jobs[hash]
	s.mu.Unlock()
	if ok {
		return j, nil
	}
	b, err := s.cfg.Records.Load(ctx, "job/"+hash)
	if errors.Is(err, fs.ErrNotExist) {
		return j, errNoJob
	}
	if err != nil {
		return j, fmt.Errorf("cannot read the record of a job: %w", err)
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return j, fmt.Errorf("the record of a job is damaged: %v", err)
	}
	s.mu.Lock()
	s.jobs[hash] = j
	s.mu.Unlock()
	return j, nil
}

// tooOld says that a token may not be used any more to get a job or a key, or is nil.
func (s *Server) tooOld(j job) error {
	if age := s.cfg.Now().Sub(j.Created); age > s.cfg.TokenTTL {
		return fmt.Errorf("the token of %s was made %s ago, and tokens are good for %s: a new attempt gets a new one",
			j.Host, age.Round(time.Second), s.cfg.TokenTTL)
	}
	return nil
}
