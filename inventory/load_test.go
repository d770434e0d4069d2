package inventory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/sourcetest"
)

// memory is a source of hosts and errors in their order; line numbers are given as they come,
// from 2 on, as if a header stood in front.
type memory []any

func (m memory) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for i, v := range m {
			if ctx.Err() != nil {
				yield(inventory.Host{}, ctx.Err())
				return
			}
			switch v := v.(type) {
			case inventory.Host:
				v.From = []inventory.Origin{{Source: "memory", Place: "mem", Line: i + 2}}
				if !yield(v, nil) {
					return
				}
			case *inventory.RowError:
				if !yield(inventory.Host{}, v) {
					return
				}
			case error:
				yield(inventory.Host{}, v)
				return
			}
		}
	}
}

func named(name string) inventory.Host {
	return inventory.Host{Name: name, Tier: inventory.Normal}
}

func badRow(line int, column string) *inventory.RowError {
	return &inventory.RowError{Place: "mem", Line: line, Column: column, Value: "x", Reason: "wrong", Want: "right"}
}

var errDown = errors.New("the source is down")

func TestMemorySource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Case{
		Names:  []string{"a", "b", "c"},
		Good:   func(*testing.T) inventory.Source { return memory{named("a"), named("b"), named("c")} },
		Bad:    func(*testing.T) inventory.Source { return memory{named("a"), named("b"), badRow(4, "c"), named("c")} },
		Broken: func(*testing.T) inventory.Source { return memory{named("a"), errDown, named("b")} },
	})
}

// both loads with Load and with NewScan, and demands that they agree.
func both(t *testing.T, opts inventory.Options, sources ...inventory.Source) (*inventory.Fleet, error) {
	t.Helper()
	ctx := context.Background()
	fleet, err := inventory.Load(ctx, opts, sources...)
	scan, err2 := inventory.NewScan(ctx, opts, sources...)
	if fmt.Sprint(err) != fmt.Sprint(err2) || (fleet == nil) != (scan == nil) {
		t.Fatalf("Load says %v, NewScan %v", err, err2)
	}
	if fleet == nil {
		return nil, err
	}
	a, _ := json.Marshal(fleet.Summary)
	b, _ := json.Marshal(scan.Summary)
	if string(a) != string(b) {
		t.Fatalf("Load:    %s\nNewScan: %s", a, b)
	}
	var again []string
	for h, err := range scan.Hosts(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		again = append(again, h.Name)
	}
	if got := hostNames(fleet.Hosts); !slices.Equal(got, again) || len(got) != fleet.Usable {
		t.Fatalf("Load has %q, Scan.Hosts %q, usable %d", got, again, fleet.Usable)
	}
	return fleet, err
}

func hostNames(hosts []inventory.Host) (names []string) {
	for _, h := range hosts {
		names = append(names, h.Name)
	}
	return names
}

