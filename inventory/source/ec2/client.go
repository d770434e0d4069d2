package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
)

// A Connection says how to reach EC2 in one region.
type Connection struct {
	Profile  string // of ~/.aws; AWS_PROFILE if empty
	Region   string // the profile's own if empty
	Endpoint string // instead of Amazon's

	// Wrap, if not nil, is put around what sends requests to EC2.
	Wrap func(http.RoundTripper) http.RoundTripper
	// Backoff is the longest wait before a read is repeated; 5 s if 0. Changes are repeated by
	// nobody but their caller.
	Backoff time.Duration
}

const (
	tries       = 4                // of a read
	answerLimit = 30 * time.Second // until an answer begins
	keptConns   = 100              // that wait for the next request
)

// Connect returns a client, and its region. It asks nobody, unless credentials or the region
// come from elsewhere than files and the environment.
func Connect(ctx context.Context, c Connection) (*sdk.Client, string, error) {
	cfg, err := Configure(ctx, c)
	if err != nil {
		return nil, "", err
	}
	return sdk.NewFromConfig(cfg, func(o *sdk.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
	}), cfg.Region, nil
}

// Configure returns what a client of any of Amazon's services is made from, but for the endpoint,
// which is each one's own.
func Configure(ctx context.Context, c Connection) (aws.Config, error) {
	// The SDK would write to standard error of connections that it does not keep.
	opts := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})}
	if c.Profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(c.Profile))
	}
	if c.Region != "" {
		opts = append(opts, config.WithRegion(c.Region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return cfg, Explain(ctx, "cannot read the AWS configuration", err)
	}
	if cfg.Region == "" { // asked for last: where there is no such service, it takes its time
		if here, err := config.LoadDefaultConfig(ctx, append(opts, config.WithEC2IMDSRegion())...); err == nil {
			cfg = here
		}
	}
	if cfg.Region == "" {
		return cfg, errors.New("no AWS region is known\nname it in the address (REGION/i-…), in unbrick.yaml, in ~/.aws/config or in AWS_REGION")
	}
	if c.Backoff == 0 {
		c.Backoff = 5 * time.Second
	}
	cfg.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = tries, c.Backoff })
	}
	cfg.HTTPClient = &http.Client{Transport: c.wrap(transport(cfg.HTTPClient))}
	return cfg, nil
}

func (c Connection) wrap(t http.RoundTripper) http.RoundTripper {
	if c.Wrap == nil {
		return t
	}
	return c.Wrap(t)
}

// transport is the configuration's own, which knows AWS_CA_BUNDLE. It has no limit of time over
// all: a request may wait for its turn.
func transport(client aws.HTTPClient) http.RoundTripper {
	b, ok := client.(*awshttp.BuildableClient)
	if !ok {
		b = awshttp.NewBuildableClient()
	}
	t := b.GetTransport()
	t.ResponseHeaderTimeout = answerLimit
	t.MaxIdleConnsPerHost = keptConns
	return t
}

// Once are the options of a request that the client must not repeat: it changes something.
func Once(o *sdk.Options) { o.Retryer = aws.NopRetryer{} }

// Code returns the code of an error of EC2's, or the empty string.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Explain returns an error that says what to do, nil for nil. It wraps err unless EC2 refused.
func Explain(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		if none := (config.SharedConfigProfileNotExistError{}); errors.As(err, &none) {
			return fmt.Errorf("%s: there is no profile %s\naws configure list-profiles names those that there are; AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE say where else to look", what, none.Profile)
		}
		if strings.Contains(err.Error(), "get credentials") {
			return fmt.Errorf("%s: no AWS credentials: %w\nlog in (aws sso login), set AWS_PROFILE, or give the instance that unbrick runs on a role", what, err)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	switch code := api.ErrorCode(); code {
	case "UnauthorizedOperation", "AccessDeniedException": // the message of EC2's is long, and coded
		right := "a right"
		var op *smithy.OperationError
		if errors.As(err, &op) {
			right = strings.ToLower(op.ServiceID) + ":" + op.OperationName
		}
		return fmt.Errorf("%s: the right %s is missing (%s)\ngrant it to the role or user of these credentials (aws sts get-caller-identity names it)", what, right, code)
	case "AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "ExpiredToken", "RequestExpired", "MissingAuthenticationToken",
		"InvalidSignatureException", "ExpiredTokenException", "MissingAuthenticationTokenException":
		return fmt.Errorf("%s: AWS does not take these credentials (%s: %s)\nlog in again (aws sso login), look which profile is in use, and whether the clock is right", what, code, api.ErrorMessage())
	case "OptInRequired", "Blocked", "PendingVerification":
		return fmt.Errorf("%s: the account may not use this region or service (%s: %s)", what, code, api.ErrorMessage())
	default:
		return fmt.Errorf("%s: %s (%s)", what, api.ErrorMessage(), code)
	}
}
