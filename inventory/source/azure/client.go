package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"unbrick/inventory/rest"
)

// A Connection says which Azure to reach, and as whom.
type Connection struct {
	Cloud string // "public" if empty, "government" or "china"

	// Credential is found where Azure's own tools look for one if it is nil: AZURE_TENANT_ID,
	// AZURE_CLIENT_ID and a secret or certificate, a workload or managed identity, az login.
	Credential azcore.TokenCredential

	Endpoint  string            // of the Resource Manager, in place of the cloud's own: https://…
	Transport http.RoundTripper // http.DefaultTransport if nil; a pace stands here
	Backoff   time.Duration     // before a read is repeated for the first time; 1 s if 0
}

// A Client speaks to the Resource Manager. It repeats what only reads, twice, and nothing that
// changes anything. It is safe for concurrent use.
type Client struct {
	credential azcore.TokenCredential
	options    arm.ClientOptions
	plain      *arm.Client

	mu      sync.Mutex
	compute map[string]*armcompute.ClientFactory // by subscription
}

var clouds = map[string]cloud.Configuration{
	"": cloud.AzurePublic, "public": cloud.AzurePublic, "government": cloud.AzureGovernment, "china": cloud.AzureChina,
}

// Dial makes a client. It reaches nobody yet.
func (c Connection) Dial() (*Client, error) {
	where, ok := clouds[c.Cloud]
	if !ok {
		return nil, fmt.Errorf("no cloud %q of Azure: it is public, government or china", c.Cloud)
	}
	insecure := false
	if c.Endpoint != "" {
		own := where.Services[cloud.ResourceManager]
		own.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
		where = cloud.Configuration{ActiveDirectoryAuthorityHost: where.ActiveDirectoryAuthorityHost,
			Services: map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: own}}
		insecure = strings.HasPrefix(own.Endpoint, "http://127.0.0.1:") // a simulation; a token never leaves this host in the clear
	}
	if c.Backoff == 0 {
		c.Backoff = time.Second
	}
	o := arm.ClientOptions{DisableRPRegistration: true, ClientOptions: policy.ClientOptions{
		Cloud: where, InsecureAllowCredentialWithHTTP: insecure,
		Retry:           policy.RetryOptions{MaxRetries: 2, RetryDelay: c.Backoff, MaxRetryDelay: 30 * c.Backoff},
		PerCallPolicies: []policy.Policy{brevity{}}, Telemetry: policy.TelemetryOptions{ApplicationID: "unbrick"},
	}}
	if c.Transport != nil {
		o.Transport = &http.Client{Transport: c.Transport}
	}
	if c.Credential == nil {
		c.Credential = &found{cloud: where}
	}
	plain, err := arm.NewClient("unbrick", "v1.0.0", c.Credential, &o)
	if err != nil {
		return nil, err
	}
	return &Client{credential: c.Credential, options: o, plain: plain, compute: map[string]*armcompute.ClientFactory{}}, nil
}

// found is the credential that Azure's own tools would find. It is looked for when it is needed:
// who has no host on Azure need not have one.
type found struct {
	cloud cloud.Configuration

	once sync.Once
	got  azcore.TokenCredential
	err  error
}

// GetToken implements azcore.TokenCredential.
func (f *found) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	f.once.Do(func() {
		f.got, f.err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: policy.ClientOptions{Cloud: f.cloud}})
	})
	if f.err != nil {
		return azcore.AccessToken{}, fmt.Errorf("%w%s", ErrLogin, loginHint)
	}
	return f.got.GetToken(ctx, o)
}

// Compute returns what makes the clients of a subscription. There is one of each, since each
// logs in by itself.
func (c *Client) Compute(subscription string) (*armcompute.ClientFactory, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	subscription = strings.ToLower(subscription)
	f := c.compute[subscription]
	if f == nil {
		var err error
		if f, err = armcompute.NewClientFactory(subscription, c.credential, &c.options); err != nil {
			return nil, err
		}
		c.compute[subscription] = f
	}
	return f, nil
}

// Once returns a context in which a request that changes something is not repeated by the
// client: whoever made it looks first.
func Once(ctx context.Context) context.Context {
	return policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1})
}

// List reads a list of the Resource Manager to its end: for the few kinds of resources that need
// no module of their own.
func List[T any](ctx context.Context, c *Client, path string, query url.Values) (all []T, err error) {
	next := runtime.JoinPaths(c.plain.Endpoint(), path) + "?" + query.Encode()
	for seen := map[string]bool{}; next != ""; {
		if seen[next] {
			return nil, errors.New("the pages of the list go round in a circle")
		}
		seen[next] = true
		var page struct {
			Value    []T    `json:"value"`
			NextLink string `json:"nextLink"`
		}
		if err = c.read(ctx, next, &page); err != nil {
			return nil, err
		}
		all, next = append(all, page.Value...), page.NextLink
	}
	return all, nil
}

// Read reads one resource of the Resource Manager, or one page of a list.
func (c *Client) Read(ctx context.Context, path string, query url.Values, into any) error {
	return c.read(ctx, runtime.JoinPaths(c.plain.Endpoint(), path)+"?"+query.Encode(), into)
}

// brevity has nothing repeated where somebody waits for the answer.
type brevity struct{}

// Do implements policy.Policy.
func (brevity) Do(r *policy.Request) (*http.Response, error) {
	if ctx := r.Raw().Context(); rest.Brief(ctx) {
		r = r.WithContext(Once(ctx))
	}
	return r.Next()
}

// read reads what is at an address. A token is sent to the Resource Manager alone.
func (c *Client) read(ctx context.Context, at string, into any) error {
	if !strings.HasPrefix(at, c.plain.Endpoint()+"/") {
		return errors.New("the next page of the list is on another server")
	}
	req, err := runtime.NewRequest(ctx, http.MethodGet, at)
	if err != nil {
		return err
	}
	resp, err := c.plain.Pipeline().Do(req)
	if err != nil {
		return err
	}
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return runtime.NewResponseError(resp)
	}
	return runtime.UnmarshalAsJSON(resp, into)
}
