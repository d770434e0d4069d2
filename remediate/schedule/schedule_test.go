package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
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

func TestLate(t *testing.T) {
	due := func(n int, site string, in time.Duration) (items []schedule.Item) {
		for range n {
			items = append(items, schedule.Item{Site: site, Due: friday.Add(in), Known: true})
		}
		return items
	}
	hour := func(schedule.Item) time.Duration { return time.Hour }
	for _, tc := range []struct {
		name                          string
		items                         []schedule.Item
		slots, late, hopeless, needed int
		end                           time.Duration
		sites                         string
	}{
		{"nothing to do", nil, 4, 0, 0, 0, 0, ""},
		{"just in time", due(8, "A", 2*time.Hour), 4, 0, 0, 4, 2 * time.Hour, "A 0/8"},
		{"one too many", due(9, "A", 2*time.Hour), 4, 1, 0, 5, 3 * time.Hour, "A 1/9"},
		{"the second site pays", append(due(4, "A", time.Hour), due(6, "B", 2*time.Hour)...), 4, 2, 0, 5, 3 * time.Hour, "A 0/4 B 2/6"},
		{"too many slots", due(4, "A", 2*time.Hour), 100, 0, 0, 2, time.Hour, "A 0/4"},
		{"hopeless", append(due(2, "A", 30*time.Minute), due(2, "B", 3*time.Hour)...), 2, 2, 2, 2, 2 * time.Hour, "A 2/2 B 0/2"},
		{"unknown are never late", append(due(1, "A", time.Hour), schedule.Item{Site: "Z"}), 1, 0, 0, 1, 2 * time.Hour, "A 0/1"},
		{"no slots are one", due(2, "A", 2*time.Hour), 0, 0, 0, 1, 2 * time.Hour, "A 0/2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := schedule.Late(tc.items, friday, schedule.Capacity{Slots: tc.slots, Planned: hour})
			var sites []string
			for _, s := range f.Sites {
				sites = append(sites, fmt.Sprintf("%s %d/%d", s.Site, s.Late, s.Hosts))
			}
			got := fmt.Sprint(f.Late, f.Hopeless, f.Needed, f.End.Sub(friday), strings.Join(sites, " "))
			if want := fmt.Sprint(tc.late, tc.hopeless, tc.needed, tc.end, tc.sites); got != want {
				t.Errorf("late, hopeless, needed, end, sites: got %s, want %s", got, want)
			}
		})
	}
}

// TestNeeded: with Needed slots nobody is late who could be saved, with one fewer somebody is.
func TestNeeded(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var items []schedule.Item
		for i := range 1 + r.IntN(40) {
			items = append(items, schedule.Item{Index: i, Due: friday.Add(time.Duration(r.IntN(600)) * time.Minute), Known: r.IntN(5) > 0})
		}
		slices.SortFunc(items, func(a, b schedule.Item) int { return a.Due.Compare(b.Due) })
		planned := func(it schedule.Item) time.Duration { return time.Duration(10+it.Index) * time.Minute }
		at := func(slots int) schedule.Forecast {
			return schedule.Late(items, friday, schedule.Capacity{Slots: slots, Planned: planned})
		}
		f := at(1 + r.IntN(10))
		if f.Needed == 0 {
			continue
		}
		if enough := at(f.Needed); enough.Late != enough.Hopeless {
			t.Fatalf("%d slots should do, %d are late, %d hopeless", f.Needed, enough.Late, enough.Hopeless)
		}
		if f.Needed > 1 {
			if few := at(f.Needed - 1); few.Late == few.Hopeless {
				t.Fatalf("%d slots would do, Needed says %d", f.Needed-1, f.Needed)
			}
		}
	}
}

func TestSiteForecastIsInTheSitesZone(t *testing.T) {
	items := schedule.Order(fleet[1:2], friday)
	f := schedule.Late(items, friday, schedule.Capacity{Slots: 1, Planned: func(schedule.Item) time.Duration { return time.Hour }})
	got := []string{f.Sites[0].Due.Format(time.RFC3339), f.Sites[0].Ready.Format(time.RFC3339)}
	if want := []string{"2024-07-22T08:00:00+10:00", "2024-07-19T15:09:00+10:00"}; !reflect.DeepEqual(got, want) {
		t.Errorf("due and ready %q, want %q", got, want)
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
