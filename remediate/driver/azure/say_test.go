package azure_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"unbrick/remediate"
	"unbrick/remediate/driver/azure"
	"unbrick/remediate/driver/azure/azuretest"
)

// What may pass by itself is tried again, as late as Azure asks; what a person has to change says
// what that is. Nothing of the answer but code and message is shown.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		status        int
		code, message string
		again         bool
		want          string
	}{
		"throttled":  {429, "OperationNotAllowed", "The server rejected the request because too many requests have been received for this subscription.", true, "too many requests"},
		"concurrent": {409, "Conflict", "The request failed due to conflict with a concurrent request.", true, "(Conflict)"},
		"changed":    {412, "ConditionNotMet", "The condition is not met.", true, "(ConditionNotMet)"},
		"preempted":  {409, "OperationPreempted", "Operation execution has been preempted by a more recent operation.", true, "more recent"},
		"broken":     {503, "ServiceUnavailable", "", true, "Service Unavailable (ServiceUnavailable)"},
		"full":       {409, "SkuNotAvailable", "The requested size is not available.", true, "another size (az vm resize)"},
		"locked":     {409, "ScopeLocked", "The scope is locked.", false, "az lock delete"},
		"forbidden":  {403, "LinkedAuthorizationFailed", "it does not have permission to perform action 'Microsoft.Compute/disks/beginGetAccess/action' on the linked scope(s)", false, "'Microsoft.Compute/disks/beginGetAccess/action' on the linked scope(s) (LinkedAuthorizationFailed)\nthe role that unbrick needs"},
		"not so":     {409, "OperationNotAllowed", "Operation could not be completed as it results in exceeding approved cores quota.", false, "approved cores quota"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud()
			d, _, _ := newDriver(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					refuse(c.status, c.code, c.message)(w, r)
					return
				}
				cloud.ServeHTTP(w, r)
			}), nil)
			err := d.Enter(t.Context(), target(host), remediate.Image{})
			var retry *remediate.RetryError
			if errors.As(err, &retry) != c.again || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "----") {
				t.Errorf("%T: %v", err, err)
			}
			if c.again && retry.After < time.Second {
				t.Errorf("again after %v", retry.After)
			}
		})
	}
}

// nobody is a credential that is not there.
type nobody struct{}

func (nobody) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, &azidentity.AuthenticationFailedError{}
}

func TestNoLogin(t *testing.T) {
	d, _, _ := newDriver(t, newCloud(), func(o *azure.Options) { o.Credential = nobody{} })
	_, err := d.Observe(t.Context(), target(host))
	var retry *remediate.RetryError
	if err == nil || errors.As(err, &retry) || !strings.Contains(err.Error(), "log in: az login") {
		t.Errorf("%T: %v", err, err)
	}
}

// A helper that has as many disks as its size can have is asked again: others will be put back.
func TestFullHelper(t *testing.T) {
	c := newCloud()
	d, _, _ := newDriver(t, c, nil)
	c.Change("unbrick-helper", func(m *azuretest.Machine) { m.Most = 1 })
	err := d.Enter(t.Context(), target(host), remediate.Image{})
	var retry *remediate.RetryError
	if !errors.As(err, &retry) || !strings.Contains(err.Error(), "maximum number of data disks") || !strings.Contains(err.Error(), "more helpers") {
		t.Errorf("%v", err)
	}
	c.Change("unbrick-helper", func(m *azuretest.Machine) { m.Most = 2 })
	whole(t, d, target(host))
}
