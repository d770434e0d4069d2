package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
)

// A yard is hosts in this process, each with several ways in, that do what a test says. What
// nobody said goes well: a repair, and leave after it, bring the host up.
type yard struct {
	mu       sync.Mutex
	does     map[string]string // "op way" or "op way host": what it does instead, as act says
	up       map[string]bool
	repaired map[string]bool
	ready    map[string]bool     // starts in Safe Mode: it answers after leave, and winrm can repair it
	calls    []string            // "op way", in their order
	said     []remediate.Note    // that the last call was given
	now      map[string]int      // in treatment, by whatever limits count
	most     map[string]int      // the most that ever were
	entered  chan string         // hosts, if somebody listens
	hold     chan struct{}       // if it is there, repairs wait for it
	leaving  func(time.Duration) // is told how much time a leave has
}

func newYard(does ...string) *yard {
	y := &yard{does: map[string]string{}, up: map[string]bool{}, repaired: map[string]bool{}, ready: map[string]bool{}, now: map[string]int{}, most: map[string]int{}}
	for _, d := range does {
		what, how, _ := strings.Cut(d, ": ")
		y.does[what] = how
	}
	return y
}

// act does what a call is to do.
func (y *yard) act(ctx context.Context, op, way string, t remediate.Target) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.calls = append(y.calls, op+" "+way)
	y.said = t.Notes
	how, ok := y.does[op+" "+way+" "+t.Host.Name]
	if !ok {
		how = y.does[op+" "+way]
	}
	switch how {
	case "fails":
		return errors.New("the BMC says no")
	case "fails unless ready":
		if !y.ready[t.Host.Name] {
			return errors.New("it crashes")
		}
	case "fails when returned":
		if t.Returned {
			return errors.New("the BMC says no")
		}
	case "is final when returned":
		if t.Returned {
			return &remediate.FinalError{Err: errors.New("nobody has the key")}
		}
		fallthrough
	case "makes ready":
		if y.ready[t.Host.Name] = !t.Returned; t.Returned {
			return nil
		}
		return &remediate.ThenError{Way: "winrm", Err: errors.New("it will start in Safe Mode")}
	case "is final":
		return &remediate.FinalError{Err: errors.New("nobody has the key")}
	case "heals":
		y.up[t.Host.Name] = true
	case "heals and fails":
		y.up[t.Host.Name] = true
		return errors.New("the connection broke")
	case "says up":
		y.up[t.Host.Name] = true
		return &remediate.UpError{Evidence: "a ping"}
	case "says up, which does not last":
		return &remediate.UpError{Evidence: "a ping"}
	case "waits":
		if n := len(t.Notes); n == 0 || t.Notes[n-1].What == remediate.Remarked || t.Notes[n-1].What == remediate.Seen {
			return &remediate.WaitError{For: "a person"}
		}
		if t.Notes[len(t.Notes)-1].What == remediate.GaveUp {
			return errors.New("the person gave up")
		}
	case "takes for ever":
		y.mu.Unlock()
		<-ctx.Done()
		y.mu.Lock()
		return ctx.Err()
	}
	return nil
}

func (y *yard) count(t remediate.Target, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, k := range []string{t.Route.Driver, "images at " + t.Host.Site, remediate.Subnet(t.Host, t.Route)} {
		y.now[k] += n
		y.most[k] = max(y.most[k], y.now[k])
	}
}

// A gate is one way into the hosts of a yard.
type gate struct {
	y   *yard
	way string
}

func (g gate) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	return remediate.Posture{Power: "on", Detail: map[string]string{"boot": "disk"}}, g.y.act(ctx, "observe", g.way, t)
}

func (g gate) Enter(ctx context.Context, t remediate.Target, _ remediate.Image) error {
	g.y.count(t, 1)
	if g.y.entered != nil {
		g.y.entered <- t.Host.Name
	}
	return g.y.act(ctx, "enter", g.way, t)
}

func (g gate) Leave(ctx context.Context, t remediate.Target, _ remediate.Posture) error {
	if end, ok := ctx.Deadline(); ok && g.y.leaving != nil {
		g.y.leaving(time.Until(end))
	}
	err := g.y.act(ctx, "leave", g.way, t)
	g.y.count(t, -1)
	g.y.mu.Lock()
	defer g.y.mu.Unlock()
	if g.y.repaired[t.Host.Name] || g.y.ready[t.Host.Name] {
		g.y.up[t.Host.Name] = true
	}
	return err
}

// A person is a gate that repairs in place.
type person struct{ gate }

func (p person) Repair(ctx context.Context, t remediate.Target, pb *playbooks.Playbook) (remediate.Report, error) {
	return p.y.Repair(ctx, t, pb)
}

func (y *yard) Image(context.Context, remediate.Target) (remediate.Image, error) {
	return remediate.Image{}, nil
}

func (y *yard) Repair(ctx context.Context, t remediate.Target, _ *playbooks.Playbook) (remediate.Report, error) {
	if y.hold != nil {
		select {
		case <-y.hold:
		case <-ctx.Done():
		}
	}
	if err := y.act(ctx, "repair", t.Route.Driver, t); err != nil {
		return remediate.Report{Agent: "test"}, err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.repaired[t.Host.Name] = true
	return remediate.Report{Result: playbooks.Result{Volumes: []playbooks.VolumeResult{{Volume: "C:", Verdict: playbooks.Good}}}}, nil
}

func (y *yard) Probe(_ context.Context, h inventory.Host) (string, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.up[h.Name] {
		return "answers", nil
	}
	return "", nil
}

func (y *yard) set(host string, up bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.up[host] = up
}

// engine returns one that goes these ways into the yard, in their order.
func (y *yard) engine(s *Store, ways ...string) Engine {
	e := Engine{
		Store: s, Playbook: &playbooks.Playbook{Name: "test"}, Drivers: map[string]remediate.Driver{}, Medic: y, Prober: y,
		Timeouts: Timeouts{Check: 20 * time.Second, Enter: 20 * time.Second, Repair: 20 * time.Second, Leave: 20 * time.Second,
			Confirm: 10 * time.Second},
		Every: 2 * time.Millisecond, Soak: 2 * time.Millisecond, Poll: 10 * time.Millisecond, Look: 5 * time.Millisecond, Tries: 2,
	}
	for _, way := range ways {
		e.Ladder = append(e.Ladder, remediate.Rung{Way: way, Derive: way == remediate.Manual})
		if way == remediate.Manual || way == "winrm" {
			e.Drivers[way] = person{gate{y, way}}
		} else {
			e.Drivers[way] = gate{y, way}
		}
	}
	return e
}

// yardHost has a route for each way, in another order than any ladder's. What follows the
// name's "@" is its site.
func yardHost(i int, name string) Planned {
	name, site, _ := strings.Cut(name, "@")
	h := inventory.Host{Name: name, Site: site}
	for _, way := range []string{"restart", "netboot", "redfish", "winrm"} {
		h.Routes = append(h.Routes, inventory.Route{Driver: way, Address: fmt.Sprintf("10.0.%d.%d", i%2, i+1)})
	}
	return Planned{Host: h, Order: i}
}

func yardStore(t testing.TB, hosts ...string) (path string, s *Store) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "unbrick.db")
	s = openTest(t, path)
	_, err := s.Begin(context.Background(), Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		for i, h := range hosts {
			if !yield(yardHost(i, h)) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, s
}

func result(t testing.TB, s *Store, host string) Result {
	t.Helper()
	for r, err := range s.Results(context.Background(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if r.Host == host {
			return r
		}
	}
	t.Fatalf("no host %s", host)
	return Result{}
}
