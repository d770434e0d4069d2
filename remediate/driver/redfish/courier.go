package redfish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// maxBody is the most that is read of an answer. The largest real ones are a tenth of it.
const maxBody = 4 << 20

// A courier carries the requests of one visit. BMCs drop connections, so it repeats what
// changes nothing (reads, and the end of a session), a few times and not for long. It never
// repeats anything else.
type courier struct {
	host string // requests to any other are refused: they carry credentials
	next *http.Transport
	poll time.Duration
	wait time.Duration // what the last refusal asked for in Retry-After; 0 if nothing
}

func newClient(host string, conf *tls.Config, t Times) (*http.Client, *courier) {
	c := &courier{host: host, poll: t.Poll, next: &http.Transport{
		// No proxy: BMCs are on networks of their own, and the environment's proxy is not.
		DialContext:         (&net.Dialer{Timeout: min(t.Request, 15*time.Second)}).DialContext,
		TLSClientConfig:     conf,
		TLSHandshakeTimeout: min(t.Request, 30*time.Second),
		DisableKeepAlives:   true, // BMCs choke on connections that stay
		DisableCompression:  true, // some mark compressed answers in their entity tags
	}}
	client := &http.Client{Transport: c, Timeout: t.Request, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || r.Method != via[0].Method {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return client, c
}

const tries = 3

// RoundTrip implements http.RoundTripper.
func (c *courier) RoundTrip(r *http.Request) (*http.Response, error) {
	if withPort(r) != c.host {
		return nil, fmt.Errorf("the service refers to another host, %s: not followed", r.URL.Host)
	}
	c.wait = 0
	r = r.Clone(r.Context())
	r.Header.Set("Accept-Encoding", "identity")
	send := c.next.RoundTrip
	if r.Method == http.MethodGet || r.Method == http.MethodDelete {
		send = c.repeat
	}
	resp, err := send(r)
	if resp != nil {
		c.note(resp)
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	return resp, err
}

// repeat sends a request that may be sent more than once. The library's own rules would also
// repeat a reset, and sleep for as long as a BMC says: none of them is left in force.
func (c *courier) repeat(r *http.Request) (*http.Response, error) {
	req, err := retryablehttp.FromRequest(r)
	if err != nil {
		return nil, err
	}
	client := &retryablehttp.Client{
		HTTPClient: &http.Client{Transport: c.next, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		RetryMax:   tries - 1,
		CheckRetry: func(ctx context.Context, resp *http.Response, err error) (bool, error) {
			return ctx.Err() == nil && (unacceptable(resp) || passing(resp, err)), nil
		},
		Backoff:      func(_, _ time.Duration, try int, _ *http.Response) time.Duration { return jitter(c.poll / 2 << try) },
		ErrorHandler: retryablehttp.PassthroughErrorHandler, // the last answer says more than "giving up"
		PrepareRetry: func(r *http.Request) error {
			r.Header.Del("Accept-Encoding") // HPE, Gen10 and later, answers 406 to it
			return nil
		},
	}
	resp, err := client.Do(req)
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // the client that called us wraps it once more
		err = wrapped.Err
	}
	return resp, err
}

func unacceptable(resp *http.Response) bool {
	return resp != nil && resp.StatusCode == http.StatusNotAcceptable
}

func withPort(r *http.Request) string {
	if r.URL.Port() == "" {
		return net.JoinHostPort(r.URL.Hostname(), "443")
	}
	return r.URL.Host
}

// CloseIdleConnections is what http.Client asks of its transport.
func (c *courier) CloseIdleConnections() { c.next.CloseIdleConnections() }

// note remembers how long a refusal asks to wait, within reason: a BMC was seen to ask for a
// day.
func (c *courier) note(resp *http.Response) {
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && resp.StatusCode >= 400 {
		c.wait = min(time.Duration(s)*time.Second, 5*time.Minute)
	}
}

// passing says whether a read may do better at once: the connection was cut, or the BMC is
// busy and does not say for how long.
func passing(resp *http.Response, err error) bool {
	if err != nil {
		return cut(err)
	}
	return resp.StatusCode >= 500 && resp.Header.Get("Retry-After") == ""
}

// cut says whether a connection that was there broke.
func cut(err error) bool {
	var op *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &op) && op.Op != "dial" && !op.Timeout() && op.Op != "remote error"
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// pause passes time, or returns why ctx ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
