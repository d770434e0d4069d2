package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

// A yard is a small fleet, treated in no time by whatever the planner says, that looks whether
// every cap and every rule is kept.
type yard struct {
	t       *testing.T
	r       *rand.Rand
	o       schedule.Options
	hosts   map[string]*inventory.Host
	state   map[string]string // "", "flying", "waiting", "ended"
	way     map[string]string
	tried   map[string]int
	planner *schedule.Planner
	now     time.Time
	log     []string
}

func randomFleet(r *rand.Rand, n int) []inventory.Host {
	zones := [][2]string{{"AU", "Australia/Sydney"}, {"DE", "Europe/Berlin"}, {"US", "America/New_York"}, {"SA", "Asia/Riyadh"}, {"", ""}}
	var hosts []inventory.Host
	for i := range n {
		site := r.IntN(7)
		h := inventory.Host{Name: fmt.Sprintf("h%04d", i), Site: fmt.Sprintf("S%d", site), Country: zones[site%5][0], TimeZone: zones[site%5][1], Tier: inventory.Normal}
		if site == 6 {
			h.Site = ""
		}
		switch r.IntN(10) {
		case 0:
			h.Tier = inventory.Dependency
		case 1, 2:
			h.Tier = inventory.Critical
		case 3:
			h.Tier = inventory.Low
		}
		if site == 3 {
			h.Opens = "24x7"
		}
		if r.IntN(40) == 0 {
			h.Labels = map[string]string{"service": []string{"dns", "keys", "ad"}[r.IntN(3)]}
		} else if r.IntN(2) == 0 {
			h.Labels = map[string]string{"model": "m" + fmt.Sprint(r.IntN(3))}
		}
		if r.IntN(6) == 0 {
			h.Group = "g" + fmt.Sprint(r.IntN(4))
		}
		for _, way := range []string{"winrm", "redfish", "azure", "manual"} {
			if r.IntN(3) > 0 {
				h.Routes = append(h.Routes, inventory.Route{Driver: way, Address: fmt.Sprintf("10.0.%d.%d", r.IntN(3), r.IntN(200))})
			}
		}
		hosts = append(hosts, h)
	}
	return hosts
}

func randomOptions(r *rand.Rand) schedule.Options {
	o := schedule.Options{Start: friday, Attempts: 1 + r.IntN(2), Names: true,
		Limits: schedule.Limits{Slots: 1 + r.IntN(20), PerSite: r.IntN(6), Images: r.IntN(4), Cloud: r.IntN(3), PerSubnet: r.IntN(3), Technicians: 1 + r.IntN(3)},
		Sites:  calendar.Sites{"s1": {Name: "S1", Slots: 2, Technicians: 2}}}
	if r.IntN(2) == 0 {
		o.Limits.Roaming = map[string]int{"DE": 2, "US": 1}
	}
	o.Ladder = remediate.DefaultLadder()
	for i := range o.Ladder {
		if o.Ladder[i].Way == "winrm" {
			o.Ladder[i].Hosts = r.IntN(5)
		}
		if o.Ladder[i].Way == "restart" {
			o.Ladder[i].Derive = false
		}
	}
	return o
}

func newYard(t *testing.T, r *rand.Rand, hosts []inventory.Host, o schedule.Options) *yard {
	y := &yard{t: t, r: r, o: o, hosts: map[string]*inventory.Host{}, state: map[string]string{}, way: map[string]string{}, tried: map[string]int{}, now: friday}
	b := schedule.NewBuilder(o)
	for i := range hosts {
		h := &hosts[i]
		if b.Add(h, i) {
			y.hosts[h.Name] = h
		}
	}
	y.planner = schedule.NewPlanner(b.Build())
	return y
}

