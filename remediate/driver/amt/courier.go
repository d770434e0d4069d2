package amt

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/xml"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxBody is the most that is read of an answer. The largest real ones are a tenth of it.
const maxBody = 1 << 20

// A courier carries the requests of one visit. The library has no contexts and never closes
// the body of a first challenge: here every request ends with the visit's context or its own
// limit, and its answer is read to the end before the library sees it.
type courier struct {
	ctx   context.Context
	limit time.Duration
	next  *http.Transport
	last  answer
}

// An answer is what came back for the last request.
type answer struct {
	err     error // nothing came back
	status  int
	digest  bool // of a 401: digest authentication is asked for
	subcode string
	reason  string // of a fault, or the beginning of something else
}

func newCourier(ctx context.Context, addr string, conf *tls.Config, limit time.Duration) *courier {
	dialer := &net.Dialer{Timeout: min(limit, 15*time.Second)}
	return &courier{ctx: ctx, limit: limit, next: &http.Transport{
		// The library knows one port alone. No proxy: credentials go to addr and nowhere else.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, addr)
		},
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: min(limit, 15*time.Second),
		DisableKeepAlives:   true, // AMT serves few connections
		DisableCompression:  true,
	}}
}

// RoundTrip implements http.RoundTripper.
func (c *courier) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.limit)
	defer cancel()
	resp, err := c.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		c.last = answer{err: err}
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	resp.Body.Close()
	if err != nil {
		c.last = answer{err: err}
		return nil, err
	}
	c.last = read(resp, raw)
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	return resp, nil
}

// read takes out of an answer what tells refusals apart.
func read(resp *http.Response, raw []byte) answer {
	a := answer{status: resp.StatusCode}
	a.digest = strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Digest ")
	if resp.StatusCode < 400 {
		return a
	}
	var env struct {
		Fault struct {
			Subcode string `xml:"Code>Subcode>Value"`
			Reason  string `xml:"Reason>Text"`
		} `xml:"Body>Fault"`
	}
	if xml.Unmarshal(raw, &env) == nil {
		a.subcode, a.reason = env.Fault.Subcode, env.Fault.Reason
	}
	if _, local, ok := strings.Cut(a.subcode, ":"); ok { // the prefix is the sender's choice
		a.subcode = local
	}
	a.reason = strings.ToValidUTF8(strings.TrimSpace(a.reason), "?")
	if len(a.reason) > 300 {
		a.reason = strings.ToValidUTF8(a.reason[:300], "") + "…"
	}
	return a
}
