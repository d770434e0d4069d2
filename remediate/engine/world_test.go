package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
)

// A world holds machines, and outlives the process that treats them. It is served over HTTP,
// and notes what nobody may do to a machine.
type world struct {
	mu         sync.Mutex
	machines   map[string]*machine
	violations []string
	calls      map[string]int // by "op host"
	most       int            // images in at once, ever
	hold       chan struct{}  // repairs of "held" machines wait for it
}

// A machine loops because of a faulty file until that is removed. What its fault says goes wrong.
type machine struct {
	name   string
	fault  string
	mode   string // "loop", "rescue" or "windows"
	media  string // id of the attempt whose image is in
	faulty bool
	busy   string        // the operation in progress
	free   chan struct{} // closed: the first held repair of this machine ends
	resets int
}

const goodBoot = "disk"

// faults are what a machine can have, with the verdict that it must end with.
func faults() map[string]remediate.Verdict {
	return map[string]remediate.Verdict{
		"none":                   remediate.Fixed,
		"observe fails":          remediate.Failed,
		"observe fails once":     remediate.Fixed, // says that it may pass
		"observe panics":         remediate.Failed,
		"gate says no":           remediate.Skipped,
		"heals before check":     remediate.Healthy,
		"heals before enter":     remediate.Healthy,
		"heals after enter":      remediate.Healthy,
		"enter fails":            remediate.Failed, // before it did anything
		"enter fails late":       remediate.Failed, // after its effect
		"enter fails once":       remediate.Fixed,
		"enter panics":           remediate.Failed,
		"enter waits":            remediate.Fixed, // when the person says that it is done
		"repair waits":           remediate.Fixed,
		"check waits":            remediate.Fixed,
		"person gives up":        remediate.Failed,
		"person gave up, second": remediate.Fixed, // the second route works
		"enter fails, second":    remediate.Fixed, // the second route works
		"repair fails":           remediate.Failed,
		"repair panics":          remediate.Failed,
		"repair is final":        remediate.Failed, // although there is a second route
		"nothing found":          remediate.Failed,
		"leave fails once":       remediate.Fixed,
		"leave fails":            remediate.Stranded,
		"leave panics":           remediate.Stranded,
		"never up":               remediate.Unconfirmed,
	}
}

func newWorld(t testing.TB, names ...string) *world {
	w := &world{machines: map[string]*machine{}, calls: map[string]int{}, hold: make(chan struct{})}
	for _, name := range names {
		fault, _, _ := strings.Cut(name, "#")
		m := &machine{name: name, fault: fault, mode: "loop", faulty: true, free: make(chan struct{})}
		if fault == "heals before check" {
			m.mode, m.faulty = "windows", false
		}
		w.machines[name] = m
	}
	return w
}

