package rest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

type readingKey struct{}

type brieflyKey struct{}

// Briefly marks requests that somebody waits for: a service that cannot be reached, or is down,
// is not asked again.
func Briefly(ctx context.Context) context.Context { return context.WithValue(ctx, brieflyKey{}, true) }

// Brief says whether requests are marked so: for clients that are not of this package.
func Brief(ctx context.Context) bool { return ctx.Value(brieflyKey{}) != nil }

// reading marks a request as one that changes nothing.
func reading(ctx context.Context) context.Context { return context.WithValue(ctx, readingKey{}, true) }

// again says whether a request is to be repeated: if it only reads and the service is down or
// busy. One that changes something is repeated where the service has refused it unread.
func (c *Client) again(ctx context.Context, res *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	brief := Brief(ctx)
	if err != nil {
		return !brief && ctx.Value(readingKey{}) != nil && !errors.Is(err, errRedirect), nil
	}
	switch res.StatusCode {
	case http.StatusTooManyRequests:
		return true, nil
	case http.StatusServiceUnavailable, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		if brief {
			return false, nil
		}
	}
	switch res.StatusCode {
	case http.StatusServiceUnavailable:
		return ctx.Value(readingKey{}) != nil || res.Header.Get("Retry-After") != "", nil
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
		return ctx.Value(readingKey{}) != nil, nil
	}
	return false, nil
}

// pause is how long to wait before a request is repeated: as long as the service says, but not
// longer than Options.MaxWait, and a random part more, so that many clients do not come back
// at once; else twice as long each time.
func (c *Client) pause(_, _ time.Duration, try int, res *http.Response) time.Duration {
	wait := min(500*time.Millisecond<<min(try, 8), c.opt.MaxWait)
	if res != nil {
		if told, ok := retryAfter(res.Header, time.Now()); ok {
			wait = min(told, c.opt.MaxWait)
		}
	}
	return wait + rand.N(wait/4+time.Millisecond)
}

// retryAfter reads when to come back: seconds or a date as in RFC 9110, or a time in seconds
// since 1970, as CrowdStrike's API has it.
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	if at, err := strconv.ParseInt(h.Get("X-RateLimit-RetryAfter"), 10, 64); err == nil {
		return max(time.Unix(at, 0).Sub(now), 0), true
	}
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}
