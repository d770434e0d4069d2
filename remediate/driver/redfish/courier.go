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
	"strconv"
	"time"
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
	repeats := r.Method == http.MethodGet || r.Method == http.MethodDelete
	for try := 1; ; try++ {
		resp, err := c.next.RoundTrip(r)
		if resp != nil && resp.StatusCode == http.StatusNotAcceptable && r.Header.Get("Accept-Encoding") != "" {
			r.Header.Del("Accept-Encoding") // HPE, Gen10 and later
			if repeats {
				resp.Body.Close()
				continue
			}
		}
		if repeats && try < tries && passing(resp, err) {
			if resp != nil {
				resp.Body.Close()
			}
			if err := pause(r.Context(), jitter(c.poll/4<<try)); err != nil {
				return nil, err
			}
			continue
		}
		if resp != nil {
			c.note(resp)
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, maxBody), resp.Body}
		}
		return resp, err
	}
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
