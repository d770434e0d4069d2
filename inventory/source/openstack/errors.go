package openstack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
)

// An Error is a refusal in the cloud's own words: the policy that forbids it, for instance, by
// the name that it has there (os_compute_api:os-rescue).
type Error struct {
	Status  int
	Message string
}

func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = http.StatusText(e.Status)
	}
	return fmt.Sprintf("OpenStack says %d: %s", e.Status, text)
}

// Throttled says whether there were too many requests. Nova of old says so with 413.
func (e *Error) Throttled() bool {
	return e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestEntityTooLarge
}

// Passing says whether the same request may be answered later.
func (e *Error) Passing() bool { return e.Throttled() || e.Status >= http.StatusInternalServerError }

// A LostError says that a request or its answer was lost: whether it was done is not known.
type LostError struct{ Err error }

func (e *LostError) Error() string { return "cannot reach OpenStack: " + e.Err.Error() }
func (e *LostError) Unwrap() error { return e.Err }

// Is says whether the cloud refused with that status.
func Is(err error, status int) bool {
	var said *Error
	return errors.As(err, &said) && said.Status == status
}

// Explain makes an [*Error] or a [*LostError] of what the library returned. An error of the
// library repeats addresses and whole answers; of those only the message is kept.
func Explain(ctx context.Context, err error) error {
	var refused gophercloud.ErrUnexpectedResponseCode
	var after *gophercloud.ErrErrorAfterReauthentication
	var unable *gophercloud.ErrUnableToReauthenticate
	var lost *url.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &unable):
		return fmt.Errorf("the token has ended, and there is no other: %w", Explain(ctx, unable.ErrReauth))
	case errors.As(err, &after):
		return Explain(ctx, after.ErrOriginal)
	case errors.As(err, &refused):
		return &Error{refused.Actual, message(refused.Body)}
	case errors.As(err, &lost):
		return &LostError{lost.Err}
	}
	return err
}

// message returns what an error of Nova, Keystone or Glance says: {"conflictingRequest":
// {"message": …}}, {"error": {"message": …}}, or a page with a title.
func message(body []byte) string {
	var named map[string]json.RawMessage
	if json.Unmarshal(body, &named) == nil {
		for _, raw := range named {
			var said struct {
				Message string `json:"message"`
			}
			if json.Unmarshal(raw, &said) == nil && said.Message != "" {
				return tidy(said.Message)
			}
		}
		var text string
		if json.Unmarshal(named["message"], &text) == nil {
			return tidy(text)
		}
		return ""
	}
	if _, rest, ok := strings.Cut(string(body), "<title>"); ok {
		title, _, _ := strings.Cut(rest, "</title>")
		return tidy(title)
	}
	return ""
}

// tidy makes a text fit for one line of a terminal.
func tidy(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 400 {
		text = string(r[:400]) + "…"
	}
	return text
}
