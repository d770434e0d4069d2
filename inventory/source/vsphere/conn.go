package vsphere

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/inventory/secret"
)

// A Server says which vCenter or ESXi host to talk to, and as whom.
type Server struct {
	URL      string // vc1.corp.example, or https://vc1.corp.example/sdk
	User     string // unbrick@vsphere.local
	Password secret.Ref

	// TLS returns what makes its certificate trusted; tlspin's Policy.Config is one. The context
	// is for records alone. Nil: the system's certificate authorities.
	TLS func(ctx context.Context, addr string) (*tls.Config, error)
	// Transport goes around every request: a pace, for instance. Nil: nothing does.
	Transport func(http.RoundTripper) http.RoundTripper
}

// FromEnv returns the server that govc would use, for what is not set in s: GOVC_URL,
// GOVC_USERNAME and GOVC_PASSWORD. A password inside GOVC_URL is refused: what is in an address
// gets into logs.
func FromEnv(s Server, getenv func(string) string) (Server, error) {
	if s.URL == "" {
		u, err := soap.ParseURL(getenv("GOVC_URL"))
		if err != nil || u == nil {
			return s, errors.New("no vCenter is named: set url, or GOVC_URL")
		}
		if p, _ := u.User.Password(); p != "" { // govmomi makes an empty one where there is none
			return s, errors.New("GOVC_URL has a password in it: put that into GOVC_PASSWORD")
		}
		if u.User != nil && s.User == "" {
			s.User = u.User.Username()
		}
		u.User = nil
		s.URL = u.String()
	}
	if s.User == "" {
		s.User = getenv("GOVC_USERNAME")
	}
	if s.Password == "" {
		s.Password = "env:GOVC_PASSWORD"
	}
	return s, nil
}

// A Conn is one session with a server, which is opened when it is first needed, opened again
// when the server ended it (after 30 minutes of silence, as a rule), and closed by Close. It is
// safe for concurrent use.
type Conn struct {
	server Server
	url    *url.URL

	lock   chan struct{} // held while the client or the session is made
	client *vim25.Client
	number int // of the session
}

// NewConn checks the configuration. It does not reach the server.
func NewConn(s Server) (*Conn, error) {
	if !strings.Contains(s.URL, "://") {
		s.URL = "https://" + s.URL
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("that is no address of a vCenter or ESXi host\nwrite vc1.corp.example or https://vc1.corp.example/sdk, and the login beside it")
	}
	if s.User == "" {
		return nil, fmt.Errorf("no user for %s: set user and password, or GOVC_USERNAME and GOVC_PASSWORD", u.Host)
	}
	if err := s.Password.Check(); err != nil {
		return nil, fmt.Errorf("the password for %s: %w", u.Host, err)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = vim25.Path
	}
	return &Conn{server: s, url: u, lock: make(chan struct{}, 1)}, nil
}

// Host is the server's name, with the port if there is one.
func (c *Conn) Host() string { return c.url.Host }

// URL is where the server's files are reached, beside its API: scheme and host.
func (c *Conn) URL() *url.URL { return &url.URL{Scheme: c.url.Scheme, Host: c.url.Host} }

// Client returns a client with a session. It logs in again by itself, once for each request that
// the server refuses for want of a session: such a request was not done.
func (c *Conn) Client(ctx context.Context) (*vim25.Client, error) {
	if err := c.acquire(ctx); err != nil {
		return nil, err
	}
	defer c.release()
	if c.client == nil {
		client, err := c.connect(ctx)
		if err != nil {
			return nil, fmt.Errorf("cannot reach %s: %w", c.Host(), err)
		}
		c.client = client
	}
	if c.number == 0 {
		if err := c.login(ctx); err != nil {
			return nil, err
		}
	}
	return c.client, nil
}

func (c *Conn) acquire(ctx context.Context) error {
	select {
	case c.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot reach %s: %w", c.Host(), context.Cause(ctx))
	}
}

func (c *Conn) release() { <-c.lock }

func (c *Conn) connect(ctx context.Context) (*vim25.Client, error) {
	sc := soap.NewClient(c.url, false)
	t := sc.DefaultTransport()
	t.DialTLSContext = nil // govmomi's does not end with its context
	t.MaxIdleConnsPerHost = 8
	t.ResponseHeaderTimeout = 5 * time.Minute // no request of ours waits for a change
	if c.server.TLS != nil {
		addr := c.url.Host
		if c.url.Port() == "" {
			addr += ":443"
		}
		cfg, err := c.server.TLS(context.WithoutCancel(ctx), addr)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig = cfg
	}
	if c.server.Transport != nil {
		sc.Client.Transport = c.server.Transport(t)
	}
	client, err := vim25.NewClient(ctx, sc)
	if err != nil {
		return nil, err
	}
	client.RoundTripper = renewing{c, client.RoundTripper}
	return client, nil
}

// login opens a session. The lock is held.
func (c *Conn) login(ctx context.Context) error {
	password, err := c.server.Password.Resolve(ctx)
	if err != nil {
		return fmt.Errorf("cannot log in to %s: %w", c.Host(), err)
	}
	err = session.NewManager(c.client).Login(ctx, url.UserPassword(c.server.User, password.Reveal()))
	if err != nil {
		return fmt.Errorf("cannot log in to %s as %s: %w", c.Host(), c.server.User, err)
	}
	c.number++
	return nil
}

// renew opens another session, unless somebody did since the given one.
func (c *Conn) renew(ctx context.Context, old int) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	if c.number != old {
		return nil
	}
	return c.login(ctx)
}

// current returns the number of the session.
func (c *Conn) current(ctx context.Context) (int, error) {
	if err := c.acquire(ctx); err != nil {
		return 0, err
	}
	defer c.release()
	return c.number, nil
}

// renewing opens another session when the one it has ended.
type renewing struct {
	conn *Conn
	next soap.RoundTripper
}

// RoundTrip implements soap.RoundTripper.
func (r renewing) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	if ofSession(req) { // sent while the lock is held
		return r.next.RoundTrip(ctx, req, res)
	}
	number, err := r.conn.current(ctx)
	if err != nil {
		return err
	}
	err = r.next.RoundTrip(ctx, req, res)
	if !fault.Is(err, &types.NotAuthenticated{}) {
		return err
	}
	if err := r.conn.renew(ctx, number); err != nil {
		return err
	}
	reflect.ValueOf(res).Elem().SetZero() // it holds the fault, and would go on to
	return r.next.RoundTrip(ctx, req, res)
}

// Close logs out. A server that does not answer ends the session by itself, later.
func (c *Conn) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.acquire(ctx); err != nil {
		return err
	}
	defer c.release()
	if c.number == 0 {
		return nil
	}
	c.number = 0
	defer c.client.Client.CloseIdleConnections()
	if err := session.NewManager(c.client).Logout(ctx); err != nil && !fault.Is(err, &types.NotAuthenticated{}) {
		return fmt.Errorf("cannot log out of %s: %w", c.Host(), err)
	}
	return nil
}
