package restart_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/restart"
	"unbrick/remediate/power"
	"unbrick/remediate/power/powertest"
)

// A room holds a host that comes up a minute after the start that mends it.
type room struct {
	fake    *powertest.Fake
	mends   int // the number of the start that it lives through; 0: none
	blind   error
	records sync.Map

	mu     sync.Mutex
	starts int
	alive  time.Time // from when Windows is up; zero: never
	harmed bool      // it was powered off while it was up
}

func newRoom(mends int) *room {
	r := &room{mends: mends}
	r.fake = &powertest.Fake{Started: func(string, power.Source) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.up() {
			r.harmed = true
		}
		r.starts++
		r.alive = time.Time{}
		if r.starts == r.mends {
			r.alive = time.Now().Add(time.Minute)
		}
	}}
	return r
}

// up says whether Windows is. The caller holds mu.
func (r *room) up() bool { return !r.alive.IsZero() && !time.Now().Before(r.alive) }

func (r *room) Probe(ctx context.Context, h inventory.Host) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.blind); err != nil {
		return "", err
	}
	if r.fake.State(h.Name).Power == power.On && r.up() {
		return "Windows answers", nil
	}
	return "", nil
}

func (r *room) Create(ctx context.Context, key string, value []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, taken := r.records.LoadOrStore(key, value); taken {
		return fmt.Errorf("%s: %w", key, fs.ErrExist)
	}
	return nil
}

func (r *room) Load(_ context.Context, key string) ([]byte, error) {
	v, ok := r.records.Load(key)
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return v.([]byte), nil
}

// driver returns one as another process would have it.
func (r *room) driver() *restart.Driver {
	return restart.New(restart.Options{
		Switches: power.Switches{"ipmi": r.fake}, Prober: r, Records: r,
	})
}

func target(attempt int) remediate.Target {
	return remediate.Target{
		Run: "r1", Attempt: attempt,
		Host:  inventory.Host{Name: "h1", Routes: []inventory.Route{{Driver: "ipmi", Address: "10.1.2.3"}}},
		Route: inventory.Route{Driver: "restart", Address: "auto"},
	}
}

func TestComesUp(t *testing.T) {
	for _, mends := range []int{1, 2, 15} {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(mends)
			begin := time.Now()
			_, err := r.driver().Repair(t.Context(), target(1), nil)
			var up *remediate.UpError
			if !errors.As(err, &up) || up.Evidence != fmt.Sprintf("Windows answers, after %d restarts", mends) {
				t.Fatalf("mended by start %d: %v", mends, err)
			}
			if took, want := time.Since(begin), time.Duration(mends-1)*3*time.Minute+time.Minute; took != want {
				t.Errorf("mended by start %d, it was seen after %s, want %s", mends, took, want)
			}
			if r.starts != mends || r.harmed {
				t.Errorf("mended by start %d: %d starts, powered off while up: %v", mends, r.starts, r.harmed)
			}
			for range 2 {
				if err := r.driver().Leave(t.Context(), target(1), remediate.Posture{Power: "on"}); err != nil {
					t.Fatal(err)
				}
			}
			if r.starts != mends {
				t.Errorf("leaving it started it %d times more", r.starts-mends)
			}
		})
	}
}

// TestOutOfRestarts: fifteen, whatever the attempt, and then the next way's turn.
func TestOutOfRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(0)
		for attempt := range 2 {
			_, err := r.driver().Repair(t.Context(), target(attempt+1), nil)
			var up *remediate.UpError
			var final *remediate.FinalError
			if err == nil || errors.As(err, &up) || errors.As(err, &final) || err.Error() != "did not come up after 15 restarts" {
				t.Errorf("attempt %d: %v", attempt+1, err)
			}
			if r.starts != 15 {
				t.Errorf("attempt %d: %d restarts", attempt+1, r.starts)
			}
		}
		if s := r.fake.State("h1"); s.Power != power.On {
			t.Errorf("the host was left %s", s.Power)
		}
	})
}

