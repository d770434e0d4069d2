package gce

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A LostError says that a request or its answer was lost: whether it was done is not known.
type LostError struct{ Err error }

func (e *LostError) Error() string { return "cannot reach Compute Engine: " + e.Err.Error() }
func (e *LostError) Unwrap() error { return e.Err }

// An Error is a refusal of the API, in its own words: the permission that is missing, for
// instance, by Google's name of it.
type Error struct {
	Status  int
	Reason  string // "forbidden", "rateLimitExceeded", "resourceNotReady", …; of an operation "ZONE_RESOURCE_POOL_EXHAUSTED", …
	Message string
}

func (e *Error) Error() string {
	text := strings.TrimRight(tidy(e.Message), ". ")
	if text == "" {
		text = http.StatusText(e.Status)
	}
	return fmt.Sprintf("Compute Engine says %d %s: %s", e.Status, e.Reason, text)
}

// readError reads the body of a refusal: {"error":{"code":…,"message":…,"errors":[{"reason":…}]}}.
func readError(status int, body []byte) *Error {
	var said struct {
		Error struct {
			Message string `json:"message"`
			Errors  []struct {
				Reason string `json:"reason"`
			} `json:"errors"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &said) // a proxy's words are no JSON
	e := &Error{Status: status, Message: said.Error.Message}
	if len(said.Error.Errors) > 0 {
		e.Reason = said.Error.Errors[0].Reason
	}
	return e
}

// throttles are the reasons that say that requests come too fast: Compute Engine's rate quotas
// answer 403 with them (cloud.google.com/compute/api-quota). A quotaExceeded is another thing:
// more than the project may have.
var throttles = []string{"rateLimitExceeded", "userRateLimitExceeded"}

// SaysThrottled says whether the body of a refusal is about the rate of requests.
func SaysThrottled(body []byte) bool {
	return slices.Contains(throttles, readError(0, body).Reason)
}

// Throttled says whether an error is about the rate of requests.
func Throttled(err error) bool {
	var said *Error
	return errors.As(err, &said) && (said.Status == http.StatusTooManyRequests || slices.Contains(throttles, said.Reason))
}

// Is says whether the API refused with that status.
func Is(err error, status int) bool {
	var said *Error
	return errors.As(err, &said) && said.Status == status
}

// passing says whether a request that only reads may be answered when it is sent again.
func passing(err error) bool {
	var lost *LostError
	var said *Error
	return errors.As(err, &lost) || Throttled(err) || errors.As(err, &said) && said.Status >= 500
}

// tidy makes a text fit for one line of a terminal.
func tidy(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, text)
	if r := []rune(text); len(r) > 400 {
		text = string(r[:400]) + "…"
	}
	return text
}
