package rescue_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/bitlocker/keytest"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// raw is an agent by hand: it says what it is told to.
type raw struct {
	t   testing.TB
	l   *lab
	cfg wire.Config
	key hpke.PrivateKey
}

func newRaw(t testing.TB, l *lab, cfg wire.Config) *raw {
	key, err := hpke.DHKEM(ecdh.X25519()).GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return &raw{t, l, cfg, key}
}

// do sends a message and returns the status and the answer.
func (r *raw) do(method, path string, body any) (int, string) {
	r.t.Helper()
	b, ok := body.([]byte)
	if !ok {
		b, _ = json.Marshal(body)
	}
	req, _ := http.NewRequestWithContext(r.t.Context(), method, r.cfg.URL+path, bytes.NewReader(b))
	req.Header.Set("Authorization", "Bearer "+r.cfg.Token)
	req.Header.Set(wire.SessionHeader, wire.Session(r.key.PublicKey().Bytes()))
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer)
}

func (r *raw) hello() wire.Hello {
	return wire.Hello{Version: wire.Version, Agent: "raw", Identity: r.l.machine.id, PublicKey: r.key.PublicKey().Bytes()}
}

// want sends a message and checks status and answer.
func (r *raw) want(code int, word, method, path string, body any) string {
	r.t.Helper()
	got, answer := r.do(method, path, body)
	if got != code || !strings.Contains(answer, word) {
		r.t.Errorf("%s %s: %d %q; want %d and %q", method, path, got, answer, code, word)
	}
	return answer
}

// A waiting is a Repair that runs.
type waiting struct {
	rep remediate.Report
	err error
}

// atRepair begins a Repair and returns when agents are let in.
func (l *lab) atRepair(cfg wire.Config) <-chan waiting {
	l.t.Helper()
	done := make(chan waiting, 1)
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	l.t.Cleanup(cancel)
	go func() {
		rep, err := l.s.Repair(ctx, l.target, l.pb)
		done <- waiting{rep, err}
	}()
	probe := newRaw(l.t, l, cfg)
	for {
		code, _ := probe.do("POST", "/v1/hello", wire.Hello{Version: wire.Version, PublicKey: []byte("none")})
		if code != http.StatusConflict { // the empty key is refused, and claims nothing
			return done
		}
	}
}

func TestTokenServesOneAgent(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.boot()
	done := l.atRepair(cfg)
	first, second := newRaw(t, l, cfg), newRaw(t, l, cfg)
	second.want(403, "say hello first", "POST", "/v1/keys", wire.KeyRequest{})
	first.want(200, "pc1", "POST", "/v1/hello", first.hello())
	first.want(200, "pc1", "POST", "/v1/hello", first.hello())
	for _, path := range []string{"/v1/hello", "/v1/keys", "/v1/report"} {
		second.want(403, "belongs to the agent", "POST", path, second.hello())
	}
	second.want(403, "belongs to the agent", "PUT", "/v1/quarantine/"+strings.Repeat("0", 64), []byte("x"))
	first.want(204, "", "POST", "/v1/report", report(playbooks.Good))
	first.want(204, "", "POST", "/v1/report", report(playbooks.Good))
	first.want(403, "stands", "POST", "/v1/report", report(playbooks.Absent))
	if w := <-done; w.err != nil || w.rep.Verdict() != playbooks.Good {
		t.Errorf("repair: %+v", w)
	}
	if !strings.Contains(l.logs.String(), "SECURITY") {
		t.Error("the second agent is not in the log")
	}
}

// report is that of a host with one volume of this verdict.
func report(v playbooks.Verdict) wire.Report {
	return wire.Report{Result: playbooks.Result{Playbook: "p", Volumes: []playbooks.VolumeResult{
		{Volume: "C", Verdict: v, Findings: []playbooks.Finding{{Root: "Windows", Step: "s", Verdict: v}}}}}}
}

func TestNoToken(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.boot()
	for _, token := range []string{"", "x", strings.Repeat("a", 32), strings.ToUpper(cfg.Token)} {
		cfg.Token = token
		r := newRaw(t, l, cfg)
		r.want(401, "token", "POST", "/v1/hello", r.hello())
		r.want(401, "token", "POST", "/v1/keys", wire.KeyRequest{})
		r.want(401, "token", "POST", "/v1/report", report(playbooks.Good))
	}
}

