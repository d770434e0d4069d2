package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate/schedule"
)

// friday is when the model incident began.
var friday = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)

func host(name, site, country, zone string) inventory.Host {
	return inventory.Host{Name: name, Site: site, Country: country, TimeZone: zone, Tier: inventory.Normal}
}

func with(h inventory.Host, opens string, tier inventory.Tier) inventory.Host {
	h.Opens, h.Tier = opens, tier
	return h
}

// fleet has sites whose order by clock is not that of the file, nor of the map. On the Friday
// the incident began at 14:09 in Sydney and 00:09 in New York.
var fleet = []inventory.Host{
	host("nyc-1", "NYC", "US", "America/New_York"),
	host("syd-1", "SYD", "AU", "Australia/Sydney"),
	host("ruh-1", "RUH", "SA", ""),
	host("dxb-1", "DXB", "AE", "Asia/Dubai"),
	host("ber-1", "BER", "DE", ""),
	with(host("plant-1", "PLT", "DE", "Europe/Berlin"), "24x7", inventory.Critical),
	host("usa-1", "???", "US", ""),
	host("lost", "", "", ""),
}

func names(items []schedule.Item) (out []string) {
	for _, it := range items {
		out = append(out, it.Name)
	}
	return out
}

func TestOrder(t *testing.T) {
	// From Friday evening UTC every office is closed or closing for the weekend.
	evening := friday.Add(18 * time.Hour)
	for _, tc := range []struct {
		name string
		now  time.Time
		want string
	}{
		{"weekend: Riyadh opens on Sunday, Sydney before New York on Monday", evening, "plant-1 ruh-1 syd-1 dxb-1 ber-1 nyc-1 lost usa-1"},
		{"Friday 08:09 in Dubai: Berlin and New York open on this day, Dubai on Monday again", friday, "ber-1 plant-1 nyc-1 ruh-1 syd-1 dxb-1 lost usa-1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			items := schedule.Order(fleet, tc.now)
			if got := names(items); !slices.Equal(got, strings.Fields(tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			for _, it := range items {
				if fleet[it.Index].Name != it.Name {
					t.Errorf("%s has the index of %s", it.Name, fleet[it.Index].Name)
				}
				if it.Why == "" || it.Known == it.Due.IsZero() {
					t.Errorf("%+v", it)
				}
			}
			for _, it := range items[6:] {
				if it.Known || !strings.Contains(it.Why, "no time zone") {
					t.Errorf("%s must come last and say why: %+v", it.Name, it)
				}
			}
		})
	}
}

func TestWhy(t *testing.T) {
	why := map[string]string{}
	for _, it := range schedule.Order(fleet, friday.Add(18*time.Hour)) {
		why[it.Name] = it.Why
	}
	for name, want := range map[string]string{
		"syd-1":   "opens Mon 08:00 AEST (Sun 22:00 UTC)",
		"ruh-1":   "opens Sun 08:00 +03 (Sun 05:00 UTC)",
		"plant-1": "open round the clock: critical tier wanted within 4h, by Sat 04:09 CEST (Sat 02:09 UTC)",
		"usa-1":   "last: no time zone, and US has 8: one of America/New_York",
		"lost":    "last: no time zone and no country",
	} {
		if !strings.HasPrefix(why[name], want) {
			t.Errorf("%s: %q, want %q", name, why[name], want)
		}
	}
}

// TestTiers: within a site those that others depend on come first, whatever their own hours.
func TestTiers(t *testing.T) {
	at := func(name, opens string, tier inventory.Tier) inventory.Host {
		return with(host(name, "BER", "DE", "Europe/Berlin"), opens, tier)
	}
	lost := at("dc-lost", "", inventory.Dependency)
	lost.TimeZone, lost.Country = "", ""
	hosts := []inventory.Host{
		at("low", "08:00", inventory.Low),
		at("b", "08:00", inventory.Normal),
		at("a", "08:00", inventory.Normal),
		at("crit", "08:00", inventory.Critical),
		at("warehouse", "05:00", inventory.Normal),
		at("dc", "08:00", inventory.Dependency),
		lost,
	}
	items := schedule.Order(hosts, friday.Add(18*time.Hour))
	if got, want := names(items), strings.Fields("dc dc-lost warehouse crit a b low"); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if want := "others at BER depend on it; the first opens Mon 05:00 CEST"; !strings.HasPrefix(items[0].Why, want) {
		t.Errorf("why %q", items[0].Why)
	}
}

// TestOrderLaws: the order of the input does not matter, and every host is there once.
func TestOrderLaws(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var hosts []inventory.Host
	for i := range 300 {
		h := fleet[r.IntN(len(fleet))]
		h.Name = fmt.Sprintf("h%03d", i)
		h.Tier = inventory.Tier(r.IntN(4))
		hosts = append(hosts, h)
	}
	want := names(schedule.Order(hosts, friday))
	for range 5 {
		r.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		if got := names(schedule.Order(hosts, friday)); !slices.Equal(got, want) {
			t.Fatal("the order depends on the order of the input")
		}
	}
	sorted := slices.Clone(want)
	slices.Sort(sorted)
	if len(slices.Compact(sorted)) != len(hosts) {
		t.Error("a host is missing or there twice")
	}
}

func BenchmarkOrder(b *testing.B) {
	hosts := make([]inventory.Host, 100_000)
	for i := range hosts {
		hosts[i] = fleet[i%len(fleet)]
		hosts[i].Name = fmt.Sprintf("h%06d", i*7919%len(hosts))
	}
	for b.Loop() {
		schedule.Order(hosts, friday)
	}
}
