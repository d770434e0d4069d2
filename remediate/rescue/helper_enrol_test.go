package rescue_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

const aMachine = "ec2 eu-west-1/i-0123456789abcdef0"

func (l *lab) enrolment() rescue.Enrolment {
	l.t.Helper()
	sum := sha256.Sum256([]byte("the agent"))
	e, err := l.s.Helpers().Enrol(l.t.Context(), rescue.EnrolOrder{Machine: aMachine, Agent: hex.EncodeToString(sum[:]),
		HelperOrder: rescue.HelperOrder{URL: l.s.AgentURL(), Name: "helper-1", IssuedBy: "ann", Until: l.now().Add(time.Hour)}})
	if err != nil {
		l.t.Fatal(err)
	}
	return e
}

func (l *lab) now() time.Time {
	if l.cfg.Now == nil {
		return time.Now()
	}
	return l.cfg.Now()
}

// held gives the server a port that it gets again when it is started again.
func held(t *testing.T) func(*lab) {
	port := ports.ForTest(t, ports.TCP)
	return func(l *lab) { l.cfg.AgentListen = port.Address() }
}

// enrol is what the agent on the machine does with what the script tells it.
func (l *lab) enrol(e rescue.Enrolment) (wire.Config, error) {
	o := quick
	o.Log = l.cfg.Log
	return agent.Enrol(l.t.Context(), wire.Config{URL: e.URL, Pin: e.Pin, Token: e.Token}, e.ID, o)
}

func (l *lab) mustEnrol(e rescue.Enrolment) wire.Config {
	l.t.Helper()
	cfg, err := l.enrol(e)
	if err != nil {
		l.t.Fatal(err)
	}
	return cfg
}

func (l *lab) standing() rescue.Standing {
	l.t.Helper()
	s, err := l.s.Helpers().Standing(l.t.Context(), aMachine)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (l *lab) check(cfg wire.Config) error { return agent.Check(l.t.Context(), cfg, quick) }

// A machine that enrolled works as any helper does, and neither the token nor what it became is
// in the records or the log.
func TestEnrol(t *testing.T) {
	l := newLab(t, nil)
	e := l.enrolment()
	if s := l.standing(); s.Helper != "" {
		t.Errorf("%+v before anybody enrolled", s)
	}
	cfg := l.mustEnrol(e)
	if s := l.standing(); s.Helper != cfg.Helper.ID || s.Met || s.From != "127.0.0.1" || !s.Until.Equal(cfg.Helper.Until) {
		t.Errorf("%+v, enrolled as %+v", s, cfg.Helper)
	}
	if err := l.check(cfg); err != nil {
		t.Error(err)
	}
	r := &rack{}
	l.serve(r, cfg)
	l.lend("helper-1")
	r.hang("unbrick-1", l.machine.volumes[0])
	rep, err := l.s.Repair(t.Context(), l.target, l.pb)
	if err != nil || len(rep.Result.Removed()) != 1 || l.has(bad) {
		t.Errorf("%+v, %v", rep, err)
	}
	if s := l.standing(); !s.Met {
		t.Errorf("%+v after it worked", s)
	}
	l.nowhere(e.Token, cfg.Token)
}

// nowhere checks that secrets are not in the records or the log.
func (l *lab) nowhere(secrets ...string) {
	l.t.Helper()
	var all strings.Builder
	for key, value := range l.records.All() {
		all.WriteString(key + string(value))
	}
	all.WriteString(l.logs.String())
	for _, s := range secrets {
		if len(s) < 30 || strings.Contains(all.String(), s) {
			l.t.Errorf("%q is on record or in the log", s)
		}
	}
}

// The second that uses a token is refused, and what the first got is revoked: both are told.
func TestEnrolTwice(t *testing.T) {
	l := newLab(t, nil)
	e := l.enrolment()
	thief := l.mustEnrol(e)
	served := l.serve(&rack{}, thief)
	for !l.standing().Met { // until it is at work
		time.Sleep(time.Millisecond)
	}
	_, err := l.enrol(e)
	wantErr(t, err, "was used before", "from 127.0.0.1", "revoked", "enrol again")
	wantErr(t, <-served, "taken out of use", "used twice, from 127.0.0.1")
	if s := l.standing(); s.Helper != "" {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(l.logs.String(), "SECURITY") {
		t.Error("the log does not say so")
	}
	again := l.mustEnrol(l.enrolment())
	if err := l.check(again); err != nil || again.Token == thief.Token {
		t.Errorf("enrolled again: %v", err)
	}
	l.nowhere(thief.Token, again.Token, e.Token)
}

// Who comes long after with a token that was used does no harm.
func TestEnrolLongAfter(t *testing.T) {
	shift := time.Duration(0)
	l := newLab(t, func(l *lab) { l.cfg.Now = func() time.Time { return time.Now().Add(shift) } })
	e := l.enrolment()
	cfg := l.mustEnrol(e)
	shift = 31 * time.Minute
	_, err := l.enrol(e)
	wantErr(t, err, "was used at")
	if err := l.check(cfg); err != nil {
		t.Error(err)
	}
}

// What is void, too old or made up gets nothing.
func TestEnrolRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *lab, e *rescue.Enrolment)
		want   string
	}{
		"void": {func(l *lab, e *rescue.Enrolment) {
			for range 2 {
				if err := l.s.Helpers().Void(l.t.Context(), e.ID, "ann"); err != nil {
					l.t.Fatal(err)
				}
			}
		}, "made void"},
		"another was made": {func(l *lab, e *rescue.Enrolment) { l.enrolment() }, "another was made for this machine"},
		"too old": {func(l *lab, e *rescue.Enrolment) {
			l.cfg.Now = func() time.Time { return time.Now().Add(11 * time.Minute) }
			l.s.Close()
			l.start()
		}, "was good until"},
		"another token":       {func(l *lab, e *rescue.Enrolment) { e.Token = strings.Repeat("0", len(e.Token)) }, "did not make this enrolment"},
		"another's id":        {func(l *lab, e *rescue.Enrolment) { e.ID = "00000000" }, "did not make this enrolment"},
		"no id":               {func(l *lab, e *rescue.Enrolment) { e.ID = "%2e%2e" }, "did not make this enrolment"},
		"a helper's":          {func(l *lab, e *rescue.Enrolment) { e.Token = l.newHelper("helper-1").Token }, "did not make this enrolment"},
		"a server with a key": {func(l *lab, e *rescue.Enrolment) { e.Pin = strings.Repeat("0", 64) }, "another key"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, held(t))
			e := l.enrolment()
			c.change(l, &e)
			o := quick
			o.Pause = time.Minute                                          // one try
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // what is no answer is asked for again
			defer cancel()
			_, err := agent.Enrol(ctx, wire.Config{URL: e.URL, Pin: e.Pin, Token: e.Token}, e.ID, o)
			wantErr(t, err, c.want)
			for key := range l.records.All() {
				if strings.HasPrefix(key, "enrolled/") {
					t.Error("it was taken for enrolled")
				}
			}
		})
	}
}

