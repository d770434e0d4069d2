package proxmox

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"

	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
)

// An Access says how to reach one cluster, or one node that is in none.
type Access struct {
	// Name is what the cluster is called in the addresses of routes; the host of URL if empty.
	Name string
	// URL is that of any node, or of what stands before them: https://pve1.corp.example:8006.
	// The node asks the others. Plain http is for loopback alone.
	URL string
	// Token is an API token, USER@REALM!NAME=SECRET in one text; env:PROXMOX_VE_API_TOKEN if
	// empty, where other tools look for it too.
	Token secret.Ref
	// CA is a PEM file with the only authorities to trust, such as a copy of
	// /etc/pve/pve-root-ca.pem, which signs the certificates of all nodes; the system's if empty.
	CA string
	// Transport carries the requests instead, and decides which certificates are good.
	Transport http.RoundTripper
	// Pause is how long to wait before what only reads is asked again; 1 s if 0.
	Pause time.Duration
}

// A Client asks one cluster. It is safe for concurrent use.
type Client struct {
	access Access
	http   *http.Client
}

// Connect checks the access. It does not reach the cluster. Each of around is put around what
// carries the requests.
func Connect(a Access, around ...func(http.RoundTripper) http.RoundTripper) (*Client, error) {
	u, err := url.Parse(a.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" ||
		u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return nil, errors.New("cannot use Proxmox VE: its address has to be https://NODE:8006")
	}
	a.URL = strings.TrimRight(a.URL, "/")
	a.Name = cmp.Or(a.Name, u.Hostname())
	a.Token = cmp.Or(a.Token, "env:PROXMOX_VE_API_TOKEN")
	a.Pause = cmp.Or(a.Pause, time.Second)
	if err := a.Token.Check(); err != nil {
		return nil, fmt.Errorf("cannot use Proxmox VE %s: %w", a.Name, err)
	}
	if a.Transport == nil {
		if a.Transport, err = a.transport(); err != nil {
			return nil, fmt.Errorf("cannot use Proxmox VE %s: %w", a.Name, err)
		}
	}
	for _, wrap := range around {
		a.Transport = wrap(a.Transport)
	}
	return &Client{a, &http.Client{
		Transport: a.Transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Transport returns one for many requests at once to one cluster, with that configuration of
// TLS; with the system's if it is nil.
func Transport(conf *tls.Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig, t.MaxIdleConnsPerHost = conf, 32
	return t
}

func (a Access) transport() (http.RoundTripper, error) {
	if a.CA == "" {
		return Transport(nil), nil
	}
	text, err := os.ReadFile(a.CA)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", a.CA)
	}
	return Transport(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}), nil
}

func loopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}

// Name is what the cluster is called in addresses.
func (c *Client) Name() string { return c.access.Name }

// An Error is an answer that is not a success.
type Error struct {
	Status  int
	Message string // the cluster's own, in one line
}

// Error says what to do where the status tells.
func (e *Error) Error() string {
	text := cmp.Or(e.Message, http.StatusText(e.Status), "no reason given")
	switch e.Status {
	case http.StatusUnauthorized:
		text += ": the API token is wrong, has expired or was removed (pveum user token list USER@REALM)"
	case http.StatusForbidden:
		text += ": give the API token that privilege on that path"
	}
	return fmt.Sprintf("status %d, %s", e.Status, text)
}

// Away says that a node asked another one in vain: those are 595 to 599.
func (e *Error) Away() bool { return e.Status >= 595 && e.Status <= 599 }

// Passing says that the same request may succeed later: a node that is away or busy, a lock.
func (e *Error) Passing() bool {
	switch e.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.Away() || strings.Contains(e.Message, "got timeout") ||
		strings.Contains(e.Message, "is locked (") || e.Modified()
}

// Modified says that a configuration was changed by another since its digest was read.
func (e *Error) Modified() bool {
	return strings.Contains(e.Message, "file change") && strings.Contains(e.Message, "by other user")
}

// Gone says that there is no such guest on that node.
func (e *Error) Gone() bool {
	return strings.Contains(e.Message, "Configuration file") && strings.Contains(e.Message, "does not exist")
}

// reads is how often what only reads is asked.
const reads = 3

// Get reads what is at a path below /api2/json.
func (c *Client) Get(ctx context.Context, path string, v any) error {
	for try := 1; ; try++ {
		err := c.once(ctx, http.MethodGet, path, nil, v)
		var said *Error
		if err == nil || try == reads || rest.Brief(ctx) || ctx.Err() != nil || errors.As(err, &said) && (!said.Passing() || said.Status == http.StatusInternalServerError) {
			return err
		}
		select {
		case <-time.After(c.access.Pause * time.Duration(try)):
		case <-ctx.Done():
			return err
		}
	}
}

// Post changes something. It is sent once: whether it was done when the answer is lost, the
// caller has to find out.
func (c *Client) Post(ctx context.Context, path string, form url.Values, v any) error {
	return c.once(ctx, http.MethodPost, path, form, v)
}

// maxAnswer is more than the list of every guest of the largest cluster.
const maxAnswer = 64 << 20

func (c *Client) once(ctx context.Context, method, path string, form url.Values, v any) error {
	token, err := c.access.Token.Resolve(ctx)
	if err != nil {
		return fmt.Errorf("cannot log in to Proxmox VE %s: %w", c.Name(), err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.access.URL+"/api2/json"+path, strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("cannot ask Proxmox VE %s: the address is not valid", c.Name())
	}
	req.Header.Set("Authorization", "PVEAPIToken="+token.Reveal())
	req.Header.Set("User-Agent", "unbrick/1")
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := c.http.Do(req)
	if err != nil {
		var u *url.Error // it names the address, which the context does already
		if errors.As(err, &u) {
			err = u.Err
		}
		return fmt.Errorf("cannot reach Proxmox VE %s: %w", c.Name(), err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("cannot read the answer of Proxmox VE %s: %w", c.Name(), err)
	}
	if len(raw) > maxAnswer {
		return fmt.Errorf("the answer of Proxmox VE %s is longer than %d MiB", c.Name(), maxAnswer>>20)
	}
	return answer(res, raw, v)
}

// answer decodes what the API wraps as data, or its error: that is in the body in newer
// releases, and behind the status in older ones.
func answer(res *http.Response, raw []byte, v any) error {
	var body struct {
		Data    json.RawMessage   `json:"data"`
		Message string            `json:"message"`
		Errors  map[string]string `json:"errors"`
	}
	bad := json.Unmarshal(raw, &body)
	if res.StatusCode != http.StatusOK {
		_, reason, _ := strings.Cut(res.Status, " ")
		text := cmp.Or(body.Message, reason)
		for name, what := range body.Errors {
			text += " " + name + ": " + what
		}
		return &Error{res.StatusCode, Line(text)}
	}
	if bad == nil && v != nil {
		bad = json.Unmarshal(body.Data, v)
	}
	if bad != nil {
		return errors.New("the answer is not the JSON expected: is this the API of Proxmox VE?")
	}
	return nil
}

// Line makes one line, not too long, of what a cluster says.
func Line(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}