// check takes a choice as the engine would, after all the rules were looked at.
func (y *yard) check(c schedule.Choice) {
	t, h := y.t, y.hosts[c.Host]
	if h == nil || y.state[c.Host] != "" && y.state[c.Host] != "again" {
		t.Fatalf("%s is %q and was taken", c.Host, y.state[c.Host])
	}
	if c.Why() == "" || strings.Contains(c.Why(), "\n") {
		t.Errorf("why %q", c.Why())
	}
	y.state[c.Host], y.way[c.Host] = "flying", c.Way
	y.log = append(y.log, c.Host+" "+c.Way)
	for name, other := range y.hosts {
		s := y.state[name]
		if other.Tier == inventory.Dependency && other.Site == h.Site && h.Site != "" && h.Tier != inventory.Dependency && h.Labels["service"] == "" &&
			s != "ended" {
			t.Fatalf("%s was started before %s, which its site depends on, was done", c.Host, name)
		}
		if h.Labels["service"] == "" && other.Labels["service"] != "" && s != "ended" && s != "waiting" {
			t.Fatalf("%s was started before %s, which every site depends on, was done", c.Host, name)
		}
		if name != c.Host && other.Group != "" && other.Group == h.Group && s == "flying" {
			t.Fatalf("%s and %s of group %s are in flight", c.Host, name, h.Group)
		}
	}
	y.caps()
}

// caps looks at every cap.
func (y *yard) caps() {
	used := map[string]int{}
	for name, s := range y.state {
		h, way := y.hosts[name], y.way[name]
		if s == "waiting" && way == "manual" || s == "flying" && way == "manual" {
			used["hands at "+h.Site]++
			if _, ok := y.o.Limits.Roaming[h.Country]; ok {
				used["hands of "+h.Country]++
			}
		}
		if s != "flying" {
			continue
		}
		used["way "+way]++
		switch {
		case way == "manual":
		case way == "azure" && y.o.Limits.Cloud > 0:
			used["cloud"]++
		default:
			used["slots"]++
			used["site "+h.Site]++
		}
		if remediate.Streams(way) {
			used["images "+h.Site]++
			for _, r := range h.Routes {
				if r.Driver == way {
					used["subnet "+remediate.Subnet(*h, r)]++
				}
			}
		}
	}
	for what, n := range used {
		if limit := y.limit(what); limit > 0 && n > limit {
			y.t.Fatalf("%s: %d, and the cap is %d", what, n, limit)
		}
	}
}

func (y *yard) limit(what string) int {
	l := y.o.Limits
	kind, name, _ := strings.Cut(what, " ")
	switch kind {
	case "slots":
		return l.Slots
	case "cloud":
		return l.Cloud
	case "images":
		return l.Images
	case "subnet":
		return l.PerSubnet
	case "way":
		return y.o.Ladder.Rung(name).Hosts
	case "site":
		if name == "S1" {
			return 2
		}
		if name == "" {
			return 0
		}
		return l.PerSite
	}
	if country, ok := strings.CutPrefix(what, "hands of "); ok {
		return l.Roaming[country]
	}
	if name == "at S1" {
		return 2
	}
	return l.Technicians
}

// turn ends some of what is in flight, in one way or another.
func (y *yard) turn(done int) {
	var flying []string
	for name, s := range y.state {
		if s == "flying" || s == "waiting" {
			flying = append(flying, name)
		}
	}
	slices.Sort(flying)
	y.r.Shuffle(len(flying), func(i, j int) { flying[i], flying[j] = flying[j], flying[i] })
	for _, name := range flying[:min(done, len(flying))] {
		y.end(name)
	}
}

func (y *yard) end(name string) {
	h, way := y.hosts[name], y.way[name]
	var err error
	switch y.r.IntN(6) {
	case 0:
		if y.state[name] = "ended"; true {
			err = y.planner.Healed(name)
		}
	case 1:
		if y.state[name] != "waiting" {
			y.state[name] = "waiting"
			err = y.planner.Waiting(name)
		}
	case 2, 3:
		o := schedule.Outcome{Host: name, Way: way, Verdict: remediate.Failed, Took: 10 * time.Minute, Touched: true}
		for i, r := range h.Routes {
			if r.Driver == way && i+1 < len(h.Routes) {
				o.Next = h.Routes[i+1].Driver
			}
		}
		if y.state[name] = "ended"; o.Next != "" {
			y.state[name], y.way[name] = "again", o.Next
		}
		err = y.planner.Done(o)
	default:
		y.state[name] = "ended"
		err = y.planner.Done(schedule.Outcome{Host: name, Way: way, Verdict: remediate.Fixed, Took: 8 * time.Minute, Touched: true})
	}
	if err != nil {
		y.t.Fatal(err)
	}
}

