package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"unbrick/inventory"
	"unbrick/remediate"
	pxe "unbrick/remediate/netboot"
	"unbrick/remediate/schedule"
)

// drawings checks, in a script, that a page has at least so many drawings, each well-formed XML
// without numbers that are none.
func drawings(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: drawings FILE LEAST")
	}
	least, err := strconv.Atoi(args[1])
	ts.Check(err)
	found := regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(ts.ReadFile(args[0]), -1)
	if len(found) < least {
		ts.Fatalf("%d drawings in %s, want %d", len(found), args[0], least)
	}
	for _, svg := range found {
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			ts.Fatalf("a drawing has a number that is none: %s", svg)
		}
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				ts.Fatalf("a drawing is not well-formed: %v", err)
			}
		}
	}
}

// writeFleet writes a fleet of n hosts, 100 to a site, in nine zones and by three ways in.
func writeFleet(t testing.TB, file string, n int) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "name,serial,uuid,site,country,region,timezone,opens,tier,redfish,winrm,manual,model")
	zones := []string{"AU,APAC,Australia/Sydney", "JP,APAC,Asia/Tokyo", "IN,APAC,Asia/Kolkata", "DE,EMEA,Europe/Berlin", "GB,EMEA,Europe/London",
		"SA,EMEA,Asia/Riyadh", "US,AMER,America/New_York", "US,AMER,America/Los_Angeles", "BR,AMER,America/Sao_Paulo"}
	r := rand.New(rand.NewPCG(1, 1))
	sites := max(1, n/100)
	for i := range n {
		tier, way := inventory.Normal, ",,desk"
		if r.Float64() < 0.1 {
			tier = inventory.Tier(r.IntN(4))
		}
		switch x := r.Float64(); {
		case x < 0.4:
			way = fmt.Sprintf("https://10.%d.%d.%d,,", i>>16&255, i>>8&255, i&255)
		case x < 0.6:
			way = fmt.Sprintf(",h%08d.corp.example,", i)
		}
		fmt.Fprintf(w, "h%08d,SN%08d,,S%05d,%s,,%s,%s,M%d\n", i, i, i%sites, zones[i%sites%len(zones)], tier, way, i%5)
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestStreamedPlan: a file whose hosts are counted gives the plan that it gives when they are held.
func TestStreamedPlan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fleet.csv")
	writeFleet(t, file, 2000)
	at := time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	cfg := defaults()
	src, err := csvSource(cfg, file)
	if err != nil {
		t.Fatal(err)
	}
	fleet, err := inventory.Load(t.Context(), inventory.Options{}, src)
	if err != nil {
		t.Fatal(err)
	}
	options := []schedule.Options{cfg.planOptions(at)}
	want := held(fleet.Hosts, options...).plan(at, planWish{})
	if want.Forecast.All.Hosts != 2000 || len(want.Forecast.Sites) != 20 {
		t.Fatalf("%d hosts at %d sites", want.Forecast.All.Hosts, len(want.Forecast.Sites))
	}
	for _, most := range []int{0, 100, 2000} {
		s := &stream{sites: cfg.places.sites.Fill, twice: newTwice(), most: most, options: options}
		if err := s.read(t.Context(), src); err != nil {
			t.Fatal(err)
		}
		got := s.census().plan(at, planWish{})
		if got.Counted != (most < 2000) {
			t.Errorf("held up to %d: counted is %v", most, got.Counted)
		}
		g, err := json.Marshal(got.Forecast)
		w, err2 := json.Marshal(want.Forecast)
		if err != nil || err2 != nil || !bytes.Equal(g, w) {
			t.Errorf("held up to %d: the forecast is another, %v, want %v (%v, %v)", most, got.Forecast.All, want.Forecast.All, err, err2)
		}
		if n := s.twice.count(); n != 0 {
			t.Errorf("%d values stand twice", n)
		}
	}
}

// TestTwice: what two rows claim is counted in any case, a technician of many hosts is not.
func TestTwice(t *testing.T) {
	two := newTwice()
	for i, name := range []string{"PC-a", "pc-b", "pc-A", "pc-c"} {
		two.see(&inventory.Host{Name: name, Serial: "S" + name, UUID: fmt.Sprint(i),
			Routes: []inventory.Route{{Driver: "redfish", Address: fmt.Sprint("10.0.0.", i)}, {Driver: "manual", Address: "desk"}}})
	}
	if n := two.count(); n != 2 { // a name and its serial number
		t.Errorf("%d values stand twice, want 2", n)
	}
}

// TestPlanServes: the plan reckons with the ways in that a run has, and no others.
func TestPlanServes(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		cfg := defaults()
		cfg.Netboot.Enabled = enabled
		k := &kit{cfg: cfg}
		if enabled {
			k.boot = new(pxe.Server)
		}
		drivers, err := k.listDrivers(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range remediate.DefaultLadder() {
			if got, want := cfg.serves(r.Way), drivers[r.Way] != nil; got != want {
				t.Errorf("netboot %v: the plan has %s: %v, a run: %v", enabled, r.Way, got, want)
			}
		}
	}
}

// TestPlanUnable: the plan leaves out the ways in that cannot carry out the playbook, as a run does.
func TestPlanUnable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "registry.yaml")
	err := os.WriteFile(file, []byte("name: incident-2\ntitle: A value\nsteps:\n  - registry: {hive: SYSTEM, key: 'CurrentControlSet\\Services\\acme', value: Start, type: REG_DWORD, when: {equals: 0}, set: 4}\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for playbook, want := range map[string]bool{"crowdstrike-291": false, file: true} {
		cfg := defaults()
		cfg.Playbook = playbook
		k := &kit{cfg: cfg}
		if k.playbook, err = openPlaybook(playbook); err != nil {
			t.Fatal(err)
		}
		if k.drivers, err = k.listDrivers(nil); err != nil {
			t.Fatal(err)
		}
		for _, r := range remediate.DefaultLadder() {
			plan, run := cfg.unable(r.Way), remediate.Supports(k.drivers[r.Way], k.playbook)
			if (plan == nil) != (run == nil) || want && r.Way == "winrm" && (run == nil || !strings.Contains(run.Error(), "registry")) {
				t.Errorf("%s by %s: the plan says %v, a run %v", playbook, r.Way, plan, run)
			}
		}
		has := slices.ContainsFunc(k.ladder(), func(r remediate.Rung) bool { return r.Way == "winrm" })
		if has == want || len(cfg.left()) > 0 != want {
			t.Errorf("%s: winrm is on the ladder: %v; left out: %q", playbook, has, cfg.left())
		}
	}
}

// What stands beside a chart is not cut off, however many hosts there are.
func TestChartText(t *testing.T) {
	for n, want := range map[int]string{0: "0", 99_999: "99999", 100_000: "100k", 999_499: "999k", 999_500: "1.0M", 1_234_567: "1.2M",
		9_949_999: "9.9M", 9_950_000: "10M", 85_000_000: "85M"} {
		if got := few(n); got != want {
			t.Errorf("%d is %s, want %s", n, got, want)
		}
	}
	from := time.Date(2024, 7, 19, 0, 0, 0, 0, time.UTC)
	for hours := range 200 {
		g := newChart(curve{Hosts: 8_500_000, Until: from.Add(time.Duration(hours+1)*time.Hour + time.Minute)}, from)
		for _, k := range g.Ticks {
			if k.Text != "" && k.X+18 > float64(g.Right) {
				t.Fatalf("%q at %.0f of %d", k.Text, k.X, g.Right)
			}
		}
		if g.Most != "8.5M" {
			t.Error(g.Most)
		}
	}
}
