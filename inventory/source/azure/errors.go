package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// A Refusal is a request that Azure did not do, or an operation that it began and did not end.
type Refusal struct {
	Status  int // of the answer: 200 where an operation failed that had begun
	Code    string
	Message string // names the right that is missing, where one is
	After   time.Duration
}

// Error says code and message in one line.
func (r *Refusal) Error() string {
	text := strings.Join(strings.Fields(r.Message), " ")
	if text == "" {
		text = http.StatusText(r.Status)
	}
	if r.Code == "" {
		return fmt.Sprintf("%s (status %d)", text, r.Status)
	}
	return fmt.Sprintf("%s (%s)", text, r.Code)
}

// ErrLogin means that nobody is logged in, or that Azure does not take the credential.
var ErrLogin = errors.New("there is no credential that Azure takes")

const loginHint = "\nlog in: az login, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or give this machine a managed identity"

// Explain makes a *Refusal of what the SDK returns, whose own text is a page long. Of a login
// that failed it says how to log in, and nothing of what was tried: that may hold secrets.
func Explain(err error) error {
	var said *azcore.ResponseError
	var login *azidentity.AuthenticationFailedError
	var none interface{ NonRetriable() }
	switch {
	case err == nil || errors.Is(err, ErrLogin):
		return err
	case errors.As(err, &said):
		return refusal(said)
	case errors.As(err, &login), errors.As(err, &none) && strings.Contains(err.Error(), "redential"):
		return fmt.Errorf("%w%s", ErrLogin, loginHint)
	}
	return err
}

func refusal(e *azcore.ResponseError) *Refusal {
	r := &Refusal{Status: e.StatusCode, Code: e.ErrorCode}
	if e.RawResponse == nil {
		return r
	}
	r.After = after(e.RawResponse.Header)
	b, err := runtime.Payload(e.RawResponse)
	if err != nil {
		return r
	}
	// An answer has its error at the top or in "error", a failed operation in "error".
	var body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Error   struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(b, &body) == nil {
		r.Message = body.Error.Message
		if r.Message == "" {
			r.Message = body.Message
		}
		if r.Code == "" {
			r.Code = body.Error.Code + body.Code
		}
	}
	return r
}

// after is how long Azure asks to wait.
func after(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, 5*time.Minute)
}