func (y *yard) run() {
	for range 100000 {
		if len(y.hosts) == y.count("ended") {
			return
		}
		for _, c := range y.planner.Take(y.now, 1+y.r.IntN(8)) {
			y.check(c)
		}
		if y.count("flying")+y.count("waiting") == 0 {
			y.t.Fatalf("%d of %d ended, nothing is in flight, and nothing was taken", y.count("ended"), len(y.hosts))
		}
		y.turn(1 + y.r.IntN(4))
		y.now = y.now.Add(time.Duration(y.r.IntN(40)) * time.Minute)
	}
	y.t.Fatal("no end")
}

func (y *yard) count(state string) (n int) {
	for _, s := range y.state {
		if s == state {
			n++
		}
	}
	return n
}

// TestPlanner: whatever happens to the hosts, no cap is exceeded, no host of a site starts before
// those that its site, or every site, depends on are done, no two of a group are in flight, and
// every host has its turn.
func TestPlanner(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			hosts := randomFleet(r, 20+r.IntN(150))
			newYard(t, r, hosts, randomOptions(r)).run()
		})
	}
}

// TestPlannerIsDeterministic: the same hosts in another order, and the same outcomes, give the
// same choices.
func TestPlannerIsDeterministic(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 2))
		hosts := randomFleet(r, 120)
		o := randomOptions(r)
		var logs [2][]string
		for i := range logs {
			y := newYard(t, rand.New(rand.NewPCG(seed, 3)), slices.Clone(hosts), o)
			y.run()
			logs[i] = y.log
			r.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		}
		if !slices.Equal(logs[0], logs[1]) {
			t.Fatalf("seed %d: two orders of one fleet give two plans", seed)
		}
	}
}

// TestPlannerAfterACrash: a planner made anew of where each host stands chooses what the old one
// does.
func TestPlannerAfterACrash(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 4))
		hosts := randomFleet(r, 150)
		o := randomOptions(r)
		o.Attempts = 1
		y := newYard(t, r, hosts, o)
		for range 20 {
			for _, c := range y.planner.Take(y.now, 5) {
				y.check(c)
			}
			y.turn(3)
			y.now = y.now.Add(10 * time.Minute)
		}
		o.Rates = schedule.NewRates()
		again := newYard(t, r, hosts, o)
		for name, s := range y.state {
			state := map[string]schedule.State{"flying": schedule.Running, "waiting": schedule.Held, "ended": schedule.Over}[s]
			if err := again.planner.Set(name, state, y.way[name], 0); err != nil {
				t.Fatal(err)
			}
		}
		for _, l := range y.planner.Learnt() {
			again.planner.Learn(l.Way, l.Model, l.Hosts, l.Failed, l.Took)
		}
		y.now = y.now.Add(time.Hour)
		old, made := y.planner.Take(y.now, 50), again.planner.Take(y.now, 50)
		if len(old) != len(made) {
			t.Fatalf("seed %d: %d and %d choices", seed, len(old), len(made))
		}
		for i := range old {
			if old[i].Host != made[i].Host {
				t.Fatalf("seed %d: choice %d is %s %s, and after a crash %s %s", seed, i, old[i].Host, old[i].Why(), made[i].Host, made[i].Why())
			}
		}
	}
}

// TestPin: a pinned site goes first until the pin ends.
func TestPin(t *testing.T) {
	var hosts []inventory.Host
	for i := range 40 {
		h := host(fmt.Sprintf("h%02d", i), []string{"SYD", "NYC"}[i%2], []string{"AU", "US"}[i%2], []string{"Australia/Sydney", "America/New_York"}[i%2])
		h.Routes = []inventory.Route{{Driver: "redfish", Address: "a"}}
		hosts = append(hosts, h)
	}
	y := newYard(t, nil, hosts, schedule.Options{Start: friday.Add(18 * time.Hour), Names: true, Limits: schedule.Limits{Slots: 100}})
	first := func(n int) (sites string) {
		for _, c := range y.planner.Take(friday.Add(19*time.Hour), n) {
			sites += c.Site[:1]
		}
		return sites
	}
	if got := first(3); got != "SSS" {
		t.Errorf("Sydney opens first, got %s", got)
	}
	if err := y.planner.Pin("NYC", friday.Add(20*time.Hour), false); err != nil {
		t.Fatal(err)
	}
	if got := first(3); got != "NNN" {
		t.Errorf("New York is pinned, got %s", got)
	}
	if err := y.planner.Pin("NYC", time.Time{}, false); err != nil {
		t.Fatal(err)
	}
	if got := first(3); got != "SSS" {
		t.Errorf("the pin ended, got %s", got)
	}
	if err := y.planner.Pin("XXX", friday, false); err == nil {
		t.Error("a site that is not there was pinned")
	}
}