func TestWrongHostBooted(t *testing.T) {
	l := lockedLab(t, func(l *lab) { l.machine.id.Serial = "OTHER1" })
	_, err, a := l.repair()
	if !final(err) {
		t.Errorf("%v is not final", err)
	}
	wantErr(t, err, "pc1", "B5TK1", "OTHER1")
	wantErr(t, a.err, "wrong host")
	if !l.has(bad) || len(l.ledger.releases) != 0 {
		t.Error("something was done to the wrong host")
	}
	if _, err := l.s.Repair(t.Context(), l.target, l.pb); !final(err) {
		t.Errorf("asked again: %v", err)
	}
}

func TestNobodyKnowsTheHost(t *testing.T) {
	l := lockedLab(t, func(l *lab) { l.target.Host.UUID, l.target.Host.Serial = "", "To be filled by O.E.M." })
	l.machine.volumes = append(l.machine.volumes, &volume{name: "D", v: windows()})
	rep, err, _ := l.repair()
	if err != nil || len(rep.Result.Removed()) != 1 {
		t.Errorf("the open volume is repaired: %+v, %v", rep, err)
	}
	if len(l.ledger.releases) != 0 || !strings.Contains(rep.Volumes[0].Error, "could not be recognised") {
		t.Errorf("a key left for an unknown host: %+v", rep.Volumes[0])
	}
}

func TestKeyOfAnotherHost(t *testing.T) {
	l := lockedLab(t, nil)
	l.escrow.filed[0].Host = "pc2"
	_, err, _ := l.repair()
	if !final(err) || len(l.ledger.releases) != 0 {
		t.Errorf("%v, ledger %v", err, l.ledger.releases)
	}
	wantErr(t, err, "another host", l.escrow.filed[0].ID.String())
}

func TestLedgerFails(t *testing.T) {
	l := lockedLab(t, nil)
	l.ledger.err = errors.New("disk full")
	cfg := l.boot()
	l.atRepair(cfg)
	r := newRaw(t, l, cfg)
	r.want(200, "pc1", "POST", "/v1/hello", r.hello())
	r.want(503, "its log", "POST", "/v1/keys", wire.KeyRequest{Protectors: l.machine.volumes[0].protectors})
}

func TestKeysAreLimited(t *testing.T) {
	l := newLab(t, nil)
	var ids []string
	for range 20 {
		f := filing("pc1")
		l.escrow.filed = append(l.escrow.filed, f)
		ids = append(ids, f.ID.String())
	}
	cfg := l.boot()
	l.atRepair(cfg)
	r := newRaw(t, l, cfg)
	r.want(200, "pc1", "POST", "/v1/hello", r.hello())
	r.want(400, "more than a host has", "POST", "/v1/keys", wire.KeyRequest{Protectors: ids})
	r.want(200, "sealed", "POST", "/v1/keys", wire.KeyRequest{Protectors: ids[:16]})
	r.want(200, "too many", "POST", "/v1/keys", wire.KeyRequest{Protectors: ids[16:]})
	r.want(200, "not the id", "POST", "/v1/keys", wire.KeyRequest{Protectors: []string{"C:"}})
	for range 9 {
		r.want(200, `"sealed":{"`, "POST", "/v1/keys", wire.KeyRequest{Protectors: ids[:1]})
	}
	r.want(200, "too many", "POST", "/v1/keys", wire.KeyRequest{Protectors: ids[:1]})
	if n := len(l.ledger.releases); n != 25 {
		t.Errorf("%d releases on the ledger, want 25", n)
	}
}

func TestKeysOnlyAtRepair(t *testing.T) {
	l := lockedLab(t, nil)
	cfg := l.boot()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := l.s.Repair(ctx, l.target, l.pb); done <- err }()
	r := newRaw(t, l, cfg)
	for {
		if code, _ := r.do("POST", "/v1/hello", r.hello()); code == 200 {
			break
		}
	}
	cancel()
	wantErr(t, <-done, "given up")
	r.want(409, "not now", "POST", "/v1/keys", wire.KeyRequest{Protectors: l.machine.volumes[0].protectors})
	r.want(409, "not now", "PUT", "/v1/quarantine/"+strings.Repeat("0", 64), []byte("x"))
	r.want(204, "", "POST", "/v1/report", report(playbooks.Good)) // what happened is always taken
	if _, err := l.s.Repair(t.Context(), l.target, l.pb); err != nil {
		t.Errorf("the late report: %v", err)
	}
}

