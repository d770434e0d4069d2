package agent

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"unbrick/bitlocker"
	"unbrick/remediate/rescue/wire"
)

const (
	tryTime   = time.Minute // of one try of one message; a quarantined file may take tryFile
	tryFile   = 5 * time.Minute
	maxAnswer = 1 << 20
)

// A client talks to the one server whose key has the pin.
type client struct {
	http    *http.Client
	base    string
	token   string
	session string
	key     hpke.PrivateKey
	o       Options
}

func newClient(cfg wire.Config, o Options) (*client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("the configuration does not say where the rescue server is")
	}
	pin, err := hex.DecodeString(cfg.Pin)
	if err != nil || len(pin) != sha256.Size {
		return nil, errors.New("the configuration does not say which key the rescue server has")
	}
	key, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	if err != nil {
		return nil, err
	}
	return &client{
		http: &http.Client{
			Transport: pinned(pin),
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse // the server sends nobody elsewhere
			},
		},
		base: strings.TrimSuffix(cfg.URL, "/"), token: cfg.Token, key: key, o: o,
		session: wire.Session(key.PublicKey().Bytes()),
	}, nil
}

// pinned trusts the one key, whatever name and dates the certificate has: a host that was
// brought up without its system has neither names nor a clock. No proxy: there is none that
// one could know of.
func pinned(pin []byte) *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout: 15 * time.Second,
		IdleConnTimeout:     30 * time.Second,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS13,
			InsecureSkipVerify: true, // VerifyConnection stands in its place
			VerifyConnection: func(cs tls.ConnectionState) error {
				sum := sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo)
				if subtle.ConstantTimeCompare(sum[:], pin) != 1 {
					return errors.New("this is not the rescue server that made the image: it has another key")
				}
				return nil
			},
		},
	}
}

// A statusError is an answer of the server that is not a success.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("the server says %d: %s", e.code, e.text) }

// final says that asking again would not help.
func final(err error) bool {
	var se *statusError
	return errors.As(err, &se) && se.code < 500 && se.code != http.StatusConflict
}

// send sends a message until it is answered, finally refused, or ctx ends; then the error is
// the one that stood in the way.
func (c *client) send(ctx context.Context, method, path string, body []byte, header http.Header, into any) error {
	pause, limit := c.o.Pause, maxPause*c.o.Pause
	var last error
	for try := 1; ; try++ {
		err := c.once(ctx, method, path, body, header, into)
		if err == nil || final(err) {
			return err
		}
		if last != nil && ctx.Err() != nil {
			err = last // that time is up says nothing
		}
		last = err
		c.o.Log.Debug("try failed", "path", path, "try", try, "err", err)
		wait := time.NewTimer(pause/2 + rand.N(pause)) // not all hosts at once
		select {
		case <-ctx.Done():
			wait.Stop()
			return fmt.Errorf("no success in %d tries: %w", try, err)
		case <-wait.C:
		}
		var se *statusError
		if !errors.As(err, &se) || se.code != http.StatusConflict { // "not now" will soon be over
			pause = min(2*pause, limit)
		}
	}
}

func (c *client) once(ctx context.Context, method, path string, body []byte, header http.Header, into any) error {
	limit := tryTime
	if method == http.MethodPut {
		limit = tryFile
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set(wire.SessionHeader, c.session)
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode/100 != 2 {
		text := strings.Join(strings.Fields(string(answer)), " ")
		return &statusError{resp.StatusCode, text[:min(len(text), 500)]}
	}
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return errors.New("the server's answer is not what this agent expects")
	}
	return nil
}

func (c *client) post(ctx context.Context, path string, message, into any) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	return c.send(ctx, http.MethodPost, path, b, nil, into)
}

// recoveryKey asks for the key of one protector and opens its seal. An empty denial and no
// error mean that there is a key.
func (c *client) recoveryKey(ctx context.Context, protector string) (key bitlocker.Key, denied string, err error) {
	digits, denied, err := c.released(ctx, wire.KeyRequest{Protectors: []string{protector}}, wire.SealInfo(protector))
	if err == nil && denied == "" {
		key, err = bitlocker.ParseKey(string(digits))
	}
	return key, denied, err
}

// stretchedKey is recoveryKey for what the key becomes with the salt of its protector.
func (c *client) stretchedKey(ctx context.Context, protector string, salt []byte) (key bitlocker.Stretched, denied string, err error) {
	b, denied, err := c.released(ctx, wire.KeyRequest{Protectors: []string{protector}, Salts: map[string][]byte{protector: salt}},
		wire.StretchedInfo(protector))
	if err == nil && denied == "" {
		key, err = bitlocker.NewStretched(b)
	}
	return key, denied, err
}

// released sends a request for one key and opens the seal of the answer.
func (c *client) released(ctx context.Context, req wire.KeyRequest, info []byte) (plain []byte, denied string, err error) {
	var ans wire.KeyAnswer
	if err := c.post(ctx, "/v1/keys", req, &ans); err != nil {
		return nil, "", err
	}
	protector := req.Protectors[0]
	sealed, ok := ans.Sealed[protector]
	if !ok {
		if denied = ans.Denied[protector]; denied == "" {
			denied = "the server did not say why"
		}
		return nil, denied, nil
	}
	if plain, err = hpke.Open(c.key, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed); err != nil {
		return nil, "", errors.New("the key that the server sent is not sealed to this agent")
	}
	return plain, "", nil
}
