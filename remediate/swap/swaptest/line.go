package swaptest

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"unbrick/remediate/driver/drivertest"
)

// A Line stands between a platform's driver and the server that plays its API. It counts the
// requests, and loses, throttles and refuses as it is told. It is safe for concurrent use.
type Line struct {
	// URL is where the line listens.
	URL string

	next     http.Handler
	changes  func(*http.Request) bool
	throttle http.HandlerFunc
	refuse   http.HandlerFunc

	mu       sync.Mutex
	requests []bool
	cut      int // requests from now; -1: none
	loss     drivertest.Loss
	dead     bool
	hanging  bool
	closed   chan struct{}
}

// An API is a platform's, as the line needs to know it.
type API struct {
	Server  http.Handler
	Changes func(*http.Request) bool // whether a request is there to change something; it may read the form or restore the body
	// Throttle and Refuse answer as the platform does, with its own error codes.
	Throttle, Refuse http.HandlerFunc
}

// NewLine serves the API until the test ends.
func NewLine(t testing.TB, api API) *Line {
	l := &Line{next: api.Server, changes: api.Changes, throttle: api.Throttle, refuse: api.Refuse, cut: -1, closed: make(chan struct{})}
	server := httptest.NewServer(l)
	l.URL = server.URL
	t.Cleanup(func() {
		close(l.closed)
		server.CloseClientConnections()
		server.Close()
	})
	return l
}

// ServeHTTP implements http.Handler.
func (l *Line) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	loss, hanging := l.admit(l.changes(r))
	switch {
	case hanging:
		select {
		case <-r.Context().Done():
		case <-l.closed:
		}
		panic(http.ErrAbortHandler)
	case loss == drivertest.LostBefore:
		panic(http.ErrAbortHandler)
	case loss == drivertest.Throttled:
		l.throttle(w, r)
	case loss == drivertest.Forbidden:
		l.refuse(w, r)
	case loss == "":
		l.next.ServeHTTP(w, r)
	default:
		l.next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
}

// admit counts a request and says how it is lost.
func (l *Line) admit(changes bool) (loss drivertest.Loss, hanging bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return drivertest.LostBefore, false
	}
	l.requests = append(l.requests, changes)
	if l.cut == 0 {
		loss = l.loss
		l.dead = loss == drivertest.Death
	}
	l.cut = max(l.cut-1, -1)
	return loss, l.hanging
}

// Requests returns those so far: true where one was there to change something.
func (l *Line) Requests() []bool { l.mu.Lock(); defer l.mu.Unlock(); return l.requests }

// Cut orders a loss at the n-th request from now; 0 is the next.
func (l *Line) Cut(n int, loss drivertest.Loss) {
	l.mu.Lock()
	l.cut, l.loss = n, loss
	l.mu.Unlock()
}

// Revive ends a Death.
func (l *Line) Revive() { l.mu.Lock(); l.dead = false; l.mu.Unlock() }

// Hang has no request answered from now on.
func (l *Line) Hang() { l.mu.Lock(); l.hanging = true; l.mu.Unlock() }