// serve makes the world answer at a URL.
func (w *world) serve(t testing.TB) string {
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A call is what a driver asks of the world, and an answer what it gets.
type call struct {
	Op, Host, Route string
	Attempt         int
	Posture         remediate.Posture
	Up              bool
	Said            string // what the last note says
}

type answer struct {
	Posture  remediate.Posture
	Report   remediate.Report
	Evidence string
	Error    string
	Kind     string // of the error: "", "retry", "wait", "final", "skip", "panic"
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var c call
	body, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(body, &c); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	json.NewEncoder(rw).Encode(w.do(r.Context(), c))
}

func (w *world) do(ctx context.Context, c call) answer {
	m, n, bad := w.enter(c)
	if bad != "" {
		return answer{Error: bad}
	}
	if c.Op == "repair" {
		w.wait(ctx, m, n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.Op != "probe" && c.Op != "gate" {
		m.busy = ""
	}
	switch c.Op {
	case "probe":
		if m.mode == "windows" && m.fault != "never up" {
			return answer{Evidence: "answers as " + m.name}
		}
		return answer{}
	case "gate":
		if m.fault == "gate says no" {
			return answer{Kind: "skip", Error: "no key on record"}
		}
		return answer{}
	}
	if a, failed := m.fails(c, n); failed {
		return a
	}
	return w.effect(m, c)
}

// enter notes that an operation begins.
func (w *world) enter(c call) (m *machine, n int, bad string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m = w.machines[c.Host]
	if m == nil {
		return nil, 0, "no machine " + c.Host
	}
	w.calls[c.Op+" "+c.Host]++
	if c.Op == "probe" || c.Op == "gate" {
		return m, 0, ""
	}
	if m.busy != "" && c.Op != "repair" { // who waits for a fixer does nothing
		w.violate("%s: %s while %s is in progress", m.name, c.Op, m.busy)
	}
	m.busy = c.Op
	return m, w.calls[c.Op+" "+c.Host], ""
}

// wait makes a repair last until its end, or the caller's.
func (w *world) wait(ctx context.Context, m *machine, n int) {
	switch {
	case m.fault == "held":
		free := m.free
		if n > 1 {
			free = nil
		}
		select {
		case <-w.hold:
		case <-free:
		case <-ctx.Done():
		}
	case m.mode != "rescue": // no fixer will come
		<-ctx.Done()
	}
}

// fails says whether the operation fails by the machine's fault, before it does anything.
func (m *machine) fails(c call, n int) (answer, bool) {
	switch {
	case m.fault == c.Op+" fails", m.fault == c.Op+" fails, second" && c.Route == "first":
		return answer{Error: "the BMC says no"}, true
	case m.fault == c.Op+" fails once" && n == 1:
		return answer{Kind: "retry", Error: "the BMC is busy"}, true
	case m.fault == c.Op+" panics":
		return answer{Kind: "panic", Error: "index out of range"}, true
	case m.fault == c.Op+" waits" && c.Said == "",
		m.fault == "check waits" && c.Op == "observe" && c.Said == "",
		strings.HasPrefix(m.fault, "person ") && c.Op == "repair" && strings.HasPrefix(m.media, "first") && c.Said == "":
		return answer{Kind: "wait", Error: "a technician"}, true
	case strings.HasPrefix(m.fault, "person ") && c.Op == "repair" && strings.HasPrefix(m.media, "first"):
		return answer{Error: "the person gave up: " + c.Said}, true
	case m.fault == c.Op+" is final":
		return answer{Kind: "final", Error: "nobody has the key"}, true
	}
	return answer{}, false
}

// effect does what the operation is there for.
func (w *world) effect(m *machine, c call) answer {
	attempt := fmt.Sprintf("%s/%d", c.Route, c.Attempt)
	switch c.Op {
	case "observe":
		if m.fault == "heals before enter" {
			m.mode, m.faulty = "windows", false
		}
		boot := goodBoot
		if m.media != "" {
			boot = "cd"
		}
		return answer{Posture: remediate.Posture{Power: "on", Detail: map[string]string{"boot": boot}}}
	case "enter":
		if m.mode == "windows" {
			w.violate("%s: entered although Windows is up", m.name)
		}
		if m.media != "" && m.media != attempt {
			w.violate("%s: %s entered while the image of %s is in", m.name, attempt, m.media)
		}
		if m.media != attempt || m.mode != "rescue" { // not done already
			m.media, m.mode = attempt, "rescue"
			m.resets++
		}
		in := 0
		for _, m := range w.machines {
			if m.media != "" {
				in++
			}
		}
		w.most = max(w.most, in)
		if m.fault == "heals after enter" {
			m.mode, m.faulty = "windows", false
		}
		if m.fault == "enter fails late" {
			return answer{Error: "lost the reply"}
		}
		return answer{}
	case "repair":
		return w.repaired(m)
	case "leave":
		if m.media == "" && m.mode != "rescue" {
			return answer{}
		}
		if c.Posture.Detail["boot"] != goodBoot {
			w.violate("%s: put back to posture %v, not as it was first", m.name, c.Posture)
		}
		if m.mode == "windows" && !c.Up && !m.faulty && m.fault == "heals after enter" {
			w.violate("%s: restarted although Windows is up", m.name)
		}
		m.media = ""
		if m.mode == "rescue" {
			m.mode = "loop"
			m.resets++
		}
		if !m.faulty {
			m.mode = "windows"
		}
		return answer{}
	}
	return answer{Error: "no operation " + c.Op}
}

func (w *world) repaired(m *machine) answer {
	if m.mode != "rescue" {
		return answer{Error: "no fixer came"}
	}
	v := playbooks.VolumeResult{Volume: "C:", Verdict: playbooks.Faulty}
	file := playbooks.File{Path: "Windows/System32/drivers/C-00000291-1.sys", Faulty: true, Removed: true}
	v.Findings = []playbooks.Finding{{Root: "Windows", Verdict: playbooks.Faulty, Files: []playbooks.File{file}}}
	if m.fault == "nothing found" {
		v.Verdict, v.Findings = playbooks.Absent, nil
	}
	m.faulty = m.fault == "nothing found"
	return answer{Report: remediate.Report{Result: playbooks.Result{Playbook: "test", Volumes: []playbooks.VolumeResult{v}}}}
}

// relapse makes a machine loop again.
func (w *world) relapse(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.machines[name]
	m.mode, m.faulty = "loop", true
}

func (w *world) violate(format string, args ...any) {
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// check fails the test if something happened that may not, or something is still in.
func (w *world) check(t testing.TB, verdicts map[string]remediate.Verdict) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range w.violations {
		t.Errorf("violation: %s", v)
	}
	for name, m := range w.machines {
		v := verdicts[name]
		if m.media != "" && v != remediate.Stranded && v != remediate.Waiting {
			t.Errorf("%s ended %q with the image of %s in", name, v, m.media)
		}
		if v == remediate.Fixed && (m.faulty || m.mode != "windows") {
			t.Errorf("%s is called fixed, and its mode is %q, faulty %v", name, m.mode, m.faulty)
		}
	}
}

// far is the world as a driver, a medic, a prober and a gate see it, from any process.
type far struct {
	url    string
	client *http.Client
	route  string
}

func dial(url string) *far {
	d := &net.Dialer{}
	return &far{url: url, client: &http.Client{Transport: &http.Transport{
		DialContext: d.DialContext, MaxIdleConnsPerHost: 256}}}
}

func (f *far) by(route string) *far {
	g := *f
	g.route = route
	return &g
}

func (f *far) call(ctx context.Context, op string, t remediate.Target, before remediate.Posture) (answer, error) {
	c := call{Op: op, Host: t.Host.Name, Route: f.route, Attempt: t.Attempt, Posture: before, Up: t.Up}
	if n := len(t.Notes); n > 0 {
		c.Said = t.Notes[n-1].What
	}
	body, _ := json.Marshal(c)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	res, err := f.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	var a answer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return answer{}, err
	}
	switch {
	case a.Error == "":
		return a, nil
	case a.Kind == "retry":
		return a, &remediate.RetryError{After: time.Millisecond, Err: errors.New(a.Error)}
	case a.Kind == "wait":
		return a, &remediate.WaitError{For: a.Error}
	case a.Kind == "final":
		return a, &remediate.FinalError{Err: errors.New(a.Error)}
	case a.Kind == "skip":
		return a, &remediate.SkipError{Why: a.Error}
	case a.Kind == "panic":
		panic(a.Error)
	}
	return a, errors.New(a.Error)
}

func (f *far) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	a, err := f.call(ctx, "observe", t, remediate.Posture{})
	return a.Posture, err
}

func (f *far) Enter(ctx context.Context, t remediate.Target, _ remediate.Image) error {
	_, err := f.call(ctx, "enter", t, remediate.Posture{})
	return err
}

func (f *far) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	_, err := f.call(ctx, "leave", t, before)
	return err
}

