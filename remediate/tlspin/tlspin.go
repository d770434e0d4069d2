// Package tlspin decides which certificates to trust where nobody signs them: management
// controllers, which make their own as a rule.
//
// The default is to pin: the key that a controller shows at first sight is recorded, and a
// connection to it that shows another key is refused before a credential is sent.
package tlspin

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// A Mode is what makes a certificate trusted.
type Mode string

// The modes.
const (
	Pin      Mode = "pin"      // the key recorded at first sight; the name and the dates do not matter
	Verify   Mode = "verify"   // a certificate authority, and the name
	Insecure Mode = "insecure" // nothing
)

// ParseMode returns the mode of that name. The empty name is Pin.
func ParseMode(name string) (Mode, error) {
	switch m := Mode(name); m {
	case "":
		return Pin, nil
	case Pin, Verify, Insecure:
		return m, nil
	}
	return "", fmt.Errorf("no TLS mode %q; it is pin, verify or insecure", name)
}

// Records keep what was seen, for ever.
type Records interface {
	// Create stores value under key, durably before it returns. It wraps fs.ErrExist if the
	// key is taken, by this process or another.
	Create(ctx context.Context, key string, value []byte) error
	// Load returns what was stored. It wraps fs.ErrNotExist if nothing was.
	Load(ctx context.Context, key string) ([]byte, error)
}

// A Policy makes TLS configurations. The zero value pins, and needs Records.
type Policy struct {
	Mode    Mode
	Roots   *x509.CertPool // for Verify; nil means those of the system
	Records Records        // for Pin
	Forget  string         // what a person does to accept a new key, for the error: a command
}

// LoadRoots reads certificate authorities in PEM form.
func LoadRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in PEM form", file)
	}
	return pool, nil
}

// A ChangedError says that a controller shows another key than it did.
type ChangedError struct {
	Addr     string
	Old, New string    // fingerprints
	Since    time.Time // when the old one was first seen
	Forget   string
}

// Error gives both fingerprints, and says what to do.
func (e *ChangedError) Error() string {
	do := e.Forget
	if do == "" {
		do = "remove its record (" + Key(e.Addr) + ") from the state"
	}
	return fmt.Sprintf("the key of %s has changed: it was %s since %s and is now %s; "+
		"somebody may be in between. If the controller was replaced or reset, %s",
		e.Addr, e.Old, e.Since.Format(time.DateOnly), e.New, do)
}

// A pin is what is recorded, as JSON.
type pin struct {
	Key  string    `json:"key"` // fingerprint
	Seen time.Time `json:"seen"`
}

// Key is under which a controller at addr (host:port) is recorded.
func Key(addr string) string { return "tlspin/" + strings.ToLower(addr) }

// Fingerprint names the public key of a certificate: sha256: and the SHA-256 of its
// SubjectPublicKeyInfo in hex. A certificate that is renewed with the same key keeps it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Config returns the configuration for one connection to addr (host:port). ctx is for the
// records, and must live as long as the configuration is used.
func (p Policy) Config(ctx context.Context, addr string) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, CipherSuites: suites(),
		// Controllers are slow and old: the curves that all of them have, a greeting that fits
		// into one packet, and a cheap handshake for each connection but the first.
		CurvePreferences:   []tls.CurveID{tls.CurveP256, tls.CurveP384, tls.CurveP521},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	switch p.Mode {
	case Pin, "":
		if p.Records == nil {
			return nil, errors.New("cannot pin certificates: there is nowhere to record them")
		}
		c.InsecureSkipVerify = true // VerifyConnection decides
		c.VerifyConnection = func(s tls.ConnectionState) error {
			return p.check(ctx, addr, Fingerprint(s.PeerCertificates[0]))
		}
	case Verify:
		c.RootCAs = p.Roots
	case Insecure:
		c.InsecureSkipVerify = true
	default:
		return nil, fmt.Errorf("no TLS mode %q", p.Mode)
	}
	return c, nil
}

// suites adds to Go's own those that old controllers have alone: RSA without forward secrecy.
func suites() []uint16 {
	ids := []uint16{
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	}
	for _, s := range tls.CipherSuites() {
		ids = append(ids, s.ID)
	}
	return ids
}

// check compares what was seen with what is recorded, and records it if nothing is. When
// two see a controller for the first time at once, the first record counts for both.
func (p Policy) check(ctx context.Context, addr, seen string) error {
	key := Key(addr)
	raw, err := p.Records.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		value, err := json.Marshal(pin{seen, time.Now().UTC()})
		if err != nil {
			return err
		}
		err = p.Records.Create(ctx, key, value)
		if !errors.Is(err, fs.ErrExist) {
			return wrap(err)
		}
		raw, err = p.Records.Load(ctx, key)
		if err != nil {
			return wrap(err)
		}
	} else if err != nil {
		return wrap(err)
	}
	var old pin
	if err := json.Unmarshal(raw, &old); err != nil || old.Key == "" {
		return fmt.Errorf("cannot read the record of the key of %s", addr)
	}
	if old.Key != seen {
		return &ChangedError{Addr: addr, Old: old.Key, New: seen, Since: old.Seen, Forget: p.Forget}
	}
	return nil
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot record the key of a controller: %w", err)
}
