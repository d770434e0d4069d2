package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A host that is claimed is left alone by the run, which waits for it and then looks at it as at any
// other; a claim that nobody renews ends by itself.
func TestClaim(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name  string
		lease time.Duration
		dead  bool
	}{{"released", time.Hour, false}, {"its process was killed", 300 * time.Millisecond, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard()
			path, s := yardStore(t, "h", "i")
			mine, err := s.Claim(ctx, inventory.Host{Name: "H"}, c.lease)
			if err != nil {
				t.Fatal(err)
			}
			var held *HeldError
			if _, err := s.Claim(ctx, inventory.Host{Name: "h"}, time.Hour); !errors.As(err, &held) || held.By == nil {
				t.Errorf("claimed twice: %v", err)
			}
			r := start(t, path, y.engine(s, "redfish"))
			r.until(func(e Event) bool { return e.Host == "i" && ends(e) })
			if !c.dead {
				st, err := r.other.Status(ctx, "")
				if err != nil || st.Todo != 1 || st.Running != 0 || len(st.Fixes) != 1 || st.Fixes[0].Host != "H" || st.Workers != 1 {
					t.Errorf("%+v, %v", st, err)
				}
				if len(y.calls) != 4 {
					t.Errorf("%s", y.calls)
				}
				y.set("h", true)
				mine.Release()
			}
			sum, err := r.end()
			want := map[bool]remediate.Verdict{false: remediate.Healthy, true: remediate.Fixed}[c.dead]
			if err != nil || !sum.Done() || result(t, s, "h").Verdict != want {
				t.Errorf("%+v, %v", sum, err)
			}
			if err := mine.renew(ctx); err == nil {
				t.Error("a claim that ended was renewed")
			}
		})
	}
}

// What a run has is not to be claimed, whether it is in treatment or waits for a person.
func TestClaimOfRun(t *testing.T) {
	ctx := context.Background()
	y := newYard("repair manual: waits")
	y.hold = make(chan struct{})
	path, s := yardStore(t, "h")
	e := y.engine(s, "manual")
	e.Wait, e.Look = time.Minute, time.Hour
	r := start(t, path, e)
	r.until(begins(remediate.Repair))
	var held *HeldError
	if _, err := r.other.Claim(ctx, inventory.Host{Name: "H"}, time.Hour); !errors.As(err, &held) || held.State != "running" || held.Run == "" {
		t.Errorf("%v", err)
	}
	close(y.hold)
	r.until(waits)
	if _, err := r.other.Claim(ctx, inventory.Host{Name: "h"}, time.Hour); !errors.As(err, &held) || held.State != "waiting" {
		t.Errorf("%v", err)
	}
	if err := r.other.Wake(ctx, "", "h", remediate.Note{By: "kim", What: remediate.Done}); err != nil {
		t.Fatal(err)
	}
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
	mine, err := s.Claim(ctx, inventory.Host{Name: "h"}, time.Hour)
	if err != nil {
		t.Fatalf("a host that has ended: %v", err)
	}
	mine.Release()
}

// However a run and those who claim its hosts meet, no host is ever both's.
func TestClaimRace(t *testing.T) {
	ctx := context.Background()
	y := newYard()
	var hosts []string
	for i := range 30 {
		hosts = append(hosts, fmt.Sprintf("h%02d", i))
	}
	path, s := yardStore(t, hosts...)
	var mu sync.Mutex
	claimed, both := map[string]bool{}, 0
	e := y.engine(s, "redfish")
	e.Limits.Hosts = 3
	e.Gates = []remediate.Gate{func(_ context.Context, t remediate.Target) error {
		mu.Lock()
		defer mu.Unlock()
		if claimed[t.Host.Name] {
			both++
		}
		return nil
	}}
	r := start(t, path, e)
	n := 0
	for i := range hosts { // the last first
		h := hosts[len(hosts)-1-i]
		mine, err := r.other.Claim(ctx, inventory.Host{Name: h}, time.Hour)
		if err != nil {
			continue // the run has it
		}
		if result(t, r.other, h).State == "running" {
			t.Errorf("%s is both's", h)
		}
		n++
		mu.Lock()
		claimed[h] = true
		mu.Unlock()
		time.Sleep(r.Poll) // the dispatcher looks
		mu.Lock()
		claimed[h] = false
		mu.Unlock()
		mine.Release()
	}
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
	if both > 0 || n == 0 {
		t.Errorf("%d hosts were both's, of %d that were claimed", both, n)
	}
}
