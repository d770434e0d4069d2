package gce

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	api "unbrick/inventory/source/gce"
	"unbrick/remediate"
)

// A link is the API for as long as one call of the driver lasts.
type link struct {
	client *api.Client
	ctx    context.Context
}

func (l link) get(path string, into any) error { return l.client.Get(l.ctx, path, nil, into) }

// An operation is what the API makes of every request that changes something.
type operation struct {
	Name     string `json:"name"`
	SelfLink string `json:"selfLink"`
	Status   string `json:"status"` // PENDING, RUNNING, DONE
	HTTP     int    `json:"httpErrorStatusCode"`
	Error    struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	} `json:"error"`
}

// failure returns why an operation that is done did not do it.
func (o operation) failure() error {
	if len(o.Error.Errors) == 0 {
		return nil
	}
	return &api.Error{Status: o.HTTP, Reason: o.Error.Errors[0].Code, Message: o.Error.Errors[0].Message}
}

// chances is how many operations of the same request may have failed before.
const chances = 5

// change sends a request and waits until what it began is done. The request is the same as one
// that was sent before from the same state, unless that one failed: then it is the next one.
func (l link) change(what, path string, query url.Values, body any, state ...string) error {
	if query == nil {
		query = url.Values{}
	}
	for range chances {
		query.Set("requestId", requestID(append(state, path)...))
		var op operation
		if err := l.client.Post(l.ctx, path, query, body, &op); err != nil {
			return l.say(what, err)
		}
		old := op.Status == "DONE" && op.failure() != nil
		for op.Status != "DONE" {
			// It answers when the operation is done, and after two minutes in any case.
			if err := l.client.Post(l.ctx, api.Partial(op.SelfLink)+"/wait", nil, nil, &op); err != nil {
				return l.say(what+": cannot wait for operation "+op.Name, err)
			}
		}
		if !old {
			return l.say(what, op.failure())
		}
		state = append(state, op.Name)
	}
	return l.say(what, errors.New("it failed every time"))
}

// requestID makes a UUID of what a request is of.
func requestID(of ...string) string {
	b := sha256.Sum256([]byte(strings.Join(of, "\x00")))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80 // version 8: made as its maker likes (RFC 9562)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// later says when what may pass is worth another try.
var later = map[string]time.Duration{
	"resourceNotReady": 5 * time.Second, "RESOURCE_NOT_READY": 5 * time.Second,
	"resourceInUseByAnotherResource": 5 * time.Second, "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE": 5 * time.Second,
	"INTERNAL_ERROR": 10 * time.Second, "RESOURCE_OPERATION_RATE_EXCEEDED": 30 * time.Second,
	"ZONE_RESOURCE_POOL_EXHAUSTED": time.Minute, "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS": time.Minute,
	"QUOTA_EXCEEDED": time.Minute, "quotaExceeded": time.Minute,
}

// say puts an error into words: one that may pass is a *remediate.RetryError.
func (l link) say(what string, err error) error {
	if err == nil {
		return nil
	}
	if l.ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(l.ctx))
	}
	var lost *api.LostError
	var said *api.Error
	reason := ""
	if errors.As(err, &said) {
		reason = said.Reason
	}
	err = fmt.Errorf("%s: %w", what, err)
	switch after, passes := later[reason]; {
	case errors.As(err, &lost):
		return &remediate.RetryError{After: 5 * time.Second, Err: err}
	case api.Throttled(err):
		return &remediate.RetryError{After: 10 * time.Second, Err: err}
	case passes || said != nil && said.Status >= http.StatusInternalServerError:
		return &remediate.RetryError{After: max(after, 10*time.Second), Err: err}
	case strings.Contains(strings.ToUpper(reason), "CONDITION_NOT_MET"):
		return fmt.Errorf("%w\na policy of the organisation forbids it (constraints/compute): ask who keeps those", err)
	}
	return err
}
