package openstack

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
)

// A Connection says which cloud, and how it is reached.
type Connection struct {
	Cloud string // in clouds.yaml; OS_CLOUD's if empty, and without that what OS_AUTH_URL and its kin say
	// Wrap is put around what carries requests; nil: nothing is.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Tries of a request that only reads and was not answered, or throttled; 1 if 0.
	Tries uint
	// Pause before the second try, and twice as long before each further one; 500 ms if 0.
	Pause time.Duration
}

// A Client is one project of one cloud. It logs in when it is first used, and again when its
// token has ended. It is safe for concurrent use.
type Client struct {
	conn Connection
	auth gophercloud.AuthOptions
	at   gophercloud.EndpointOpts
	tls  *tls.Config

	turn chan struct{} // whoever is about to log in
	open *Services
}

// Services are those of a cloud that are used here.
type Services struct {
	Compute *gophercloud.ServiceClient
	Image   *gophercloud.ServiceClient
	Volume  *gophercloud.ServiceClient // nil if the cloud has none
	Region  string
}

// Microversion is that of Nova's API that is asked: servers say whether they are locked, and
// show their flavor's extra specs (2.47, of the release Pike).
const Microversion = "2.47"

// answerLimit is how long an answer may take to begin.
const answerLimit = time.Minute

// Dial finds the credentials as the openstack command does: clouds.yaml and secure.yaml in this
// directory, in ~/.config/openstack or in /etc/openstack, and without a name of a cloud the
// environment. It reaches nothing.
func Dial(c Connection) (*Client, error) {
	c.Tries, c.Pause = max(c.Tries, 1), cmp.Or(c.Pause, 500*time.Millisecond)
	client := &Client{conn: c, turn: make(chan struct{}, 1)}
	name := cmp.Or(c.Cloud, os.Getenv("OS_CLOUD"))
	var err error
	if name != "" {
		client.auth, client.at, client.tls, err = clouds.Parse(clouds.WithCloudName(name))
	} else {
		client.auth, client.at, client.tls, err = environment()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot log in to OpenStack: %w\nname a cloud of clouds.yaml (cloud:, OS_CLOUD), or set OS_AUTH_URL and what goes with it", err)
	}
	client.auth.AllowReauth = client.auth.TokenID == "" // a token alone cannot be renewed
	return client, nil
}

// environment reads what an openrc file sets. Unlike the library's own reader it knows the
// domains of users and projects apart, as the openstack command does.
func environment() (a gophercloud.AuthOptions, e gophercloud.EndpointOpts, _ *tls.Config, err error) {
	get := func(names ...string) (v string) {
		for _, n := range names {
			v = cmp.Or(v, os.Getenv(n))
		}
		return v
	}
	a = gophercloud.AuthOptions{
		IdentityEndpoint: get("OS_AUTH_URL"), Username: get("OS_USERNAME"), UserID: get("OS_USER_ID", "OS_USERID"), Password: get("OS_PASSWORD"), TokenID: get("OS_TOKEN"),
		ApplicationCredentialID: get("OS_APPLICATION_CREDENTIAL_ID"), ApplicationCredentialName: get("OS_APPLICATION_CREDENTIAL_NAME"),
		ApplicationCredentialSecret: get("OS_APPLICATION_CREDENTIAL_SECRET"),
	}
	e = gophercloud.EndpointOpts{Region: get("OS_REGION_NAME")}
	if get("OS_INTERFACE") == "internal" {
		e.Availability = gophercloud.AvailabilityInternal
	}
	if a.IdentityEndpoint == "" {
		return a, e, nil, errors.New("OS_AUTH_URL is not set")
	}
	if a.UserID == "" && a.ApplicationCredentialID == "" && a.TokenID == "" {
		a.DomainID, a.DomainName = get("OS_USER_DOMAIN_ID", "OS_DOMAIN_ID"), get("OS_USER_DOMAIN_NAME", "OS_DOMAIN_NAME")
		if a.DomainID != "" {
			a.DomainName = ""
		}
	}
	if id, name := get("OS_PROJECT_ID", "OS_TENANT_ID"), get("OS_PROJECT_NAME", "OS_TENANT_NAME"); a.ApplicationCredentialSecret != "" {
		// it has a project of its own
	} else if id != "" {
		a.Scope = &gophercloud.AuthScope{ProjectID: id}
	} else if name != "" {
		a.Scope = &gophercloud.AuthScope{ProjectName: name, DomainID: get("OS_PROJECT_DOMAIN_ID", "OS_DOMAIN_ID")}
		if a.Scope.DomainID == "" {
			a.Scope.DomainName = cmp.Or(get("OS_PROJECT_DOMAIN_NAME", "OS_DOMAIN_NAME"), a.DomainName)
		}
	}
	file := get("OS_CACERT")
	if file == "" {
		return a, e, nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return a, e, nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return a, e, nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return a, e, conf, nil
}

// Place names the cloud, for errors and origins.
func (c *Client) Place() string {
	return cmp.Or(c.conn.Cloud, os.Getenv("OS_CLOUD"), c.auth.IdentityEndpoint)
}

// Open returns the services. It logs in if nobody has.
func (c *Client) Open(ctx context.Context) (*Services, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	if c.open != nil {
		return c.open, nil
	}
	s, err := c.login(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot log in to OpenStack: %w", Explain(ctx, err))
	}
	c.open = s
	return s, nil
}

func (c *Client) login(ctx context.Context) (*Services, error) {
	provider, err := openstack.NewClient(c.auth.IdentityEndpoint)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = answerLimit
	transport.TLSClientConfig = c.tls
	provider.HTTPClient.Transport = transport
	if c.conn.Wrap != nil {
		provider.HTTPClient.Transport = c.conn.Wrap(transport)
	}
	provider.UserAgent.Prepend("unbrick/1")
	provider.RetryFunc = c.again
	if err := openstack.Authenticate(ctx, provider, c.auth); err != nil {
		return nil, err
	}
	s := &Services{Region: c.at.Region}
	if s.Compute, err = openstack.NewComputeV2(provider, c.at); err != nil {
		return nil, err
	}
	s.Compute.Microversion = Microversion
	if s.Image, err = openstack.NewImageV2(provider, c.at); err != nil {
		return nil, err
	}
	if v, err := openstack.NewBlockStorageV3(provider, c.at); err == nil {
		s.Volume = v
	}
	return s, nil
}

// again repeats what only reads. An error ends it.
func (c *Client) again(ctx context.Context, method, _ string, _ *gophercloud.RequestOpts, err error, failed uint) error {
	var said *Error
	explained := Explain(ctx, err)
	refused := errors.As(explained, &said) && !said.Passing()
	if method != http.MethodGet || refused || failed >= c.conn.Tries || ctx.Err() != nil {
		return err
	}
	select {
	case <-time.After(c.conn.Pause << min(failed-1, 6)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