// TestUpAlready: a host that is up is not touched.
func TestUpAlready(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(0)
		r.alive = time.Now()
		_, err := r.driver().Repair(t.Context(), target(1), nil)
		var up *remediate.UpError
		if !errors.As(err, &up) || len(r.fake.Ops()) != 0 {
			t.Errorf("%v, after %q", err, r.fake.Ops())
		}
	})
}

// TestKilled ends the process at each thing that it does to the host, before and after it was
// done, and goes on in another. A host that is mended by its third start comes up, one that is
// not has no more restarts than it may.
func TestKilled(t *testing.T) {
	for _, mends := range []int{0, 3} {
		for _, kind := range []powertest.Kind{powertest.LostRequest, powertest.LostReply} {
			for skip := range 8 {
				name := fmt.Sprintf("mended by %d, %s %d", mends, kind, skip)
				synctest.Test(t, func(t *testing.T) {
					r := newRoom(mends)
					r.fake.Order(powertest.Fault{Kind: kind, Skip: skip})
					r.fake.Order(powertest.Fault{Kind: powertest.LostRequest, Skip: skip, Count: -1})
					_, err := r.driver().Repair(t.Context(), target(1), nil)
					var retry *remediate.RetryError
					var up *remediate.UpError
					if mends > 0 && skip >= 2*mends && errors.As(err, &up) {
						return // it was up before
					}
					if !errors.As(err, &retry) {
						t.Fatalf("%s: %v", name, err)
					}
					r.fake.Heal()
					if _, err = r.driver().Repair(t.Context(), target(2), nil); errors.As(err, &up) != (mends > 0) {
						t.Errorf("%s: then %v", name, err)
					}
					if r.starts > 15 || r.starts < min(mends, 3) || r.harmed {
						t.Errorf("%s: %d starts, powered off while up: %v", name, r.starts, r.harmed)
					}
					if s := r.fake.State("h1"); s.Power != power.On {
						t.Errorf("%s: the host was left %s", name, s.Power)
					}
				})
			}
		}
	}
}

// TestTakenUp: a process that goes on waits for what is left of the time to the next restart.
func TestTakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(2)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		_, err := r.driver().Repair(ctx, target(1), nil)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "after 1 restarts") {
			t.Fatal(err)
		}
		begin := time.Now()
		_, err = r.driver().Repair(t.Context(), target(1), nil)
		var up *remediate.UpError
		if took := time.Since(begin); !errors.As(err, &up) || took != 2*time.Minute {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// TestBlind: nothing is restarted that nobody can look at.
func TestBlind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1)
		r.blind = errors.New("no route to the site")
		_, err := r.driver().Repair(t.Context(), target(1), nil)
		var retry *remediate.RetryError
		if !errors.As(err, &retry) || !strings.Contains(err.Error(), "no route to the site") || r.starts != 0 {
			t.Errorf("%v, after %d starts", err, r.starts)
		}
	})
}

// TestUncounted: nothing is restarted that cannot be counted.
func TestUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(1)
		d := restart.New(restart.Options{Switches: power.Switches{"ipmi": r.fake}, Prober: r, Records: full{r}})
		_, err := d.Repair(t.Context(), target(1), nil)
		if err == nil || !strings.Contains(err.Error(), "disk is full") || r.starts != 0 || len(r.fake.Ops()) != 0 {
			t.Errorf("%v, after %q", err, r.fake.Ops())
		}
	})
}

type full struct{ *room }

func (full) Create(context.Context, string, []byte) error { return errors.New("disk is full") }

