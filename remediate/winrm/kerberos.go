package winrm

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/spnego"

	"unbrick/inventory/secret"
)

// A Kerberos logs in with tickets, over https alone. One serves all hosts: it logs in at the
// domain once, and asks for one ticket per host. It is safe for several goroutines.
type Kerberos struct {
	user, realm string
	password    secret.Value
	conf        *config.Config

	mu     sync.Mutex
	client *client.Client
}

// NewKerberos reads krb5.conf and takes an account of realm; it does not log in yet.
func NewKerberos(confFile, user, realm string, password secret.Value) (*Kerberos, error) {
	conf, err := config.Load(confFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read Kerberos configuration: %w", err)
	}
	return &Kerberos{user: user, realm: realm, password: password, conf: conf}, nil
}

func (*Kerberos) scheme() string  { return "Negotiate" }
func (*Kerberos) plainHTTP() bool { return false }

// Close forgets the tickets.
func (k *Kerberos) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		k.client.Destroy()
		k.client = nil
	}
}

// token returns the Authorization for one request to host. The library has no contexts; it
// gives up on each of the domain's controllers after seconds.
func (k *Kerberos) token(ctx context.Context, host string) (string, error) {
	type result struct {
		token string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		t, err := k.ask(host)
		done <- result{t, err}
	}()
	select {
	case r := <-done:
		return r.token, r.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (k *Kerberos) ask(host string) (string, error) {
	c, err := k.loggedIn()
	if err != nil {
		return "", &LoginError{host, "the domain " + k.realm + " does not admit " + k.user + ": " + oneLine(err.Error(), 200)}
	}
	spn := "HTTP/" + host
	s := spnego.SPNEGOClient(c, spn)
	token, err := s.InitSecContext()
	if err != nil {
		return "", &LoginError{host, "the domain " + k.realm + " has no ticket for " + spn + ": " + oneLine(err.Error(), 200) +
			". Use the name that the domain knows the host by"}
	}
	b, err := token.Marshal()
	if err != nil {
		return "", errors.New("cannot encode a Kerberos ticket")
	}
	return "Negotiate " + base64.StdEncoding.EncodeToString(b), nil
}

func (k *Kerberos) loggedIn() (*client.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	c := client.NewWithPassword(k.user, k.realm, k.password.Reveal(), k.conf, client.DisablePAFXFAST(true))
	if err := c.Login(); err != nil {
		c.Destroy()
		return nil, err
	}
	k.client = c
	return c, nil
}
