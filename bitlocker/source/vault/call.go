package vault

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"unbrick/bitlocker"
	"unbrick/inventory/secret"
)

const (
	timeout = 30 * time.Second // of one request
	maxBody = 64 << 20         // a list of a million names
	early   = 30 * time.Second // how long before its end a token is renewed
)

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func newClient(ca string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", ca)
		}
	}
	return &http.Client{Transport: transport, Timeout: timeout,
		// The token would go along to wherever the answer points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

// call makes a request as this account. A role that is refused logs in once more: its token
// may have been revoked before its time.
func (v *Vault) call(ctx context.Context, method, path string, body, into any) error {
	token, fresh, err := v.login(ctx)
	if err != nil {
		return err
	}
	err = v.send(ctx, method, path, token, body, into)
	if errors.Is(err, errDenied) && v.cfg.AppRole != nil && !fresh {
		v.forget()
		if token, _, err = v.login(ctx); err != nil {
			return err
		}
		err = v.send(ctx, method, path, token, body, into)
	}
	return err
}

// login returns a token, and whether it was made just now.
func (v *Vault) login(ctx context.Context) (token secret.Value, fresh bool, err error) {
	if v.cfg.AppRole == nil {
		token, err = v.cfg.Token.Resolve(ctx)
		return token, false, err
	}
	v.mu.Lock()
	token, good := v.token, time.Now().Before(v.until)
	v.mu.Unlock()
	if good {
		return token, false, nil
	}
	role := v.cfg.AppRole
	secretID, err := role.SecretID.Resolve(ctx)
	if err != nil {
		return secret.Value{}, false, err
	}
	var res struct {
		Auth struct {
			Token string `json:"client_token"`
			Lease int    `json:"lease_duration"` // seconds; 0 is for ever
		} `json:"auth"`
	}
	err = v.send(ctx, http.MethodPost, "auth/"+cmp.Or(strings.Trim(role.Mount, "/"), "approle")+"/login", secret.Value{},
		map[string]string{"role_id": role.RoleID, "secret_id": secretID.Reveal()}, &res)
	if err != nil || res.Auth.Token == "" {
		return secret.Value{}, false, fmt.Errorf("cannot log in by AppRole: %w", cmp.Or(err, errors.New("the answer has no token")))
	}
	lease := time.Duration(res.Auth.Lease) * time.Second
	if lease == 0 {
		lease = time.Hour
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.token, v.until = secret.New(res.Auth.Token), time.Now().Add(lease-min(early, lease/2))
	return v.token, true, nil
}

func (v *Vault) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.token, v.until = secret.Value{}, time.Time{}
}

// errDenied is what Vault says of a token that is wrong, expired or not allowed to: it does not
// tell these apart.
var errDenied = errors.New("vault refuses: the token or role has expired, is wrong, or its policy does not allow this")

// send makes one request. Of the server's own words none is repeated: the text may be anything.
func (v *Vault) send(ctx context.Context, method, path string, token secret.Value, body, into any) error {
	var text io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return errors.New("cannot encode the request")
		}
		text = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, v.cfg.URL+"/v1/"+path, text)
	if err != nil {
		return fmt.Errorf("cannot ask vault: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if t := token.Reveal(); t != "" {
		req.Header.Set("X-Vault-Token", t)
	}
	if v.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.cfg.Namespace)
	}
	res, err := v.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach vault: %w", withoutURL(err))
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return fmt.Errorf("cannot read the answer of vault: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return v.explain(res.StatusCode, raw)
	}
	if json.Unmarshal(raw, into) != nil { // its error could quote the text
		return errors.New("the answer is not that of a vault: not the JSON expected")
	}
	return nil
}

// withoutURL removes the address, which the source's name has already, from a client's error.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// explain says what a status means. Only a 404 in Vault's own form is [bitlocker.ErrNoKey]: one
// with a message is about the mount, one without JSON is not from Vault.
func (v *Vault) explain(status int, raw []byte) error {
	var res struct {
		Errors *[]string       `json:"errors"`
		Data   json.RawMessage `json:"data"` // of a secret that was deleted
	}
	valid := json.Unmarshal(raw, &res) == nil
	switch {
	case status == http.StatusNotFound && valid && len(res.Data) > 0:
		return fmt.Errorf("%w: its secret was deleted; undelete it", bitlocker.ErrNoKey)
	case status == http.StatusNotFound && valid && res.Errors != nil && len(*res.Errors) == 0:
		return bitlocker.ErrNoKey
	case status == http.StatusNotFound:
		return fmt.Errorf("vault has no key-value store (version 2) at %q: check the mount", v.cfg.Mount)
	case status == http.StatusForbidden:
		return errDenied
	case status == http.StatusBadRequest:
		return errors.New("vault refuses the request: check role id, secret id and mount")
	case status == http.StatusServiceUnavailable:
		return errors.New("vault is sealed or down: unseal it")
	case status == http.StatusTooManyRequests:
		return errors.New("vault is asked too often: raise its quota or ask less at once")
	case status >= 300 && status < 400:
		return errors.New("this node sends on to another one: name the active node, or the address of the cluster")
	case status == 472 || status == 473:
		return errors.New("this node is a standby that answers no reads: name the active one")
	}
	return fmt.Errorf("vault answers with status %d", status)
}