func TestLoad(t *testing.T) {
	fleet, err := both(t, inventory.Options{}, memory{named("a"), named("b")}, memory{named("c")})
	if err != nil || fleet.Rows != 3 || fleet.Usable != 3 {
		t.Errorf("got %+v, %v", fleet, err)
	}
	if _, err := both(t, inventory.Options{SkipBad: true}, memory{named("a"), errDown}); !errors.Is(err, errDown) {
		t.Errorf("a source that fails ends it, whatever is to be skipped: got %v", err)
	}
	if _, err := both(t, inventory.Options{}, memory{}); err == nil || !strings.Contains(err.Error(), "no hosts") {
		t.Errorf("an empty inventory: got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := inventory.Load(ctx, inventory.Options{}, memory{named("a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestBadRows(t *testing.T) {
	src := memory{named("a"), badRow(3, "mac"), badRow(3, "uuid"), named("b"), badRow(5, "mac"), named("c")}
	fleet, err := both(t, inventory.Options{}, src)
	var p *inventory.Problems
	if !errors.As(err, &p) || p.Total != 3 || p.Rows != 2 || fleet.Rows != 5 || fleet.Usable != 3 {
		t.Fatalf("got %+v, %v", fleet, err)
	}
	const want = `3 values in 2 rows cannot be used:
mem:3: column "mac": "x": wrong (want right)
mem:3: column "uuid": "x": wrong (want right)
mem:5: column "mac": "x": wrong (want right)`
	if err.Error() != want {
		t.Errorf("got %s\nwant %s", err, want)
	}
	b, _ := json.Marshal(p)
	if want := `{"problems":[{"place":"mem","line":3,"column":"mac","value":"x","reason":"wrong","want":"right"}`; !strings.HasPrefix(string(b), want) {
		t.Errorf("JSON %s", b)
	}
	if fleet, err = both(t, inventory.Options{SkipBad: true}, src); err != nil || fleet.Problems.Total != 3 {
		t.Errorf("SkipBad: got %+v, %v", fleet, err)
	}
	if _, err = both(t, inventory.Options{SkipBad: true}, memory{badRow(2, "mac")}); !errors.As(err, &p) {
		t.Errorf("nothing left: got %v", err)
	}
	fleet, _ = both(t, inventory.Options{Keep: 1}, src)
	if lines := fleet.Problems.Lines(); len(lines) != 2 || lines[1] != "… and 2 more" || fleet.Problems.Total != 3 {
		t.Errorf("bounded: %q", lines)
	}
}

func TestWarnings(t *testing.T) {
	w := badRow(2, "serial")
	w.Warning = true
	syd := func(name, zone string) inventory.Host {
		h := named(name)
		h.Site, h.TimeZone = "SYD", zone
		return h
	}
	fleet, err := both(t, inventory.Options{}, memory{w, named("a"), syd("b", "Australia/Sydney"), syd("c", "Europe/Berlin"), syd("d", "Europe/Berlin"), named("a")})
	if err != nil || fleet.Usable != 4 || fleet.Problems.Total != 0 {
		t.Fatalf("got %+v, %v", fleet, err)
	}
	want := []string{
		`mem:2: column "serial": "x": wrong (want right)`,
		`mem:5: column "timezone": "Europe/Berlin": site SYD has another time zone in line 4: Australia/Sydney (want one time zone for a site; each host keeps its own)`,
		`mem:7: column "name": "a": the same row as mem:3 (want each host once)`,
	}
	if got := fleet.Warnings.Lines(); !slices.Equal(got, want) || fleet.Warnings.Rows != 3 {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestDuplicates(t *testing.T) {
	type hosts = []inventory.Host
	serial := func(name, serial string) inventory.Host { h := named(name); h.Serial = serial; return h }
	uuid := func(name, uuid string) inventory.Host { h := named(name); h.UUID = uuid; return h }
	by := func(name, driver, address string) inventory.Host {
		h := named(name)
		h.Routes = []inventory.Route{{Driver: driver, Address: address}}
		return h
	}
	for _, tc := range []struct {
		name  string
		hosts hosts
		want  string // line, column and earlier line of each, joined by spaces
		left  string
	}{
		{"name in another case", hosts{serial("PC-1", "s1"), named("x"), serial("pc-1", "s2")}, "4/name/2", "x"},
		{"name beyond ASCII", hosts{serial("MÜNCHEN", "s1"), serial("münchen", "s2")}, "3/name/2", ""},
		{"serial", hosts{serial("a", "S1"), serial("b", "s1"), named("c")}, "3/serial/2", "c"},
		{"UUID", hosts{uuid("a", "u1"), uuid("b", "u1")}, "3/uuid/2", ""},
		{"three of one", hosts{serial("a", "S1"), serial("b", "S1"), serial("c", "S1")}, "3/serial/2 4/serial/2", ""},
		{"two values at once", hosts{{Name: "a", Serial: "1", UUID: "2"}, {Name: "b", Serial: "1", UUID: "2"}}, "3/serial/2 3/uuid/2", ""},
		{"one BMC for two hosts", hosts{by("a", "redfish", "https://BMC1/"), by("b", "redfish", "bmc1"), named("c")}, "3/redfish/2", "c"},
		{"one technician for two hosts is fine", hosts{by("a", "manual", "kim"), by("b", "manual", "kim")}, "", "a b"},
		{"serial and UUID are told apart", hosts{serial("a", "1"), uuid("b", "1"), named("1")}, "", "a b 1"},
		{"nothing is no identity", hosts{serial("a", ""), serial("b", ""), uuid("c", "")}, "", "a b c"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var src memory
			for _, h := range tc.hosts {
				src = append(src, h)
			}
			fleet, err := both(t, inventory.Options{SkipBad: true}, src, memory{named("last")})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range fleet.Problems.First {
				var first int
				if _, err := fmt.Sscanf(e.Reason, "another host already has it: mem:%d", &first); err != nil {
					t.Fatalf("%q: %v", e.Reason, err)
				}
				got = append(got, fmt.Sprintf("%d/%s/%d", e.Line, e.Column, first))
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("duplicates: got %q, want %q", s, tc.want)
			}
			if left := strings.Join(hostNames(fleet.Hosts), " "); left != strings.TrimSpace(tc.left+" last") {
				t.Errorf("left: got %q, want %q", left, tc.left)
			}
			if bad := len(tc.hosts) - len(strings.Fields(tc.left)); fleet.Problems.Rows != bad || fleet.Rows != len(tc.hosts)+1 {
				t.Errorf("%d of %d rows are bad, want %d of %d", fleet.Problems.Rows, fleet.Rows, bad, len(tc.hosts)+1)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	digest := func(src ...any) string {
		fleet, err := both(t, inventory.Options{SkipBad: true}, memory(src))
		if err != nil {
			t.Fatal(err)
		}
		return fleet.Digest
	}
	full := inventory.Host{
		Name: "a", Serial: "s", UUID: "u", MAC: []string{"m1", "m2"}, Address: "ad", Site: "si", Country: "DE",
		Region: "re", TimeZone: "Europe/Berlin", Opens: "08:00", Technician: "te", Tier: inventory.Low, Group: "g",
		Routes: []inventory.Route{{Driver: "redfish", Address: "r1"}, {Driver: "ipmi", Address: "r2"}},
		Labels: map[string]string{"k1": "v1", "k2": "v2"},
	}
	want := digest(full, named("b"))
	if len(want) != 64 {
		t.Errorf("digest %q is no SHA-256", want)
	}
	if got := digest(named("b"), full); got != want {
		t.Error("the order of the rows changes the digest")
	}
	if got := digest(badRow(2, "mac"), full, named("b")); got != want {
		t.Error("a row that is not used changes the digest")
	}
	for field, change := range map[string]func(*inventory.Host){
		"name": func(h *inventory.Host) { h.Name = "A" }, "serial": func(h *inventory.Host) { h.Serial = "" },
		"uuid": func(h *inventory.Host) { h.UUID = "v" }, "mac": func(h *inventory.Host) { h.MAC = []string{"m1"} },
		"mac split": func(h *inventory.Host) { h.MAC = []string{"m1m2"} }, "address": func(h *inventory.Host) { h.Address = "x" },
		"site": func(h *inventory.Host) { h.Site = "x" }, "country": func(h *inventory.Host) { h.Country = "FR" },
		"region": func(h *inventory.Host) { h.Region = "x" }, "timezone": func(h *inventory.Host) { h.TimeZone = "UTC" },
		"opens": func(h *inventory.Host) { h.Opens = "24x7" }, "technician": func(h *inventory.Host) { h.Technician = "x" },
		"tier": func(h *inventory.Host) { h.Tier = inventory.Critical }, "group": func(h *inventory.Host) { h.Group = "x" },
		"route":       func(h *inventory.Host) { h.Routes = []inventory.Route{h.Routes[0], {Driver: "ipmi", Address: "x"}} },
		"route order": func(h *inventory.Host) { h.Routes = []inventory.Route{h.Routes[1], h.Routes[0]} },
		"label":       func(h *inventory.Host) { h.Labels = map[string]string{"k1": "v1", "k2": "x"} },
		"moved":       func(h *inventory.Host) { h.Site, h.Region = h.Site+h.Region, "" },
	} {
		h := full
		change(&h)
		if digest(h, named("b")) == want {
			t.Errorf("a change of %s does not change the digest", field)
		}
	}
}

// TestScanSeesChange: what is read the second time must be what was judged.
func TestScanSeesChange(t *testing.T) {
	src := memory{named("a"), named("b")}
	scan, err := inventory.NewScan(context.Background(), inventory.Options{}, src)
	if err != nil {
		t.Fatal(err)
	}
	src[1] = named("c")
	var last error
	for _, err := range scan.Hosts(context.Background()) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "changed while it was read") {
		t.Errorf("got %v", last)
	}
	for range scan.Hosts(context.Background()) { // and it stops when told to
		break
	}
}
