package lab_test

import (
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/lab"
	"unbrick/remediate/probe"
)

func start(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Dir, o.Pace = t.TempDir(), time.Millisecond
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestSeed: the same seed makes the same fleet, another one another.
func TestSeed(t *testing.T) {
	names := func(seed uint64) string {
		rows, err := csv.NewReader(open(t, filepath.Join(start(t, lab.Options{Hosts: 20, Seed: seed}).Dir, "fleet.csv"))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		all := ""
		for _, row := range rows[1:] {
			all += row[0] + row[1] + row[2] // name, serial, UUID; addresses are new each time
		}
		return all
	}
	if names(7) != names(7) {
		t.Error("seed 7 made two fleets")
	}
	if names(7) == names(8) {
		t.Error("seeds 7 and 8 made one fleet")
	}
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestVariety: a fleet of the demo's size has hosts that deserve each verdict the lab knows.
func TestVariety(t *testing.T) {
	count := map[remediate.Verdict]int{}
	for _, v := range start(t, lab.Options{Hosts: 60, Seed: 1}).Truth() {
		count[v]++
	}
	for _, v := range []remediate.Verdict{remediate.Fixed, remediate.Healthy, remediate.Failed} {
		if count[v] < 2 {
			t.Errorf("%d hosts deserve %s", count[v], v)
		}
	}
	if count[remediate.Fixed] < 30 {
		t.Errorf("only %d of 60 hosts can be fixed", count[remediate.Fixed])
	}
}

// TestWays: such a fleet also has a host for each way in, and a person is needed for none but
// those that were asked for.
func TestWays(t *testing.T) {
	l := start(t, lab.Options{Hosts: 60, Persons: 2, Seed: 1})
	by, routes := map[string]int{}, map[string]int{}
	for _, way := range l.Ways() {
		by[way]++
	}
	for _, h := range l.Hosts() {
		for _, r := range h.Routes {
			routes[r.Driver]++
		}
	}
	for _, way := range []string{"winrm", "redfish", "amt", "restart", "manual"} {
		if by[way] == 0 {
			t.Errorf("no host ends by %s", way)
		}
	}
	if routes["ipmi"] == 0 || routes["winrm"] <= by["winrm"] || routes["manual"] != 2 {
		t.Errorf("the inventory has %v", routes)
	}
	waiting := 0
	for _, v := range l.Truth() {
		if v == remediate.Waiting {
			waiting++
		}
	}
	if waiting != 2 {
		t.Errorf("%d hosts wait for a person", waiting)
	}
}

// TestSignsOfLife: a host that healed answers as Windows does, one that loops does not, and
// both accept connections: a connection proves nothing.
func TestSignsOfLife(t *testing.T) {
	l := start(t, lab.Options{Hosts: 40, Seed: 1})
	p := probe.New(probe.Options{})
	truth, ways := l.Truth(), l.Ways()
	for _, h := range l.Hosts() {
		if ways[h.Name] == "winrm" {
			continue // up now and then
		}
		want := truth[h.Name] == remediate.Healthy && ways[h.Name] == ""
		if up := isUp(t, p, h, want); up != want {
			t.Errorf("%s deserves %s, and is up: %t", h.Name, truth[h.Name], up)
		}
	}
}

// isUp gives a host that is to come up the time that it takes.
func isUp(t *testing.T, p *probe.Prober, h inventory.Host, want bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		evidence, err := p.Probe(ctx, h)
		if err != nil {
			t.Fatal(err)
		}
		if evidence != "" || !want || ctx.Err() != nil {
			return evidence != ""
		}
		time.Sleep(5 * time.Millisecond)
	}
}
