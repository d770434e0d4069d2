package engine

import (
	"context"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
)

// hostsNow gives the hosts, in their order.
func hostsNow(hosts ...inventory.Host) func(func(Planned) bool) {
	return func(yield func(Planned) bool) {
		for i, h := range hosts {
			if !yield(Planned{Host: h, Order: i}) {
				return
			}
		}
	}
}

func host(name, site string, routes ...string) inventory.Host {
	h := inventory.Host{Name: name, Site: site, Tier: inventory.Normal, From: []inventory.Origin{{Source: "x", Place: "y", Seen: time.Now()}}}
	for _, r := range routes {
		h.Routes = append(h.Routes, inventory.Route{Driver: r, Address: "bmc-" + name})
	}
	return h
}

// While a host is in treatment the fleet is read again: what is new is treated too, what has
// changed of a host that was not begun is in force, and no host is lost or treated twice.
func TestRefresh(t *testing.T) {
	ctx := context.Background()
	names := []string{"held#1", "none#same", "none#changed", "none#gone", "none#renamed", "none#retired", "none#new", "none#moved"}
	w := newWorld(t, names...)
	path := filepath.Join(t.TempDir(), "unbrick.db")
	s := openTest(t, path)
	serial := func(h inventory.Host, serial string) inventory.Host { h.Serial = serial; return h }
	_, err := s.Begin(ctx, Run{Playbook: "test", Source: []byte("x"), FleetDigest: "f"}, hostsNow(
		host("held#1", "SYD", "first"), host("none#same", "SYD", "first"), host("none#changed", "SYD", "none such"),
		host("none#gone", "SYD", "first"), serial(host("none#renamed", "MEL", "first"), "S1"), host("none#retired", "MEL", "first"),
		host("none#moved", "MEL", "first")))
	if err != nil {
		t.Fatal(err)
	}
	e := testEngine(s, w.serve(t))
	e.Limits.Hosts = 1
	r := start(t, path, e)
	r.until(begins(remediate.Repair))

	same1 := host("none#same", "SYD", "first")
	same1.Name = "NONE#same"
	retired := host("none#retired", "MEL", "first")
	retired.State = inventory.Retired
	changedHeld := host("held#1", "SYD", "second")
	got, err := r.other.Refresh(ctx, "", "g", hostsNow(changedHeld, same1, host("none#changed", "SYD", "first"),
		serial(host("none#other-name", "MEL", "first"), "s1"), retired, host("none#new", "PER", "first"), host("none#moved", "PER", "first"),
		inventory.Host{Name: "retired too", State: inventory.Retired}))
	if err != nil {
		t.Fatal(err)
	}
	want := Refreshed{Added: []string{"none#new"}, Changed: []string{"none#changed", "none#moved"}, Begun: []string{"held#1"}, Unused: []string{"none#retired"},
		Gone: []string{"none#gone"}, Renamed: map[string]string{"none#renamed": "none#other-name"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	close(w.hold)
	if _, err := r.end(); err != nil {
		t.Fatal(err)
	}
	ended := verdicts(t, s)
	expect := map[string]remediate.Verdict{"none#retired": remediate.Skipped}
	for _, n := range names[:5] {
		expect[n] = remediate.Fixed
	}
	expect["none#new"], expect["none#moved"] = remediate.Fixed, remediate.Fixed
	same(t, ended, expect)
	if len(ended) != len(expect) {
		t.Errorf("%d hosts ended, want %d", len(ended), len(expect))
	}
	w.check(t, ended)
	st, err := s.Status(ctx, "")
	if err != nil || st.Hosts != 8 || st.Todo != 0 || st.Run.FleetDigest != "g" || st.Verdicts[remediate.Fixed] != 7 {
		t.Errorf("%+v, %v", st, err)
	}

	// An ended run that gets a new host goes on; the same fleet again changes nothing.
	again := hostsNow(host("none#new", "PER", "first"))
	got, err = s.Refresh(ctx, "", "g", again)
	if err != nil || len(got.Added)+len(got.Changed)+len(got.Begun)+len(got.Unused) > 0 || len(got.Gone) != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err = s.Refresh(ctx, "", "h", hostsNow(host("late", "PER", "first"))); err != nil {
		t.Fatal(err)
	}
	if run, err := s.Run(ctx, ""); err != nil || run.State != "running" {
		t.Errorf("an ended run with a host to do is %q, %v", run.State, err)
	}
}

// A domain controller that the fleet turns out to have holds the hosts of its site, those that are
// new too.
func TestRefreshGates(t *testing.T) {
	refreshGates(t, openTest(t, filepath.Join(t.TempDir(), "unbrick.db")))
}

func postgresRefresh(t *testing.T, _ *cluster, dsn string) { refreshGates(t, openTest(t, dsn)) }

func refreshGates(t *testing.T, s *Store) {
	ctx := context.Background()
	if _, err := s.Begin(ctx, Run{FleetDigest: "f"}, hostsNow(host("a", "SYD", "first"), host("m", "MEL", "first"))); err != nil {
		t.Fatal(err)
	}
	dc := host("dc", "SYD", "first")
	dc.Tier = inventory.Dependency
	if _, err := s.Refresh(ctx, "", "g", hostsNow(host("b", "SYD", "first"), dc, host("a", "SYD", "first"), host("m", "MEL", "first"))); err != nil {
		t.Fatal(err)
	}
	gone := host("m", "MEL", "first")
	gone.State = inventory.Retired
	if r, err := s.Refresh(ctx, "", "h", hostsNow(host("c", "SYD", "first"), host("n", "MEL", "first"), gone)); err != nil || len(r.Unused) != 1 {
		t.Fatal(r, err)
	}
	rows, err := s.db().Query(`SELECT host FROM hosts WHERE held = 1 ORDER BY host`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var held []string
	for rows.Next() {
		var h string
		if err := rows.Scan(&h); err != nil {
			t.Fatal(err)
		}
		held = append(held, h)
	}
	if !slices.Equal(held, []string{"a", "b", "c"}) {
		t.Errorf("held are %v", held)
	}
}
