package rest

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"unbrick/inventory/secret"
)

// An Auth is how requests say who asks.
type Auth interface {
	// authorization returns the header's value. If the one that it gave before was refused,
	// it returns another, or the same if there is none.
	authorization(ctx context.Context, c *Client, refused string) (string, error)
}

// A LoginError is a login that failed: what was asked for was not reached.
type LoginError struct{ Err error }

func (e *LoginError) Error() string { return e.Err.Error() }

// Unwrap returns why.
func (e *LoginError) Unwrap() error { return e.Err }

// Basic sends a user's name and password.
type Basic secret.Login

func (b Basic) authorization(ctx context.Context, c *Client, _ string) (string, error) {
	password, err := b.Password.Resolve(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot log in to %s: %w", c.opt.Name, err)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(b.User+":"+password.Reveal())), nil
}

// A Token is sent behind a word, as "Bearer" or "Token". It is read anew for each request: it
// is somebody else's business to renew it.
type Token struct {
	Word  string // "Bearer" if empty
	Token secret.Ref
	// Words are for tokens that begin in some way: {"nbt_": "Bearer"}.
	Words map[string]string
}

func (t Token) authorization(ctx context.Context, c *Client, _ string) (string, error) {
	token, err := t.Token.Resolve(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot log in to %s: %w", c.opt.Name, err)
	}
	for start, word := range t.Words {
		if strings.HasPrefix(token.Reveal(), start) {
			t.Word = word
		}
	}
	fill(&t.Word, "Bearer")
	return t.Word + " " + token.Reveal(), nil
}

// An OAuth gets tokens as an application (OAuth 2.0 client credentials, RFC 6749 section 4.4)
// and keeps each for as long as it is good.
type OAuth struct {
	Path     string // of the token endpoint: "/oauth2/token", or an address if it is another server's
	ClientID string
	Secret   secret.Ref
	Scope    string // empty: none is sent

	mu    sync.Mutex
	value secret.Value
	until time.Time
}

func (o *OAuth) authorization(ctx context.Context, c *Client, refused string) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock() // one login for all who wait
	if time.Now().Before(o.until) && o.value.Reveal() != refused {
		return o.value.Reveal(), nil
	}
	password, err := o.Secret.Resolve(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot log in to %s: %w", c.opt.Name, err)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {o.ClientID}, "client_secret": {password.Reveal()}}
	if o.Scope != "" {
		form.Set("scope", o.Scope)
	}
	var answer struct {
		Token   string `json:"access_token"`
		Seconds int    `json:"expires_in"`
	}
	address, err := o.endpoint(c)
	if err != nil {
		return "", err
	}
	req, err := retryablehttp.NewRequestWithContext(reading(ctx), http.MethodPost, address, []byte(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("cannot log in to %s: the address is not valid", c.opt.Name)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if _, err := c.once(req, &answer); err != nil {
		return "", &LoginError{fmt.Errorf("cannot log in to %s as application %s: %w", c.opt.Name, o.ClientID, err)}
	}
	if answer.Token == "" {
		return "", fmt.Errorf("cannot log in to %s: its answer has no token", c.opt.Name)
	}
	lasts := time.Duration(max(answer.Seconds, 60)) * time.Second
	o.value, o.until = secret.New("Bearer "+answer.Token), time.Now().Add(lasts-min(lasts/2, 5*time.Minute))
	return o.value.Reveal(), nil
}

// endpoint returns where tokens are given out.
func (o *OAuth) endpoint(c *Client) (string, error) {
	if strings.HasPrefix(o.Path, "/") {
		return c.base + o.Path, nil
	}
	u, err := url.Parse(o.Path)
	if err != nil || !safe(u) {
		return "", fmt.Errorf("cannot log in to %s: the address for tokens has to be https://HOST/PATH", c.opt.Name)
	}
	return o.Path, nil
}
