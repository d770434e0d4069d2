package engine

import (
	"context"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
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

func nobody(func(string) bool) {}

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
		inventory.Host{Name: "retired too", State: inventory.Retired}), nobody)
	if err != nil {
		t.Fatal(err)
	}
	want := Refreshed{Added: []string{"none#new"}, Changed: []string{"none#changed", "none#moved"}, Begun: []string{"held#1"}, Unused: []string{"none#retired"},
		Gone: []string{"none#gone"}, Renamed: map[string]string{"none#renamed": "none#other-name"}, Unpicked: []string{}}
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
	got, err = s.Refresh(ctx, "", "g", again, nobody)
	if err != nil || len(got.Added)+len(got.Changed)+len(got.Begun)+len(got.Unused) > 0 || len(got.Gone) != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err = s.Refresh(ctx, "", "h", hostsNow(host("late", "PER", "first")), nobody); err != nil {
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
	if _, err := s.Refresh(ctx, "", "g", hostsNow(host("b", "SYD", "first"), dc, host("a", "SYD", "first"), host("m", "MEL", "first")), nobody); err != nil {
		t.Fatal(err)
	}
	gone := host("m", "MEL", "first")
	gone.State = inventory.Retired
	if r, err := s.Refresh(ctx, "", "h", hostsNow(host("c", "SYD", "first"), host("n", "MEL", "first"), gone), nobody); err != nil || len(r.Unused) != 1 {
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

// Which hosts of a run the fleet has under another name is known when every name was heard, and by
// what tells machines apart: a new host is not lost because it has the old address of another.
func TestRefreshRenames(t *testing.T) {
	ctx := context.Background()
	at := func(name, serial, uuid, bmc string) inventory.Host {
		h := host(name, "SYD", "redfish")
		h.Serial, h.UUID, h.Routes[0].Address = serial, uuid, bmc
		return h
	}
	retired := func(h inventory.Host) inventory.Host { h.State = inventory.Retired; return h }
	run := []inventory.Host{at("A", "SA", "", "10.0.0.5"), at("B", "", "", "10.0.0.7"), at("OLD", "SO", "UO", "10.0.0.8")}
	for _, tc := range []struct {
		name   string
		now    []inventory.Host
		others []string
		want   Refreshed
	}{
		{"the address of a host that the fleet has", []inventory.Host{at("N", "SN", "", "10.0.0.5"), at("A", "SA", "", "10.0.0.6"), run[1], run[2]}, nil,
			Refreshed{Added: []string{"N"}, Changed: []string{"A"}}},
		{"the same, before its own name comes", []inventory.Host{at("N", "", "", "10.0.0.5"), at("A", "SA", "", "10.0.0.6"), run[1], run[2]}, nil,
			Refreshed{Added: []string{"N"}, Changed: []string{"A"}}},
		{"the serial number of a host that the fleet has", []inventory.Host{at("N", "SA", "", "10.0.0.9"), run[0], run[1], run[2]}, nil,
			Refreshed{Added: []string{"N"}}},
		{"the address of a host that is gone, and another serial number", []inventory.Host{at("N", "SN", "", "10.0.0.8"), run[0], run[1]}, nil,
			Refreshed{Added: []string{"N"}, Gone: []string{"OLD"}}},
		{"the serial number of a host that is gone, and another UUID", []inventory.Host{at("N", "SO", "UN", "10.0.0.9"), run[0], run[1]}, nil,
			Refreshed{Added: []string{"N"}, Gone: []string{"OLD"}}},
		{"renamed, by its address", []inventory.Host{at("N", "", "", "10.0.0.8"), run[0], run[1]}, nil,
			Refreshed{Renamed: map[string]string{"OLD": "N"}}},
		{"renamed, by its serial number", []inventory.Host{at("N", "so", "", "10.0.0.9"), run[0], run[1]}, nil,
			Refreshed{Renamed: map[string]string{"OLD": "N"}}},
		{"renamed and retired", []inventory.Host{retired(at("N", "SO", "", "10.0.0.9")), run[0], run[1]}, nil,
			Refreshed{Renamed: map[string]string{"OLD": "N"}, Unused: []string{"OLD"}}},
		{"perhaps renamed, and retired", []inventory.Host{retired(at("N", "", "", "10.0.0.8")), run[0], run[1]}, nil,
			Refreshed{Renamed: map[string]string{"OLD": "N"}}},
		{"no longer picked", []inventory.Host{run[0], run[2]}, []string{"b", "C"}, Refreshed{Unpicked: []string{"B"}}},
		{"no longer picked, and another has its address", []inventory.Host{at("N", "", "", "10.0.0.7"), run[0], run[2]}, []string{"B"},
			Refreshed{Added: []string{"N"}, Unpicked: []string{"B"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := openTest(t, filepath.Join(t.TempDir(), "unbrick.db"))
			if _, err := s.Begin(ctx, Run{FleetDigest: "f"}, hostsNow(run...)); err != nil {
				t.Fatal(err)
			}
			got, err := s.Refresh(ctx, "", "g", hostsNow(tc.now...), slices.Values(tc.others))
			for _, names := range []*[]string{&tc.want.Added, &tc.want.Changed, &tc.want.Begun, &tc.want.Unused, &tc.want.Gone, &tc.want.Unpicked} {
				*names = append([]string{}, *names...)
			}
			if tc.want.Renamed == nil {
				tc.want.Renamed = map[string]string{}
			}
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, got, tc.want)
			}
			st, err := s.Status(ctx, "")
			if err != nil || st.Hosts != len(run)+len(tc.want.Added) || st.Verdicts[remediate.Skipped] != len(tc.want.Unused) {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

// What is known now is in force for a host that was begun and given back before anything was
// done to it: it is not tried again at the address that another host has now. Its attempts count
// on, since there are workflows of their numbers.
func TestRefreshBegun(t *testing.T) {
	ctx := context.Background()
	for set, free := range map[string]bool{
		"attempt = 1, lost = 1, started = 7":              true,
		`attempt = 2, climb = '{"round":1}'`:              true,
		"attempt = 1, touched = 1":                        false,
		`attempt = 1, entered = '{}'`:                     false,
		`attempt = 1, repaired = '{}'`:                    false,
		`attempt = 1, climb = '{"detour":{"to":"ipmi"}}'`: false,
		"attempt = 1, state = 'running'":                  false,
		"attempt = 1, state = 'waiting', parked = '{}'":   false,
	} {
		t.Run(set, func(t *testing.T) {
			s := openTest(t, filepath.Join(t.TempDir(), "unbrick.db"))
			if _, err := s.Begin(ctx, Run{FleetDigest: "f"}, hostsNow(host("A", "SYD", "redfish"))); err != nil {
				t.Fatal(err)
			}
			if _, err := s.db().Exec(`UPDATE hosts SET ` + set); err != nil {
				t.Fatal(err)
			}
			var attempt, lost, started [2]int
			read := func(i int) (data string) {
				if err := s.db().QueryRow(`SELECT attempt, lost, started, data FROM hosts`).Scan(&attempt[i], &lost[i], &started[i], &data); err != nil {
					t.Fatal(err)
				}
				return data
			}
			read(0)
			now := host("A", "SYD", "redfish")
			now.Routes[0].Address = "10.0.0.6"
			got, err := s.Refresh(ctx, "", "g", hostsNow(now), nobody)
			if err != nil || (len(got.Changed) == 1) != free || (len(got.Begun) == 1) == free {
				t.Errorf("%+v, %v", got, err)
			}
			if data := read(1); strings.Contains(data, "10.0.0.6") != free || attempt[0] != attempt[1] || lost[0] != lost[1] || started[0] != started[1] {
				t.Errorf("%s; attempts %v, lost %v, started %v", data, attempt, lost, started)
			}
		})
	}
}
