package swap

import (
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A Pace keeps the requests to a platform's API at a rate that it bears, which nobody knows
// beforehand: others use the same account. The rate halves when a request is throttled, at most
// once a second, and grows by a twentieth of the first rate with every second, once none was
// throttled for ten. It repeats nothing: that is for who knows what may be repeated. It is safe
// for concurrent use.
type Pace struct {
	Next      http.RoundTripper         // http.DefaultTransport if nil
	PerSecond float64                   // to begin with, and at most; 20 if 0
	Throttled func(*http.Response) bool // status 429 or 503 if nil

	once    sync.Once
	limiter *rate.Limiter

	mu      sync.Mutex
	changed time.Time // when the rate was last changed
	refused time.Time // when a request was last throttled
	closed  time.Time // no request before that: the platform said so
}

// slowest is the share of the first rate that is always tried.
const slowest = 0.05

// calm is how long nothing may have been throttled before the rate grows.
const calm = 10 * time.Second

// longest is how long a platform may ask to be left alone.
const longest = 2 * time.Minute

// RoundTrip implements http.RoundTripper. It waits for its turn as long as the context of the
// request lasts.
func (p *Pace) RoundTrip(r *http.Request) (*http.Response, error) {
	p.once.Do(func() {
		if p.PerSecond <= 0 {
			p.PerSecond = 20
		}
		p.limiter = rate.NewLimiter(rate.Limit(p.PerSecond), max(1, int(p.PerSecond)))
	})
	if err := p.wait(r); err != nil {
		if r.Body != nil {
			r.Body.Close() // as a RoundTripper must
		}
		return nil, err
	}
	next := p.Next
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(r)
	if err == nil {
		p.learn(p.throttled(resp), after(resp))
	}
	return resp, err
}

// wait returns when the request may be sent.
func (p *Pace) wait(r *http.Request) error {
	for {
		p.mu.Lock()
		left := time.Until(p.closed)
		p.mu.Unlock()
		if left <= 0 {
			return p.limiter.Wait(r.Context())
		}
		select {
		case <-time.After(left):
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}

// learn sets the rate by what became of a request.
func (p *Pace) learn(throttled bool, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if throttled {
		p.refused = now
		if until := now.Add(wait); until.After(p.closed) {
			p.closed = until
		}
	}
	if now.Sub(p.changed) < time.Second {
		return // what was sent before the last change says nothing of it
	}
	per := float64(p.limiter.Limit())
	switch {
	case throttled:
		per = max(per/2, p.PerSecond*slowest)
	case per < p.PerSecond && now.Sub(p.refused) >= calm:
		per = min(per+p.PerSecond/20, p.PerSecond)
	default:
		return
	}
	p.changed = now
	p.limiter.SetLimit(rate.Limit(per))
	p.limiter.SetBurst(max(1, int(per)))
}

func (p *Pace) throttled(r *http.Response) bool {
	if p.Throttled != nil {
		return p.Throttled(r)
	}
	return r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusServiceUnavailable
}

// after returns how long a response asks to wait, in whole seconds or until a date (RFC 9110,
// section 10.2.3).
func after(r *http.Response) time.Duration {
	text := r.Header.Get("Retry-After")
	wait := time.Duration(0)
	if n, err := strconv.Atoi(text); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), longest)
}

// ThrottledBody says whether a response is an error that says one of the given things: for
// platforms that throttle with a status that has other meanings too. The body can still be read.
func ThrottledBody(r *http.Response, said func(body []byte) bool) bool {
	if r.StatusCode < 400 {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	r.Body = &replay{r.Body, b}
	return err == nil && said(b)
}

// replay reads again what was read.
type replay struct {
	io.ReadCloser
	head []byte
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	return r.ReadCloser.Read(p)
}