// TestWhyOfAChoice has the line that an operator reads.
func TestWhyOfAChoice(t *testing.T) {
	h := with(host("syd-dc", "SYD", "AU", "Australia/Sydney"), "", inventory.Dependency)
	h.Routes = []inventory.Route{{Driver: "redfish", Address: "a"}}
	y := newYard(t, nil, []inventory.Host{h}, schedule.Options{Start: friday, Names: true})
	got := y.planner.Take(friday, 1)[0].Why()
	want := "dependency; others depend on it; due Mon 08:00 AEST (Sun 22:00 UTC); 65h37m to spare; queue to start by Mon 07:46; index 0.0315, place 1"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// A host of which nobody knows when it is needed comes after all others, whoever of its site
// depends on it, unless somebody pins its site or every site does; and says so.
func TestNoOpeningKnown(t *testing.T) {
	var hosts []inventory.Host
	add := func(name, site, country, zone, tier, service string) {
		h := host(name, site, country, zone)
		h.Tier, _ = inventory.ParseTier(tier)
		h.Routes, h.Labels = []inventory.Route{{Driver: "redfish", Address: "a"}}, map[string]string{"service": service}
		hosts = append(hosts, h)
	}
	add("lost-dc", "LOST", "", "", "dependency", "")
	add("lost-pc", "LOST", "", "", "normal", "")
	add("lost-dns", "LOST", "", "", "normal", "dns")
	add("syd-dc", "SYD", "AU", "Australia/Sydney", "dependency", "")
	add("syd-pc", "SYD", "AU", "Australia/Sydney", "low", "")
	add("pin-dc", "PIN", "", "", "dependency", "")
	y := newYard(t, nil, hosts, schedule.Options{Start: friday, Names: true, Limits: schedule.Limits{Slots: 1}})
	if err := y.planner.Pin("PIN", friday.Add(100*time.Hour), false); err != nil {
		t.Fatal(err)
	}
	var order, why []string
	for s := range y.planner.Order(friday) {
		order, why = append(order, s.Host), append(why, s.Why())
	}
	if want := []string{"lost-dns", "pin-dc", "syd-dc", "syd-pc", "lost-dc", "lost-pc"}; !slices.Equal(order, want) {
		t.Fatalf("got %q, want %q", order, want)
	}
	for i, host := range order {
		if last := strings.Contains(why[i], "after all others"); last != (host == "lost-dc" || host == "lost-pc") {
			t.Errorf("%s: %s", host, why[i])
		}
	}
	if !strings.Contains(why[0], "every site depends on it; no opening known; ") {
		t.Error(why[0])
	}
}

// BenchmarkTake takes and ends a host of a fleet with 300,000 of them at 3,000 sites.
func BenchmarkTake(b *testing.B) {
	zones := [][2]string{{"AU", "Australia/Sydney"}, {"DE", "Europe/Berlin"}, {"US", "America/New_York"}}
	builder := schedule.NewBuilder(schedule.Options{Start: friday, Names: true, Limits: schedule.Limits{Slots: 500}})
	for i := range 300_000 {
		z := zones[i%3]
		h := host(fmt.Sprintf("h%06d", i), fmt.Sprintf("S%04d", i%3000), z[0], z[1])
		h.Tier = inventory.Tier(i / 3000 % 4)
		h.Routes = []inventory.Route{{Driver: "redfish", Address: "a"}, {Driver: "manual", Address: "a"}}
		builder.Add(&h, i)
	}
	p := schedule.NewPlanner(builder.Build())
	now, flying := friday, []schedule.Choice(nil)
	for b.Loop() {
		flying = append(flying, p.Take(now, 1)...)
		if len(flying) < 400 {
			continue
		}
		if err := p.Done(schedule.Outcome{Host: flying[0].Host, Way: flying[0].Way, Verdict: remediate.Fixed, Took: 14 * time.Minute, Touched: true}); err != nil {
			b.Fatal(err)
		}
		flying, now = flying[1:], now.Add(2*time.Second)
	}
}
