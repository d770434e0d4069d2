// Package rest asks services that speak JSON over HTTPS, with the same care for all of them:
// what only reads is repeated and what changes something is not, a service that says when to
// come back is believed within limits, a login that has expired is renewed once, and no word
// of an answer or a credential gets into an error.
package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Options say which service to ask, and how.
type Options struct {
	Name string // in errors: "ServiceNow"
	Base string // https://corp.service-now.com; http:// is for loopback alone
	CA   string // PEM file with the only authorities to trust; empty: the system's
	Auth Auth   // nil: none
	// Header is sent with every request.
	Header map[string]string

	Tries   int           // of one request that only reads; 6 if 0
	MaxWait time.Duration // the longest pause that a service may ask for; 2 min if 0
	Timeout time.Duration // of one try; 60 s if 0
	MaxBody int64         // bytes of one answer; 256 MiB if 0
}

// A Client asks one service. It is safe for use by several goroutines.
type Client struct {
	opt    Options
	base   string
	client *retryablehttp.Client
}

// New checks the options. It does not reach the service.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Base)
	if err != nil || !safe(u) {
		return nil, fmt.Errorf("cannot use %s: its address has to be https://HOST, without a user or a query", o.Name)
	}
	fill(&o.Tries, 6)
	fill(&o.MaxWait, 2*time.Minute)
	fill(&o.Timeout, time.Minute)
	fill(&o.MaxBody, 256<<20)
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("cannot use %s: %w", o.Name, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("cannot use %s: %s has no certificate in PEM", o.Name, o.CA)
		}
	}
	c := &Client{opt: o, base: strings.TrimSuffix(o.Base, "/")}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = conf
	c.client = &retryablehttp.Client{
		HTTPClient: &http.Client{Transport: transport, Timeout: o.Timeout, CheckRedirect: c.redirect},
		RetryMax:   o.Tries - 1, CheckRetry: c.again, Backoff: c.pause,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	return c, nil
}

// With returns a client that sends these headers as well.
func (c *Client) With(header map[string]string) *Client {
	with := *c
	with.opt.Header = maps.Clone(c.opt.Header)
	if with.opt.Header == nil {
		with.opt.Header = map[string]string{}
	}
	maps.Copy(with.opt.Header, header)
	return &with
}

// Bare returns a client that sends no Authorization: for services where a session that was opened
// with it stands in its place.
func (c *Client) Bare() *Client {
	bare := *c
	bare.opt.Auth = nil
	return &bare
}

// Host returns the name of the server, with its port if it has one.
func (c *Client) Host() string {
	_, rest, _ := strings.Cut(c.base, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

func fill[T comparable](v *T, otherwise T) {
	if *v == *new(T) {
		*v = otherwise
	}
}

// safe says that credentials may be sent to an address.
func safe(u *url.URL) bool {
	return u.Host != "" && u.User == nil && u.RawQuery == "" && (u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()))
}

func loopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

var errRedirect = errors.New("it points to another server, where the credentials do not go")

// redirect follows within the service alone.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	if len(via) > 5 || !strings.HasPrefix(req.URL.String(), c.base+"/") {
		return errRedirect
	}
	return nil
}

// A StatusError is an answer that is not a success.
type StatusError struct {
	Name   string
	Status int
}

func (e *StatusError) Error() string {
	hint := map[int]string{
		http.StatusUnauthorized: ": the credentials are wrong or have expired",
		http.StatusForbidden:    ": the account lacks a right",
		http.StatusNotFound:     ": there is no such thing, or the account may not see it",
	}[e.Status]
	if e.Status == http.StatusTooManyRequests {
		hint = ": it is asked too often"
	}
	return fmt.Sprintf("%s answers with status %d%s", e.Name, e.Status, hint)
}

// Forbids says whether an error is a refusal of what was asked by an account that was let in: a
// login that is refused with the same status is none.
func Forbids(err error) bool {
	var status *StatusError
	var login *LoginError
	return errors.As(err, &status) && status.Status == http.StatusForbidden && !errors.As(err, &login)
}

// Get reads a resource into v, which is nil if only the header matters. Path begins with a
// slash, or is a whole address of this service, as a link to the next page is.
func (c *Client) Get(ctx context.Context, path string, v any) (http.Header, error) {
	return c.call(reading(ctx), http.MethodGet, path, "", nil, v)
}

// Query asks by POST for what only reads: it is repeated as Get is.
func (c *Client) Query(ctx context.Context, path string, body, v any) (http.Header, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.call(reading(ctx), http.MethodPost, path, "application/json", b, v)
}

// Post changes something. It is sent once: whether an answer that was lost was a success, the
// caller has to find out.
func (c *Client) Post(ctx context.Context, path string, body, v any) (http.Header, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return c.call(ctx, http.MethodPost, path, "application/json", b, v)
}

// call makes a request, with one fresh login if the first is refused.
func (c *Client) call(ctx context.Context, method, path, kind string, body []byte, v any) (http.Header, error) {
	address, err := c.address(path)
	if err != nil {
		return nil, err
	}
	refused := ""
	for {
		req, err := retryablehttp.NewRequestWithContext(ctx, method, address, body)
		if err != nil {
			return nil, fmt.Errorf("cannot ask %s: the address is not valid", c.opt.Name)
		}
		for k, value := range c.opt.Header {
			req.Header.Set(k, value)
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("User-Agent", "unbrick/1")
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		if c.opt.Auth != nil {
			value, err := c.opt.Auth.authorization(ctx, c, refused)
			if err != nil {
				return nil, err
			}
			if value == refused {
				return nil, &StatusError{c.opt.Name, http.StatusUnauthorized}
			}
			req.Header.Set("Authorization", value)
		}
		header, err := c.once(req, v)
		var status *StatusError
		if errors.As(err, &status) && status.Status == http.StatusUnauthorized && refused == "" && c.opt.Auth != nil {
			refused = req.Header.Get("Authorization")
			continue
		}
		return header, err
	}
}

// address joins a path to the service's address, and refuses one of another service. Of a link
// to this server only the path counts: behind a proxy a service may take itself for http.
func (c *Client) address(path string) (string, error) {
	if strings.HasPrefix(path, "/") {
		return c.base + path, nil
	}
	own, err := url.Parse(c.base)
	link, err2 := url.Parse(path)
	if err != nil || err2 != nil || link.Host != own.Host || link.User != nil || !strings.HasPrefix(link.Path, own.Path+"/") {
		return "", fmt.Errorf("%s points to another server, where the credentials do not go", c.opt.Name)
	}
	link.Scheme = own.Scheme
	return link.String(), nil
}

// once sends one request, repeated as the policy says, and decodes its answer.
func (c *Client) once(req *retryablehttp.Request, v any) (http.Header, error) {
	res, err := c.client.Do(req)
	if err != nil {
		var u *url.Error // it names the address, whose query may say more than a log should
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, fmt.Errorf("cannot reach %s: %w", c.opt.Name, err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, c.opt.MaxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the answer of %s: %w", c.opt.Name, err)
	case int64(len(raw)) > c.opt.MaxBody:
		return nil, fmt.Errorf("the answer of %s is longer than %d MiB: ask for smaller pages", c.opt.Name, c.opt.MaxBody>>20)
	case res.StatusCode < 200 || res.StatusCode > 299:
		return res.Header, &StatusError{c.opt.Name, res.StatusCode}
	case v == nil:
		return res.Header, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if dec.Decode(v) != nil { // its words could be those of the answer
		return nil, fmt.Errorf("the answer of %s is not the JSON expected: is this its API, and not a login page?", c.opt.Name)
	}
	return res.Header, nil
}
