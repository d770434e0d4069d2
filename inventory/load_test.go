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
	for _, tc := range []struct {
		name string
		rows string // of one source, as row has them
		want string // line, column and earlier line of each warning; of each problem with a ! before it
		left string // hosts with their values, as brief has them
	}{
		{"name in another case", "PC-1 serial=s1\n x\n pc-1 serial=s2", "!3/name/1", "x"},
		{"name beyond ASCII", "MÜNCHEN serial=s1\n münchen serial=s2", "!2/name/1", ""},
		{"retired, and in use", "PC1 serial=s1 state=retired seen=9\n PC1 serial=s2 seen=3\n PC1 serial=s3 state=in-stock", "2/name/1 3/name/2", "PC1:s2"},
		{"in use, and retired", "PC1 serial=s2\n PC1 serial=s1 state=retired seen=9", "2/name/1", "PC1:s2"},

		{"serial", "a serial=S1\n b serial=s1 redfish=b\n c", "2/serial/1", "a b:b c"},
		{"blades, one seen later", "a serial=C9 redfish=1 seen=3\n b serial=C9 redfish=2 seen=4\n c serial=C9 redfish=3 seen=5", "2/serial/1 3/serial/1", "a:1 b:2 c:3"},
		{"UUID", "a uuid=1 serial=s1\n b uuid=1 serial=s2", "2/uuid/1", "a:s1 b:s2"},
		{"two values at once", "a serial=1 uuid=2\n b serial=1 uuid=2", "2/serial/1 2/uuid/1", "a b"},
		{"serial and UUID are told apart", "a serial=1\n b uuid=1\n 1", "", "a:1 b:" + uuidOf("1") + " 1"},
		{"nothing is no identity", "a\n b\n c", "", "a b c"},
		{"of one who is not in use", "a serial=s1 redfish=1 state=retired\n b serial=s1 redfish=1\n c redfish=2", "2/redfish/1 2/serial/1", "a b:s1:1 c:2"},
		{"after a row that is put aside", "a serial=s1 seen=3\n b serial=s1\n a serial=s2 seen=4", "3/name/1", "b:s1 a:s2"},
		{"beside a row that is put aside", "a serial=s1 seen=3\n b serial=s1\n a serial=s2 seen=4\n c serial=s1", "3/name/1 4/serial/2", "b a:s2 c"},

		{"one BMC for two hosts", "a redfish=https://BMC1/ serial=s1 seen=3\n b redfish=bmc1 serial=s2 seen=4\n c", "2/redfish/1", "a:s1 b:s2 c"},
		{"one BMC, with its port and without", "a redfish=10.0.0.7\n b redfish=https://10.0.0.7:443\n c redfish=https://10.0.0.7/redfish/v1/\n d redfish=10.0.0.7:8443", "2/redfish/1 3/redfish/1", "a b c d:10.0.0.7:8443"},
		{"one BMC by two protocols", "a redfish=10.0.0.7\n b ipmi=10.0.0.7:623\n c netboot=ipmi:10.0.0.7\n d restart=redfish:https://10.0.0.7", "2/ipmi/1 3/netboot/1 4/restart/1", "a b c d"},
		{"one host's BMC by two protocols", "a redfish=10.0.0.7 ipmi=10.0.0.7 netboot=auto restart=auto\n b redfish=10.0.0.8 netboot=auto restart=auto", "", "a:10.0.0.7:10.0.0.7:auto:auto b:10.0.0.8:auto:auto"},
		{"hosts of one chassis", "a redfish=c/redfish/v1/Systems/1\n b redfish=https://c/redfish/v1/Systems/2\n d redfish=c2", "", "a:c/redfish/v1/Systems/1 b:https://c/redfish/v1/Systems/2 d:c2"},
		{"a host of a chassis twice", "a redfish=c/redfish/v1/Systems/1\n b redfish=c/redfish/v1/Systems/2\n d redfish=https://C:443/redfish/v1/Systems/2/", "3/redfish/2", "a:c/redfish/v1/Systems/1 b d"},
		{"a chassis, and one of its hosts", "a redfish=c/redfish/v1/Systems/1\n b redfish=c", "2/redfish/1", "a b"},
		{"simulated BMCs behind one address", "a redfish=127.0.0.1:9001\n b redfish=127.0.0.1:9002", "", "a:127.0.0.1:9001 b:127.0.0.1:9002"},
		{"one technician for two hosts is fine", "a manual=kim\n b manual=kim", "", "a:kim b:kim"},
		{"a MAC address", "a mac=1,2\n b mac=2\n c mac=2,3", "2/mac/1", "a:52:54:00:00:00:01 b c:52:54:00:00:00:03"},
		{"a MAC address of one who is not in use", "a mac=1 state=in-stock\n b mac=1", "2/mac/1", "a b:52:54:00:00:00:01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := rows{name: "mem"}
			for line := range strings.Lines(tc.rows) {
				src.hosts = append(src.hosts, row(t, line))
			}
			fleet, _ := both(t, inventory.Options{SkipBad: true}, src)
			addsUp(t, fleet)
			var got []string
			for mark, errs := range map[string][]*inventory.RowError{"!": fleet.Problems.First, "": fleet.Warnings.First} {
				for _, e := range errs {
					_, first, _ := strings.Cut(e.Reason, "mem:")
					got = append(got, fmt.Sprintf("%s%d/%s/%s", mark, e.Line, e.Column, first))
				}
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("says %q, want %q", s, tc.want)
			}
			var left []string
			for _, h := range fleet.Hosts {
				left = append(left, brief(h))
			}
			if s := strings.Join(left, " "); s != tc.left {
				t.Errorf("left: %q, want %q", s, tc.left)
			}
			for i, h := range fleet.Hosts { // what is taken away is noted
				was := slices.IndexFunc(src.hosts, func(o inventory.Host) bool { return o.Name == h.Name && (h.Serial == "" || h.Serial == o.Serial) })
				if lost := strings.Count(brief(src.hosts[was]), ":") > strings.Count(left[i], ":"); lost != (len(h.Conflicts) > 0) {
					t.Errorf("%s was %s, and has the conflicts %v", left[i], brief(src.hosts[was]), h.Conflicts)
				}
			}
			if tc.want == "" || strings.Contains(tc.want, "name") {
				return
			}
			// Beside another source that says nothing of them it is the same, whichever comes first.
			for _, sources := range [][]inventory.Source{{src, memory{named("last")}}, {memory{named("last")}, src}} {
				fleet, err := both(t, inventory.Options{}, sources...)
				if err != nil {
					t.Fatal(err)
				}
				var again []string
				for _, h := range fleet.Hosts {
					if h.Name != "last" {
						again = append(again, brief(h))
					}
				}
				if s := strings.Join(again, " "); s != tc.left {
					t.Errorf("beside another source: %q, want %q", s, tc.left)
				}
			}
		})
	}
}

// brief writes a host as its name and what it is known and reached by.
func brief(h inventory.Host) string {
	words := []string{h.Name}
	for _, v := range append([]string{h.Serial, h.UUID}, h.MAC...) {
		if v != "" {
			words = append(words, v)
		}
	}
	for _, r := range h.Routes {
		words = append(words, r.Address)
	}
	return strings.Join(words, ":")
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