func TestOldToken(t *testing.T) {
	var late atomic.Bool
	l := newLab(t, func(l *lab) {
		l.cfg.Now = func() time.Time {
			if late.Load() {
				return time.Now().Add(3 * time.Hour)
			}
			return time.Now()
		}
	})
	done := l.goAgent(l.boot())
	late.Store(true)
	_, err := l.s.Repair(t.Context(), l.target, l.pb)
	wantErr(t, err, "tokens are good for 2h")
	wantErr(t, (<-done).err, "403")
	_, err = l.s.Image(t.Context(), l.target)
	wantErr(t, err, "new attempt")
}

func TestOtherVersion(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.boot()
	done := l.atRepair(cfg)
	r := newRaw(t, l, cfg)
	h := r.hello()
	h.Version = 7
	r.want(403, "version 7", "POST", "/v1/hello", h)
	w := <-done
	wantErr(t, w.err, "version 7", "build the image")
	if final(w.err) {
		t.Error("another route does not need the image")
	}
}

// The agent says nothing to a server that has not the key.
func TestOtherServer(t *testing.T) {
	var heard atomic.Int32
	l := newLab(t, nil)
	cfg := l.boot()
	l.s.Close()
	imposter := l.cfg.Around(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { heard.Add(1) })
	})
	imposter.Dir = t.TempDir()
	s, err := rescue.Start(t.Context(), imposter)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o := quick
	o.Patience = 200 * time.Millisecond
	_, err = agent.Run(t.Context(), l.machine, cfg, o)
	wantErr(t, err, "another key")
	if heard.Load() != 0 {
		t.Error("the agent spoke to it")
	}
}

// No recovery key, and no token, in anything that is kept or shown.
func TestCanary(t *testing.T) {
	var seen safeBuffer // what escrows and volumes are told is theirs; all the rest is watched
	l := newLab(t, func(l *lab) {
		l.cfg.Now = func() time.Time { return time.Now().Truncate(time.Second) } // fewer digits that mean nothing
		l.machine.volumes = append(l.machine.volumes, &volume{name: "D", v: windows()})
		l.escrow.filed = []keytest.Filing{l.lock(l.machine.volumes[0]), l.lock(l.machine.volumes[1])}
		l.machine.volumes[1].key = filing("").Key // the escrow has a wrong one, and the volume says it aloud
		l.cfg = l.cfg.Around(func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(&seen, r.URL.String())
				h.ServeHTTP(w, r)
			})
		})
	})
	rep, err, a := l.repair()
	if err != nil || a.err != nil || len(l.ledger.releases) != 2 {
		t.Fatalf("repair: %v, agent: %v, ledger: %v", err, a.err, l.ledger.releases)
	}
	token := rescue.Token(l.s, l.target)
	http.Get(l.s.ImageURL() + "/i/" + token + "/other.iso")
	for what, text := range map[string]string{
		"log": l.logs.String(), "report": asJSON(rep), "agent's report": asJSON(a.report), "URLs": seen.String(),
		"records": asJSON(l.records.All()), "ledger": asJSON(l.ledger.releases),
	} {
		for _, f := range l.escrow.filed {
			if keytest.Leaks(f.Key, text) {
				t.Errorf("a recovery key is in the %s", what)
			}
		}
		if strings.Contains(text, token) {
			t.Errorf("the token is in the %s", what)
		}
	}
}

func asJSON(v any) string {
	if m, ok := v.(map[string][]byte); ok {
		var all []string
		for k, b := range m {
			all = append(all, k+string(b))
		}
		slices.Sort(all)
		return strings.Join(all, "\n")
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func TestKeyInReportIsStruckOut(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.boot()
	done := l.atRepair(cfg)
	r := newRaw(t, l, cfg)
	r.want(200, "", "POST", "/v1/hello", r.hello())
	key := filing("").Key
	rep := report(playbooks.Good)
	rep.Log = []string{"unlocked with " + key.Reveal() + "!", strings.Repeat("0123456789abcdef", 4), "C:\\new\x1b[2J\n"}
	r.want(204, "", "POST", "/v1/report", rep)
	<-done
	records := asJSON(l.records.All())
	if keytest.Leaks(key, records) || !strings.Contains(records, rep.Log[1]) || !strings.Contains(records, `"C:\\new [2J "`) {
		t.Error(records)
	}
}
