package gce

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"unbrick/inventory/rest"
)

// Endpoint is where Compute Engine's API is, for everybody outside a private universe.
const Endpoint = "https://compute.googleapis.com/compute/v1"

// A Connection says how to reach the API.
type Connection struct {
	Endpoint  string            // [Endpoint] if empty; http:// is for loopback alone
	Transport http.RoundTripper // one that waits for answers as long as operations.wait takes if nil
	Tokens    oauth2.TokenSource
	// Tries of a request that only reads and was not answered, or throttled; 1 if 0.
	Tries int
	// Pause before the second try, and twice as long before each further one; 500 ms if 0.
	Pause time.Duration
}

// A Client asks the API. It is safe for concurrent use.
type Client struct {
	conn  Connection
	base  string
	http  *http.Client
	login *login
}

// longest is how long an answer may take: operations.wait takes up to two minutes.
const longest = 150 * time.Second

// maxBody is the most that is read of one answer.
const maxBody = 64 << 20

// Dial checks the connection. It does not reach the API. Without Tokens, credentials are looked
// for when they are needed, where Google's tools look for them (application default credentials).
func Dial(c Connection) (*Client, error) {
	c.Endpoint, c.Pause, c.Tries = cmp.Or(c.Endpoint, Endpoint), cmp.Or(c.Pause, 500*time.Millisecond), max(c.Tries, 1)
	u, err := url.Parse(c.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fmt.Errorf("%q is no address of Compute Engine's API\nwrite https://compute.googleapis.com/compute/v1, or nothing", c.Endpoint)
	}
	if c.Transport == nil {
		c.Transport = Transport()
	}
	return &Client{conn: c, base: strings.TrimSuffix(c.Endpoint, "/"), http: &http.Client{
		Transport: c.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, login: &login{fixed: c.Tokens}}, nil
}

func loopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// Transport returns what requests go through when nothing else is said.
func Transport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = longest
	t.MaxIdleConnsPerHost = 16
	return t
}

// Host returns the name of the server.
func (c *Client) Host() string {
	_, rest, _ := strings.Cut(c.base, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// Get reads what path names, "projects/p/…". The error is an [*Error] if the API said it.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	pause := c.conn.Pause
	for try := 1; ; try++ {
		err := c.once(ctx, http.MethodGet, path, query, nil, into)
		if err == nil || try >= c.conn.Tries || rest.Brief(ctx) || ctx.Err() != nil || !passing(err) {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Post sends body, or nothing if that is nil, once.
func (c *Client) Post(ctx context.Context, path string, query url.Values, body, into any) error {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return c.once(ctx, http.MethodPost, path, query, b, into)
}

// once sends one request; again, if its token is no longer good.
func (c *Client) once(ctx context.Context, method, path string, query url.Values, body []byte, into any) error {
	address := c.base + "/" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	for fresh := false; ; fresh = true {
		token, err := c.login.token(ctx, fresh)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("cannot ask Compute Engine: %w", err)
		}
		token.SetAuthHeader(req)
		req.Header.Set("User-Agent", "unbrick/1")
		if len(body) > 0 {
			req.Header.Set("Content-Type", "application/json")
		}
		err = c.send(req, into)
		var said *Error
		if !fresh && errors.As(err, &said) && said.Status == http.StatusUnauthorized {
			continue
		}
		return err
	}
}

func (c *Client) send(req *http.Request, into any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		if req.Context().Err() != nil {
			return context.Cause(req.Context())
		}
		var u *url.Error // its text repeats the address, which the caller names better
		if errors.As(err, &u) {
			err = u.Err
		}
		return &LostError{err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		if req.Context().Err() != nil {
			return context.Cause(req.Context())
		}
		return &LostError{err}
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return readError(resp.StatusCode, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return errors.New("the answer of Compute Engine is not the JSON expected: is there a proxy between?")
	}
	return nil
}