func (f *far) Image(context.Context, remediate.Target) (remediate.Image, error) {
	return remediate.Image{URL: "http://127.0.0.1/rescue.iso"}, nil
}

func (f *far) Repair(ctx context.Context, t remediate.Target, _ *playbooks.Playbook) (remediate.Report, error) {
	a, err := f.call(ctx, "repair", t, remediate.Posture{})
	return a.Report, err
}

func (f *far) Probe(ctx context.Context, h inventory.Host) (string, error) {
	a, err := f.call(ctx, "probe", remediate.Target{Host: h}, remediate.Posture{})
	return a.Evidence, err
}

func (f *far) gate(ctx context.Context, t remediate.Target) error {
	_, err := f.call(ctx, "gate", t, remediate.Posture{})
	return err
}

// driver hides that far is a medic too.
type driver struct{ f *far }

func (d driver) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	return d.f.Observe(ctx, t)
}
func (d driver) Enter(ctx context.Context, t remediate.Target, img remediate.Image) error {
	return d.f.Enter(ctx, t, img)
}
func (d driver) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	return d.f.Leave(ctx, t, before)
}

// engine returns one that treats the machines of the world at url.
func testEngine(s *Store, url string) Engine {
	f := dial(url)
	return Engine{
		Store: s, Playbook: &playbooks.Playbook{Name: "test"},
		Drivers: map[string]remediate.Driver{"first": driver{f.by("first")}, "second": driver{f.by("second")}},
		Medic:   f, Prober: f, Gates: []remediate.Gate{f.gate},
		Timeouts: Timeouts{Check: 20 * time.Second, Enter: 20 * time.Second, Repair: 20 * time.Second, Leave: 20 * time.Second,
			Confirm: 2 * time.Second},
		Every: 5 * time.Millisecond, Soak: 10 * time.Millisecond, Poll: 20 * time.Millisecond, Tries: 3,
	}
}

// testHosts returns the machines' hosts: two ways into those whose fault is about that.
func testHosts(names ...string) func(func(Planned) bool) {
	return func(yield func(Planned) bool) {
		for i, name := range names {
			h := inventory.Host{Name: name, Site: []string{"SYD", "MEL"}[i%2], Tier: inventory.Normal,
				Routes: []inventory.Route{{Driver: "first", Address: "bmc-" + name}}}
			if strings.Contains(name, "second") || strings.Contains(name, "final") {
				h.Routes = append(h.Routes, inventory.Route{Driver: "second", Address: "vm-" + name})
			}
			if !yield(Planned{Host: h, Order: i}) {
				return
			}
		}
	}
}

func names(all map[string]remediate.Verdict) []string {
	var list []string
	for name := range all {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
