package swap_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"unbrick/remediate/swap"
)

// answers answers requests as it is told.
type answers func(*http.Request) *http.Response

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) { return a(r), nil }

func answer(status int, headers ...string) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("SlowDown please"))}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

func ask(t *testing.T, p *swap.Pace) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://cloud.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// TestPace calls a platform that bears four requests a second, beginning at forty: what is
// refused becomes little, and the rate comes near to what is borne.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bears = 4
		var second time.Time
		n := 0
		p := &swap.Pace{PerSecond: 40, Next: answers(func(*http.Request) *http.Response {
			if time.Since(second) >= time.Second {
				second, n = time.Now(), 0
			}
			if n++; n > bears {
				return answer(http.StatusTooManyRequests)
			}
			return answer(http.StatusOK)
		})}
		fine, refused := 0, 0
		for start := time.Now(); time.Since(start) < 2*time.Minute; {
			status := ask(t, p)
			if time.Since(start) < time.Minute {
				continue // it learns
			}
			if status == http.StatusOK {
				fine++
			} else {
				refused++
			}
		}
		if fine < 60*bears/2 || refused > fine {
			t.Errorf("in a minute %d requests went well and %d were refused, of %d that would have been borne", fine, refused, 60*bears)
		}
	})
}

// A platform that says when to come again is left alone until then, by all.
func TestPaceRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := true
		p := &swap.Pace{Next: answers(func(*http.Request) *http.Response {
			if busy {
				return answer(http.StatusServiceUnavailable, "Retry-After", "30")
			}
			return answer(http.StatusOK)
		})}
		start := time.Now()
		ask(t, p)
		busy = false
		ask(t, p)
		if got := time.Since(start); got < 30*time.Second || got > 40*time.Second {
			t.Errorf("asked again after %v", got)
		}
		busy = true
		ask(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://cloud.test/", nil)
		if _, err := p.RoundTrip(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a request that may not wait so long: %v", err)
		}
	})
}

// The body of a refusal can be read by who comes after.
func TestThrottledBody(t *testing.T) {
	r := answer(http.StatusForbidden)
	said := func(b []byte) bool { return bytes.Contains(b, []byte("SlowDown")) }
	if !swap.ThrottledBody(r, said) {
		t.Error("not seen")
	}
	if b, err := io.ReadAll(r.Body); err != nil || string(b) != "SlowDown please" {
		t.Errorf("%q, %v", b, err)
	}
	if swap.ThrottledBody(answer(http.StatusOK), said) {
		t.Error("an answer that is no error")
	}
}