// Enrolled again, a machine has one credential, the new one.
func TestEnrolAgain(t *testing.T) {
	l := newLab(t, nil)
	old := l.mustEnrol(l.enrolment())
	cfg := l.mustEnrol(l.enrolment())
	wantErr(t, l.check(old), "enrolled again")
	if err := l.check(cfg); err != nil || l.standing().Helper != cfg.Helper.ID {
		t.Error(err, l.standing())
	}
}

// The reply is lost, and the server is another process after that: the same asking gets the same
// answer, and an enrolment that was made before is good.
func TestEnrolRestarted(t *testing.T) {
	for _, handled := range []bool{false, true} {
		l := newLab(t, held(t))
		e := l.enrolment()
		b := &breaker{path: wire.EnrolPath(e.ID), handled: handled, hit: make(chan struct{})}
		l.s.Close()
		l.cfg = l.cfg.Around(b.around)
		l.start()
		up := make(chan struct{})
		go func() {
			defer close(up)
			<-b.hit
			l.s.Close()
			l.start()
		}()
		cfg := l.mustEnrol(e)
		<-up
		if err := l.check(cfg); err != nil || l.standing().Helper != cfg.Helper.ID {
			t.Error(err, l.standing())
		}
	}
}

// The agent itself goes to who may enrol, and to nobody else.
func TestEnrolAgentFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "unbrick-agent")
	if err := os.WriteFile(file, []byte("the agent"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(l *lab) { l.cfg.Agent = file })
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	get := func(e rescue.Enrolment) (int, string) {
		req := httptest.NewRequest(http.MethodGet, e.URL+wire.EnrolAgentPath(e.ID), nil)
		req.RequestURI = ""
		req.Header.Set("Authorization", "Bearer "+e.Token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	e := l.enrolment()
	if code, text := get(e); code != 200 || text != "the agent" {
		t.Errorf("%d %q", code, text)
	}
	stranger := e
	stranger.Token = "x"
	if code, _ := get(stranger); code != http.StatusUnauthorized {
		t.Errorf("%d for a stranger", code)
	}
	os.Remove(file)
	if code, text := get(e); code != http.StatusNotFound || !strings.Contains(text, "no agent to send") {
		t.Errorf("%d %q", code, text)
	}
}
