package rescue_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// A walk is a lab whose host waits for a person with a stick.
type walk struct {
	*lab
	cfg     wire.Config  // of the stick
	later   atomic.Int64 // nanoseconds by which the server's clock is ahead
	mu      sync.Mutex
	arrived []string
}

// newWalk issues a stick for SYD, or what order makes of it.
func newWalk(t *testing.T, order func(*rescue.StickOrder)) *walk {
	t.Helper()
	w := &walk{}
	w.lab = newLab(t, func(l *lab) {
		l.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(w.later.Load())) }
		l.cfg.Arrived = func(_ context.Context, run, host, stick string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.arrived = append(w.arrived, run+" "+host+" "+stick)
		}
		l.target.Host.Site, l.target.Route.Driver = "SYD", "manual"
	})
	w.cfg = w.issue(order)
	return w
}

// knock asks the server to let the stick in at a host, as an agent does once.
func (w *walk) knock(id wire.Identity) (code int, said string) {
	w.t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := json.Marshal(wire.Hello{Version: wire.Version, Identity: id, PublicKey: key.PublicKey().Bytes()})
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, w.cfg.URL+wire.StickPath(w.cfg.Stick.ID), bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.cfg.Token)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func (w *walk) issue(order func(*rescue.StickOrder)) wire.Config {
	w.t.Helper()
	o := rescue.StickOrder{URL: w.s.AgentURL(), By: "Alice Jones", Sites: []string{"SYD"}, Until: time.Now().Add(time.Hour), Playbook: w.pb}
	if order != nil {
		order(&o)
	}
	cfg, err := w.s.Sticks().Issue(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

func (w *walk) await(t remediate.Target) {
	w.t.Helper()
	if err := w.s.Await(w.t.Context(), t, "a person at "+t.Host.Name); err != nil {
		w.t.Fatal(err)
	}
}

// stickRepair waits for the agent of the target.
func (w *walk) stickRepair() (remediate.Report, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	return w.s.RepairByStick(ctx, w.target, w.pb)
}

func TestStickRepairs(t *testing.T) {
	w := newWalk(t, nil)
	c := w.machine.volumes[0]
	filed := w.lock(c)
	w.escrow.filed = append(w.escrow.filed, filed)

	var wait *remediate.WaitError
	if _, err := w.stickRepair(); err == nil || errors.As(err, &wait) {
		t.Fatalf("a host that nobody announced: %v", err)
	}
	for range 2 {
		w.await(w.target)
	}
	if _, err := w.stickRepair(); !errors.As(err, &wait) || wait.For != "a person at pc1" {
		t.Fatalf("before anybody came: %v", err)
	}
	done := w.goAgent(w.cfg)
	w.logs.wait("stick let in")
	w.logs.wait("agent has to wait") // the engine has not turned to the host yet
	rep, err := w.stickRepair()
	if a := <-done; err != nil || a.err != nil {
		t.Fatalf("repair: %v, agent: %v\n%s", err, a.err, w.logs)
	}
	id := w.cfg.Stick.ID
	if want := "stick " + id + ", carried by Alice Jones"; !strings.Contains(rep.Agent, want) || len(rep.Result.Removed()) != 1 {
		t.Errorf("report by %q, removed %v; want %q", rep.Agent, rep.Result.Removed(), want)
	}
	if r := w.ledger.releases; len(r) != 1 || r[0].Purpose != "repair by stick "+id+", carried by Alice Jones" {
		t.Errorf("ledger: %+v", r)
	}
	if len(w.arrived) == 0 || w.arrived[0] != "r1 pc1 "+id {
		t.Errorf("arrived: %q", w.arrived)
	}
	if again, err := w.stickRepair(); err != nil || len(again.Result.Removed()) != 1 {
		t.Errorf("asked again: %+v, %v", again, err)
	}
	w.noSecrets(filed.Key.Reveal(), w.cfg.Token)
}

// noSecrets looks for texts in the records and the log.
func (w *walk) noSecrets(secrets ...string) {
	w.t.Helper()
	all := w.logs.String()
	for key, value := range w.records.All() {
		all += key + string(value)
	}
	for _, s := range secrets {
		if strings.Contains(all, s) {
			w.t.Error("a secret is in the records or in the log")
		}
	}
}

// TestStickTwice boots the host from the stick again before the first agent reported: the
// second agent gets the job.
func TestStickTwice(t *testing.T) {
	w := newWalk(t, nil)
	w.await(w.target)
	first, stop := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		agent.Run(first, w.machine, w.cfg, agent.Options{Pause: 5 * time.Millisecond})
	}()
	w.logs.wait("visit=1")
	stop()
	<-gone
	results := make(chan error, 1)
	go func() {
		_, err := w.stickRepair()
		results <- err
	}()
	done := w.goAgent(w.cfg)
	w.logs.wait("visit=2")
	if a, err := <-done, <-results; err != nil || a.err != nil {
		t.Fatalf("repair: %v, agent: %v\n%s", err, a.err, w.logs)
	}
}

// TestStickSilent has the agent vanish after it was let in: the host waits again.
func TestStickSilent(t *testing.T) {
	w := newWalk(t, nil)
	w.await(w.target)
	if code, said := w.knock(w.machine.id); code != http.StatusOK {
		t.Fatal(said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := w.s.RepairByStick(ctx, w.target, w.pb)
	var wait *remediate.WaitError
	if !errors.As(err, &wait) {
		t.Fatalf("%v", err)
	}
	wantErr(t, err, "a person at pc1; the agent on stick "+w.cfg.Stick.ID+" of Alice Jones was let in at", "was not heard of since")
}

// other is a second host that waits.
func other(change func(h *inventory.Host)) remediate.Target {
	h := inventory.Host{Name: "pc2", Site: "SYD"}
	change(&h)
	return remediate.Target{Run: "r1", Attempt: 1, Host: h, Route: inventory.Route{Driver: "manual"}}
}

func TestStickRefused(t *testing.T) {
	const stranger = "11111111-2222-3333-4444-555555555555"
	for name, tt := range map[string]struct {
		then func(w *walk)
		says string
	}{
		"nobody waits": {func(w *walk) {}, "no host that waits"},
		"waits no more": {func(w *walk) {
			w.await(w.target)
			if err := w.s.Dismiss(w.t.Context(), w.target); err != nil {
				w.t.Fatal(err)
			}
		}, "no host that waits"},
		"another host waits": {func(w *walk) {
			w.await(other(func(h *inventory.Host) { h.UUID = stranger }))
		}, "no host that waits"},
		"the serial is its own, the UUID is not": {func(w *walk) {
			w.await(other(func(h *inventory.Host) { h.Serial, h.UUID = "B5TK1", stranger }))
		}, "no host that waits"},
		"two hosts with one identity": {func(w *walk) {
			w.await(w.target)
			w.await(other(func(h *inventory.Host) { h.Serial, h.UUID = "B5TK1", uuid }))
		}, "2 hosts that wait for a person could be this one"},
		"a placeholder is no identity": {func(w *walk) {
			w.machine.id = wire.Identity{Serial: "To Be Filled By O.E.M."}
			w.await(other(func(h *inventory.Host) { h.Serial = "To Be Filled By O.E.M." }))
		}, "no host that waits"},
		"wrong site": {func(w *walk) {
			w.cfg = w.issue(func(o *rescue.StickOrder) { o.Sites = []string{"MEL", "PER"} })
			w.await(w.target)
		}, `this is pc1 of site "SYD", and the stick is for MEL, PER`},
		"expired": {func(w *walk) {
			w.await(w.target)
			w.later.Store(int64(2 * time.Hour))
		}, "was good until"},
		"revoked": {func(w *walk) {
			w.await(w.target)
			for range 2 {
				if err := w.s.Sticks().Revoke(w.t.Context(), w.cfg.Stick.ID, "bob"); err != nil {
					w.t.Fatal(err)
				}
			}
		}, "by bob"},
		"not one of ours": {func(w *walk) { w.cfg.Token = strings.Repeat("a", 32) }, "did not make this stick"},
		"unknown":         {func(w *walk) { w.cfg.Stick.ID = "00000000" }, "did not make this stick"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWalk(t, nil)
			tt.then(w)
			a := <-w.goAgent(w.cfg)
			wantErr(t, a.err, tt.says)
			if len(w.arrived) > 0 || !w.has(bad) {
				t.Errorf("arrived %q, the faulty file is there: %t", w.arrived, w.has(bad))
			}
		})
	}
}

// TestStickFinds has hosts that wait in a second attempt: that is the one that counts.
func TestStickFinds(t *testing.T) {
	for name, tt := range map[string]struct {
		host func(h *inventory.Host)
		id   wire.Identity
	}{
		"UUID turned round": {func(h *inventory.Host) { h.UUID = "44454c4c-4200-1035-8054-b2c04f4a4b31" }, wire.Identity{UUID: uuid}},
		"network card":      {func(h *inventory.Host) { h.MAC = []string{"52:54:00:12:34:56"} }, wire.Identity{UUID: uuid, MAC: []string{"52-54-00-12-34-56"}}},
		"serial":            {func(h *inventory.Host) { h.Serial = "B5TK1" }, wire.Identity{Serial: "b5tk1"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWalk(t, nil)
			target := other(tt.host)
			w.await(target)
			target.Attempt = 2
			w.await(target)
			if code, said := w.knock(tt.id); code != http.StatusOK || !strings.Contains(said, "pc2") {
				t.Fatalf("%d %s", code, said)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var wait *remediate.WaitError
			if _, err := w.s.RepairByStick(ctx, target, w.pb); errors.As(err, &wait) {
				t.Error("the newer attempt has nobody")
			}
			target.Attempt = 1
			if _, err := w.s.RepairByStick(ctx, target, w.pb); !errors.As(err, &wait) {
				t.Errorf("the older attempt: %v", err)
			}
		})
	}
}

// TestStickLimits serves hosts until the stick is used up.
func TestStickLimits(t *testing.T) {
	w := newWalk(t, func(o *rescue.StickOrder) { o.Hosts, o.PerHour, o.Until = 3, 2, time.Now().Add(24*time.Hour) })
	for _, tt := range []struct {
		host  string
		later time.Duration
		says  string // empty: let in
	}{
		{"pc1", 0, ""},
		{"pc1", 0, ""}, // the same again is not one more
		{"pc2", time.Minute, ""},
		{"pc3", 0, "2 hosts within an hour"},
		{"pc2", 0, ""},
		{"pc3", time.Hour, ""},
		{"pc4", 2 * time.Hour, "3 hosts, and is good for no more"},
		{"pc4", 0, "3 hosts, and is good for no more"},
		{"pc1", 0, "refused 2 times within an hour"},
		{"pc1", 2 * time.Hour, ""},
	} {
		w.later.Add(int64(tt.later))
		w.await(other(func(h *inventory.Host) { h.Name, h.Serial = tt.host, tt.host }))
		code, said := w.knock(wire.Identity{Serial: tt.host})
		if tt.says == "" && code != http.StatusOK || tt.says != "" && (code != http.StatusForbidden || !strings.Contains(said, tt.says)) {
			t.Errorf("%s: %d %s; want %q", tt.host, code, said, tt.says)
		}
	}
}

func TestStickOrders(t *testing.T) {
	w := newWalk(t, nil)
	for says, order := range map[string]func(*rescue.StickOrder){
		"name of the person":   func(o *rescue.StickOrder) { o.By = " " },
		"the site":             func(o *rescue.StickOrder) { o.Sites = nil },
		"characters":           func(o *rescue.StickOrder) { o.By = "Alice\nJones" },
		"would be of no use":   func(o *rescue.StickOrder) { o.Until = time.Now().Add(-time.Second) },
		"31 days at most":      func(o *rescue.StickOrder) { o.Until = time.Now().Add(32 * 24 * time.Hour) },
		"fewer than no hosts":  func(o *rescue.StickOrder) { o.Hosts = -1 },
		"needs a playbook, fo": func(o *rescue.StickOrder) { o.Playbook = nil },
	} {
		o := rescue.StickOrder{URL: w.s.AgentURL(), By: "Alice Jones", Sites: []string{"SYD"}, Until: time.Now().Add(time.Hour), Playbook: w.pb}
		order(&o)
		_, err := w.s.Sticks().Issue(t.Context(), o)
		wantErr(t, err, says)
	}
	for _, id := range []string{"", "zz", "00000000", "../x"} {
		if err := w.s.Sticks().Revoke(t.Context(), id, "bob"); !errors.Is(err, rescue.ErrNoStick) {
			t.Errorf("revoke %q: %v", id, err)
		}
	}
}

// TestStickWithoutServer has the agent find nobody: it says so in a way that it can be asked.
func TestStickWithoutServer(t *testing.T) {
	w := newWalk(t, nil)
	w.cfg.Stick.Patience = 50 * time.Millisecond
	w.cfg.URL = "https://127.0.0.1:1"
	if a := <-w.goAgent(w.cfg); !errors.Is(a.err, agent.ErrNoServer) {
		t.Errorf("%v", a.err)
	}
}
