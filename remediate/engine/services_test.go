package engine

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
)

// servedStore has hosts "name@site service", in their order.
func servedStore(t testing.TB, hosts ...string) (path string, s *Store) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "unbrick.db")
	s = openTest(t, path)
	_, err := s.Begin(context.Background(), Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		for i, text := range hosts {
			name, service, _ := strings.Cut(text, " ")
			p := yardHost(i, name)
			p.Host.Tier, p.Host.Labels = inventory.Normal, map[string]string{"service": service}
			if !yield(p) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, s
}

// Hosts that every site needs go before the ordinary ones of all sites, one class after the
// other, whatever the order says. One that waits for a person holds nobody.
func TestServicesFirst(t *testing.T) {
	t.Run("as it was stored", func(t *testing.T) { servicesFirst(t, false) })
	t.Run("as it is planned", func(t *testing.T) { servicesFirst(t, true) })
}

func servicesFirst(t *testing.T, planned bool) {
	y := newYard("repair redfish cmdb: waits")
	y.hold, y.entered = make(chan struct{}), make(chan string, 100)
	path, s := servedStore(t, "pc@SYD", "cmdb@MEL cmdb", "dns@MEL dns", "ad1@AKL ad", "ad2@SYD Identity", "pc2@MEL")
	e := y.engine(s, "redfish")
	if planned {
		e.Plan, e.Replan = planOf(e), 5*time.Millisecond
	}
	r := start(t, path, e)
	next := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			got = append(got, <-y.entered)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("entered %q, want %q", got, want)
		}
	}
	next("ad1", "ad2")
	inFlight(t, r.other, 2)
	if st, err := r.other.Status(context.Background(), ""); err != nil || st.Service == nil || *st.Service != (Service{"identity", 2}) {
		t.Errorf("held for %+v, %v", st.Service, err)
	}
	y.hold <- struct{}{}
	y.hold <- struct{}{}
	next("dns")
	inFlight(t, r.other, 1)
	y.hold <- struct{}{}
	next("cmdb")
	inFlight(t, r.other, 1)
	y.hold <- struct{}{} // it waits for a person now
	next("pc", "pc2")
	close(y.hold)
	if sum, err := r.end(); err != nil || sum.Todo() != 0 {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A process whose sites are held for a service at another's goes on until that has ended, and one
// that finds the service halted ends as for any halt.
func TestServedElsewhere(t *testing.T) {
	y := newYard()
	path, s := servedStore(t, "pc@SYD", "ad@MEL ad")
	e := y.engine(s, "redfish")
	e.Sites = []string{"SYD"}
	r := start(t, path, e)
	for range 5 {
		time.Sleep(r.Poll)
	}
	inFlight(t, r.other, 0)
	if _, err := r.other.Cancel(context.Background(), "", "kim", "ad"); err != nil { // it ends
		t.Fatal(err)
	}
	if sum, err := r.end(); err != nil || !y.repaired["pc"] {
		t.Errorf("%+v, %v", sum, err)
	}
}

// When nothing is left but a service that is halted and what is held for it, the run ends.
func TestHaltedService(t *testing.T) {
	y := newYard("repair redfish: fails")
	_, s := servedStore(t, "ad1@SYD ad", "ad2@SYD ad", "ad3@SYD ad", "ad4@SYD ad", "pc@MEL")
	e := y.engine(s, "redfish")
	e.Baselines = map[string]float64{}
	if sum := runs(t, e); len(sum.Halts) == 0 || sum.Todo() != 2 {
		t.Errorf("%+v", sum)
	}
}
