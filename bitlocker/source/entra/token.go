package entra

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"unbrick/inventory/secret"
)

// early is how long before its end a token is renewed.
const early = 5 * time.Minute

// tokens keeps the token of the application while it is good.
type tokens struct {
	mu    sync.Mutex
	token secret.Value
	until time.Time
}

// get returns a token other than refused. One that is handed in is read anew each time: it is
// somebody else's business to renew it.
func (c *tokens) get(ctx context.Context, t *Tenant, refused string) (secret.Value, error) {
	if t.cfg.Token != "" {
		return t.cfg.Token.Resolve(ctx)
	}
	c.mu.Lock()
	token, good := c.token, time.Now().Before(c.until)
	c.mu.Unlock()
	if good && token.Reveal() != refused {
		return token, nil
	}
	token, lasts, err := t.login(ctx)
	if err != nil {
		return secret.Value{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.until = token, time.Now().Add(lasts-min(early, lasts/2))
	return token, nil
}

// login asks for a token as the application (OAuth 2.0 client credentials).
func (t *Tenant) login(ctx context.Context) (secret.Value, time.Duration, error) {
	password, err := t.cfg.Secret.Resolve(ctx)
	if err != nil {
		return secret.Value{}, 0, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {t.cfg.ClientID},
		"client_secret": {password.Reveal()}, "scope": {t.cfg.Graph + "/.default"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.Authority+"/"+url.PathEscape(t.cfg.Tenant)+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		return secret.Value{}, 0, errors.New("cannot log in to Entra ID: the address is not valid")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	raw, res, err := t.do(req, "the login of Entra ID")
	if err != nil {
		return secret.Value{}, 0, err
	}
	var answer struct {
		Token   string  `json:"access_token"`
		Expires float64 `json:"expires_in"` // seconds
		Error   string  `json:"error"`
		Codes   []int   `json:"error_codes"`
	}
	if json.Unmarshal(raw, &answer) != nil || res.StatusCode == http.StatusOK && answer.Token == "" {
		return secret.Value{}, 0, fmt.Errorf("cannot log in to Entra ID: status %d without a token", res.StatusCode)
	}
	if res.StatusCode != http.StatusOK {
		return secret.Value{}, 0, fmt.Errorf("cannot log in to Entra ID: %s", loginReason(answer.Codes, res.StatusCode))
	}
	return secret.New(answer.Token), time.Duration(answer.Expires) * time.Second, nil
}

// loginReason puts the codes that matter at night into words (Entra authentication error codes).
func loginReason(codes []int, status int) string {
	for _, c := range codes {
		switch c {
		case 7000215:
			return "the secret of the application is wrong (AADSTS7000215); give its value, not its id"
		case 7000222:
			return "the secret of the application has expired (AADSTS7000222): make a new one"
		case 700016:
			return "the tenant has no such application (AADSTS700016): check tenant and client id"
		case 90002:
			return "there is no such tenant (AADSTS90002)"
		case 53003:
			return "a conditional access policy forbids it from here (AADSTS53003)"
		}
	}
	if len(codes) > 0 {
		return fmt.Sprintf("it refuses (AADSTS%d)", codes[0])
	}
	return fmt.Sprintf("status %d", status)
}

// claims are the permissions in a token. They are read to give advice, not to decide: nothing
// here checks who signed it.
type claims struct {
	Roles []string `json:"roles"` // of an application
	Scope string   `json:"scp"`   // of a person
}

// readClaims looks into a token. Microsoft does not promise that it can be read.
func readClaims(token secret.Value) (c claims, ok bool) {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 {
		return c, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	return c, err == nil && json.Unmarshal(raw, &c) == nil
}

func (c claims) appOnly() bool { return c.Scope == "" }

func (c claims) has(permission string) bool {
	granted := c.Roles
	if !c.appOnly() {
		granted = strings.Fields(c.Scope)
	}
	return slices.ContainsFunc(granted, func(g string) bool {
		return strings.EqualFold(g, permission) || permission == readDevices && strings.EqualFold(g, "Directory.Read.All")
	})
}