func TestObserveAndLeave(t *testing.T) {
	r := newRoom(0)
	d := r.driver()
	p, err := d.Observe(t.Context(), target(1))
	if err != nil || p.Power != "on" || p.Detail["controller"] != "ipmi 10.1.2.3" {
		t.Errorf("observed %+v, %v", p, err)
	}
	if err := d.Enter(t.Context(), target(1), remediate.Image{}); err != nil || r.starts != 0 {
		t.Errorf("%v, %d starts", err, r.starts)
	}
	r.fake.Set("h1", func(s *powertest.State) { s.Power = power.Off })
	if p, err := d.Observe(t.Context(), target(1)); err != nil || p.Power != "off" {
		t.Errorf("observed %+v, %v", p, err)
	}
	for range 2 {
		if err := d.Leave(t.Context(), target(1), remediate.Posture{Power: "off"}); err != nil {
			t.Fatal(err)
		}
	}
	if r.starts != 1 {
		t.Errorf("a host that was off was started %d times", r.starts)
	}
	r.fake.Order(powertest.Fault{Kind: powertest.LostRequest, Count: -1})
	up := target(1)
	up.Up = true
	if err := d.Leave(t.Context(), up, p); err != nil || r.starts != 1 {
		t.Errorf("a host that is up: %v, started %d times", err, r.starts)
	}
	nowhere := target(1)
	nowhere.Host.Routes = nil
	_, observed := d.Observe(t.Context(), nowhere)
	_, repaired := d.Repair(t.Context(), nowhere, nil)
	for _, err := range []error{observed, repaired, d.Leave(t.Context(), nowhere, p)} {
		if err == nil || !strings.Contains(err.Error(), "nothing can switch it on") {
			t.Errorf("a host without a controller: %v", err)
		}
	}
}

// TestDeadline: every method returns when its context ends, whatever does not answer.
func TestDeadline(t *testing.T) {
	for name, call := range map[string]func(context.Context, *restart.Driver) error{
		"Observe": func(ctx context.Context, d *restart.Driver) error { _, err := d.Observe(ctx, target(1)); return err },
		"Repair": func(ctx context.Context, d *restart.Driver) error {
			_, err := d.Repair(ctx, target(1), nil)
			return err
		},
		"Leave": func(ctx context.Context, d *restart.Driver) error {
			return d.Leave(ctx, target(1), remediate.Posture{})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRoom(1)
			r.fake.Order(powertest.Fault{Kind: powertest.Hang, Count: -1})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			begin := time.Now()
			err := call(ctx, r.driver())
			if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took != time.Second {
				t.Errorf("%s had a second and returned %v after %s", name, err, took)
			}
		})
	}
}

// Each restart waits for its turn while the host is on; one that comes up meanwhile is not restarted,
// and what is on waits for nobody.
func TestPace(t *testing.T) {
	for _, mends := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			r, turns := newRoom(mends), 0
			d := restart.New(restart.Options{Switches: power.Switches{"ipmi": r.fake}, Prober: r, Records: r, Most: 4,
				Between: 30 * time.Second, // less than the host takes to come up
				Pace: func(_ context.Context, tt remediate.Target) error {
					if turns++; tt.Host.Name != "h1" || turns > 1 && r.fake.State("h1").Power != power.On {
						t.Errorf("turn %d of %s: power %s", turns, tt.Host.Name, r.fake.State("h1").Power)
					}
					time.Sleep(time.Minute)
					return nil
				}})
			_, err := d.Repair(t.Context(), target(1), nil)
			var up *remediate.UpError
			if want := map[int]int{0: 4, 2: 2}[mends]; r.starts != want || r.harmed || errors.As(err, &up) != (mends > 0) {
				t.Errorf("%d starts, want %d; %v", r.starts, want, err)
			}
			if want := map[int]int{0: 4, 2: 3}[mends]; turns != want {
				t.Errorf("%d turns, want %d", turns, want)
			}
			if err := d.Leave(t.Context(), target(1), remediate.Posture{}); err != nil || turns > 4 {
				t.Errorf("what is on waited for its turn: %v", err)
			}
		})
	}
}
