package rescue_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
)

// The messages of a conversation with one locked volume and one faulty file.
var messages = []string{"/v1/hello", "/v1/keys", "/v1/quarantine/", "/v1/report"}

// A breaker drops one message, before it is handled or when its answer is lost, and says so.
type breaker struct {
	path    string
	handled bool
	hit     chan struct{}
	done    atomic.Bool
}

func (b *breaker) around(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, b.path) || b.done.Swap(true) {
			h.ServeHTTP(w, r)
			return
		}
		if b.handled {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if rec.Code == http.StatusConflict { // not the message yet
				b.done.Store(false)
				http.Error(w, "not now", rec.Code)
				return
			}
		}
		close(b.hit)
		panic(http.ErrAbortHandler)
	})
}

// lockedLab is a lab whose one volume is locked, with its key in escrow.
func lockedLab(t *testing.T, change func(l *lab)) *lab {
	return newLab(t, func(l *lab) {
		l.escrow.filed = append(l.escrow.filed, l.lock(l.machine.volumes[0]))
		if change != nil {
			change(l)
		}
	})
}

// engine repairs as the engine does: after the server was closed, again with the new one.
func (l *lab) engine(ctx context.Context, s *rescue.Server, restarted <-chan *rescue.Server) (remediate.Report, error) {
	for {
		rep, err := s.Repair(ctx, l.target, l.pb)
		if err == nil || !strings.Contains(err.Error(), "server was closed") {
			return rep, err
		}
		s = <-restarted
	}
}

func TestServerRestartedAtEveryMessage(t *testing.T) {
	for _, path := range messages {
		for _, handled := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s handled %t", path, handled), func(t *testing.T) {
				t.Parallel()
				b := &breaker{path: path, handled: handled, hit: make(chan struct{})}
				l := lockedLab(t, func(l *lab) { l.cfg = l.cfg.Around(b.around) })
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				old, pin := l.s, l.s.Pin()
				restarted, up := make(chan *rescue.Server, 1), make(chan struct{})
				agentDone := l.goAgent(l.boot())
				go func() {
					<-b.hit
					old.Close()
					l.start()
					restarted <- l.s
					close(up)
				}()
				rep, err := l.engine(ctx, old, restarted)
				if err != nil {
					t.Fatalf("repair: %v\n%s", err, l.logs)
				}
				<-up
				a := <-agentDone
				if a.err != nil {
					t.Errorf("agent: %v", a.err)
				}
				if l.s.Pin() != pin {
					t.Error("the pin changed by a restart")
				}
				if l.has(bad) || !l.has(good) || len(rep.Result.Removed()) != 1 || l.machine.volumes[0].writes != 1 {
					t.Errorf("repaired once: %+v, opened for writing %d times", rep, l.machine.volumes[0].writes)
				}
			})
		}
	}
}

func TestLostReplies(t *testing.T) {
	for _, path := range messages {
		t.Run(path, func(t *testing.T) {
			b := &breaker{path: path, handled: true, hit: make(chan struct{})}
			l := lockedLab(t, func(l *lab) { l.cfg = l.cfg.Around(b.around) })
			rep, err, a := l.repair()
			if err != nil || a.err != nil || len(rep.Result.Removed()) != 1 {
				t.Fatalf("repair: %+v, %v; agent: %v", rep, err, a.err)
			}
			<-b.hit
			want := 1
			if path == "/v1/keys" {
				want = 2 // the key went out twice, and both are on the ledger
			}
			if len(l.ledger.releases) != want {
				t.Errorf("%d releases on the ledger, want %d", len(l.ledger.releases), want)
			}
		})
	}
}

func TestEarlyHello(t *testing.T) {
	waits := make(chan struct{}, 100)
	l := newLab(t, func(l *lab) {
		l.cfg = l.cfg.Around(func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				if rec.Code == http.StatusConflict {
					select {
					case waits <- struct{}{}:
					default:
					}
				}
				w.WriteHeader(rec.Code)
				w.Write(rec.Body.Bytes())
			})
		})
	})
	done := l.goAgent(l.boot())
	<-waits
	<-waits // it asks again
	rep, err := l.s.Repair(t.Context(), l.target, l.pb)
	if err != nil || rep.Verdict() != playbooks.Both {
		t.Errorf("repair: %+v, %v", rep, err)
	}
	if a := <-done; a.err != nil {
		t.Errorf("agent: %v", a.err)
	}
}

// Another process that shares directory and records returns the same image and report.
func TestTwoProcesses(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.cfg
	cfg.AgentListen, cfg.ImageListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.AgentURL, cfg.ImageURL = l.s.AgentURL(), l.s.ImageURL()
	other, err := rescue.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	one, err1 := l.s.Image(t.Context(), l.target)
	two, err2 := other.Image(t.Context(), l.target)
	if one != two || err1 != nil || err2 != nil || l.s.Pin() != other.Pin() {
		t.Errorf("images %q, %q; errors %v, %v", one, two, err1, err2)
	}
	elsewhere := make(chan error, 1)
	go func() {
		rep, err := other.Repair(t.Context(), l.target, l.pb)
		if err == nil && len(rep.Result.Removed()) != 1 {
			err = fmt.Errorf("%+v", rep)
		}
		elsewhere <- err
	}()
	if _, err, a := l.repair(); err != nil || a.err != nil {
		t.Errorf("repair: %v, agent: %v", err, a.err)
	}
	if err := <-elsewhere; err != nil {
		t.Errorf("in the other process: %v", err)
	}
}
