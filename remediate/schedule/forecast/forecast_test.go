package forecast_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

// friday is when the model incident began.
var friday = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)

// A lot is equal hosts of a site.
type lot struct {
	site string
	n    int
	way  string
	tier inventory.Tier
	held bool
}

var zones = map[string][2]string{
	"SYD": {"AU", "Australia/Sydney"}, "BER": {"DE", "Europe/Berlin"}, "NYC": {"US", "America/New_York"}, "SEA": {"US", "America/Los_Angeles"},
}

func fleet(lots []lot, o schedule.Options) *schedule.Fleet {
	o.Held = func(h *inventory.Host) string {
		if h.Labels["key"] == "none" {
			return "no recovery key"
		}
		return ""
	}
	b := schedule.NewBuilder(o)
	i := 0
	for _, l := range lots {
		for range l.n {
			h := inventory.Host{Name: fmt.Sprintf("h%05d", i), Site: l.site, Country: zones[l.site][0], TimeZone: zones[l.site][1], Region: zones[l.site][0],
				Tier: l.tier, Routes: []inventory.Route{{Driver: l.way, Address: "a"}}}
			if l.held {
				h.Labels = map[string]string{"key": "none"}
			}
			b.Add(&h, i)
			i++
		}
	}
	return b.Build()
}

// assume makes every way take so many minutes and fail never.
func assume(minutes float64) *schedule.Rates {
	r := schedule.NewRates()
	for _, way := range []string{"redfish", "manual", "winrm", "ec2"} {
		r.Assume(way, schedule.Assumption{Minutes: minutes})
	}
	return r
}

// TestConsoleExample is the line of scheduling.md, section 7: 254 minutes before Sydney opens.
func TestConsoleExample(t *testing.T) {
	now := time.Date(2024, 7, 21, 17, 46, 0, 0, time.UTC)
	f := fleet([]lot{{"SYD", 1040, "redfish", inventory.Normal, false}, {"SYD", 31, "redfish", inventory.Normal, true}},
		schedule.Options{Start: now, Rates: assume(12.5), Limits: schedule.Limits{Slots: 500},
			Sites: calendar.Sites{"syd": {Name: "SYD", Slots: 40}}})
	got := forecast.Look(schedule.NewDispatcher(f, nil), forecast.Options{Now: now})
	s := got.Sites[0]
	if s.OnTime.P50 < 720 || s.OnTime.P50 > 850 || s.OnTime.P10 >= s.OnTime.P50 || s.OnTime.P90 <= s.OnTime.P50 {
		t.Errorf("on time %+v, want about 812", s.OnTime)
	}
	if s.Need == nil || s.Need.Least != 52 || s.Need.Margin != 58 || s.Need.Text != "slots.SYD=58" {
		t.Errorf("need %+v", s.Need)
	}
	if len(got.Saves) != 1 || *got.Saves[0].Saves < 100 {
		t.Errorf("saves %+v", got.Saves)
	}
	line := s.String()
	for _, want := range []string{"SYD (08:00 Mon, Sun 22:00 UTC): ", " of 1040 by opening", "with 40 slots. Needs 52, 58 with margin", "Limit: site slots.", "Start by Mon 02:22 local.", "31 not in the plan: no recovery key."} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %q", want, line)
		}
	}
}

// TestLimit: what binds is named, with what would loosen it.
func TestLimit(t *testing.T) {
	now := time.Date(2024, 7, 21, 17, 0, 0, 0, time.UTC) // five hours before Sydney opens
	many := schedule.Limits{Slots: 1000}
	for _, tc := range []struct {
		name   string
		lots   []lot
		limits schedule.Limits
		rung   remediate.Rung
		change func(*schedule.Dispatcher)
		limit  string // of Sydney
		need   string
	}{
		{"in time", []lot{{"SYD", 50, "redfish", inventory.Normal, false}}, many, remediate.Rung{}, nil, "", ""},
		{"slots of the run", []lot{{"SYD", 300, "redfish", inventory.Normal, false}}, schedule.Limits{Slots: 10}, remediate.Rung{}, nil, "slots of the run", "slots=14"},
		{"site slots", []lot{{"SYD", 300, "redfish", inventory.Normal, false}}, schedule.Limits{Slots: 1000, PerSite: 10}, remediate.Rung{}, nil, "site slots", "slots.SYD=14"},
		{"technicians", []lot{{"SYD", 100, "manual", inventory.Normal, false}}, schedule.Limits{Technicians: 2}, remediate.Rung{}, nil, "technicians", "technicians.SYD=5"},
		{"roaming", []lot{{"SYD", 100, "manual", inventory.Normal, false}}, schedule.Limits{Technicians: 50, Roaming: map[string]int{"AU": 2}}, remediate.Rung{}, nil, "technicians of AU", "technicians.AU=5"},
		{"cloud", []lot{{"SYD", 300, "ec2", inventory.Normal, false}}, schedule.Limits{Cloud: 8}, remediate.Rung{}, nil, "API places of the clouds", "cloud=14"},
		{"a way", []lot{{"SYD", 300, "redfish", inventory.Normal, false}}, many, remediate.Rung{Way: "redfish", Hosts: 10}, nil, "places of redfish", "route.redfish=14"},
		{"no key", []lot{{"SYD", 5, "redfish", inventory.Normal, true}, {"SYD", 5, "redfish", inventory.Normal, false}}, many, remediate.Rung{}, nil, "no recovery key", ""},
		{"halted", []lot{{"SYD", 5, "redfish", inventory.Normal, false}, {"SYD", 5, "winrm", inventory.Normal, false}}, many, remediate.Rung{},
			func(d *schedule.Dispatcher) { d.Limit("winrm", "", 0) }, "halted cohort", ""},
		{"dependency tier", []lot{{"SYD", 24, "manual", inventory.Dependency, false}, {"SYD", 900, "redfish", inventory.Normal, false}},
			schedule.Limits{Slots: 250, Technicians: 1}, remediate.Rung{}, nil, "dependency tier: done about Mon 07:44, for want of technicians", "technicians.SYD=3"},
		{"site slots, after a dependency tier that is soon done", []lot{{"SYD", 1, "redfish", inventory.Dependency, false}, {"SYD", 300, "redfish", inventory.Normal, false}},
			schedule.Limits{Slots: 1000, PerSite: 10}, remediate.Rung{}, nil, "site slots", "slots.SYD=14"},
		{"site slots that would do on average", []lot{{"SYD", 1, "redfish", inventory.Dependency, false}, {"SYD", 270, "redfish", inventory.Normal, false}},
			schedule.Limits{Slots: 1000, PerSite: 11}, remediate.Rung{}, nil, "site slots", "slots.SYD=14"},
		{"starts in an hour", []lot{{"SYD", 1, "redfish", inventory.Dependency, false}, {"SYD", 300, "redfish", inventory.Normal, false}},
			schedule.Limits{Slots: 1000, PerHour: map[string]int{"redfish": 30}}, remediate.Rung{}, nil, "per_hour of redfish", "rate.redfish=71"},
		{"two limits, either of which is too low", []lot{{"SYD", 300, "redfish", inventory.Normal, false}},
			schedule.Limits{Slots: 10, PerHour: map[string]int{"redfish": 30}}, remediate.Rung{}, nil, "per_hour of redfish", "rate.redfish=70"},
		{"a shift", []lot{{"SYD", 50, "manual", inventory.Normal, false}},
			schedule.Limits{Technicians: 50, Shift: schedule.Shift{From: 9 * time.Hour, To: 17 * time.Hour}}, remediate.Rung{}, nil, "shift of its technicians", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := schedule.Options{Start: now, Rates: assume(12), Limits: tc.limits}
			if tc.rung.Way != "" {
				o.Ladder = remediate.Ladder{tc.rung}
			}
			d := schedule.NewDispatcher(fleet(tc.lots, o), nil)
			if tc.change != nil {
				tc.change(d)
			}
			s := forecast.Look(d, forecast.Options{Now: now, NoChanges: true}).Sites[0]
			need := ""
			if s.Need != nil {
				need = s.Need.Text
			}
			if !strings.HasPrefix(s.Limit, tc.limit) || (s.Limit == "") != (tc.limit == "") || need != tc.need {
				t.Errorf("limit %q, need %q; %s", s.Limit, need, s)
			}
		})
	}
}

// TestNoTime: what no limit keeps from being in time is not said of a limit.
func TestNoTime(t *testing.T) {
	now := time.Date(2024, 7, 21, 21, 0, 0, 0, time.UTC) // one hour before Sydney opens
	f := fleet([]lot{{"SYD", 20, "redfish", inventory.Normal, false}, {"SYD", 1, "redfish", inventory.Dependency, false}},
		schedule.Options{Start: now, Rates: assume(240), Limits: schedule.Limits{PerSite: 40}})
	s := forecast.Look(schedule.NewDispatcher(f, nil), forecast.Options{Now: now, NoChanges: true}).Sites[0]
	if !strings.HasPrefix(s.Limit, "no time") || s.Need != nil {
		t.Errorf("%s", s)
	}
}

// TestLimitOfMany: of a fleet too large to try what binds, that is told by what each limit allows.
func TestLimitOfMany(t *testing.T) {
	now := time.Date(2024, 7, 21, 17, 0, 0, 0, time.UTC)
	for limit, limits := range map[string]schedule.Limits{
		"site slots":          {Slots: 1 << 20, PerSite: 10},
		"per_hour of redfish": {Slots: 1 << 20, PerHour: map[string]int{"redfish": 30}},
		"slots of the run":    {Slots: 2000},
	} {
		b := schedule.NewBuilder(schedule.Options{Start: now, Rates: assume(12), Limits: limits})
		due := now.Add(5 * time.Hour)
		crowd := schedule.Crowd{Place: schedule.Place{Site: "SYD"}, Slots: limits.PerSite, Ways: []string{"redfish"}, Tier: inventory.Normal, Due: due}
		b.AddCrowd(crowd, 310_000)
		crowd.Tier = inventory.Dependency
		b.AddCrowd(crowd, 1)
		s := forecast.Look(schedule.NewDispatcher(b.Build(), nil), forecast.Options{Now: now, Runs: 1}).Sites[0]
		if s.Limit != limit || s.Need == nil {
			t.Errorf("want %s: %s", limit, s)
		}
	}
}

// TestWhatIf: a change is counted from where the run stands, and does not change the run.
func TestWhatIf(t *testing.T) {
	now := time.Date(2024, 7, 21, 17, 0, 0, 0, time.UTC)
	f := fleet([]lot{{"SYD", 300, "redfish", inventory.Normal, false}, {"BER", 300, "redfish", inventory.Normal, false}},
		schedule.Options{Start: now, Limits: schedule.Limits{Slots: 6}})
	d := schedule.NewDispatcher(f, nil)
	o := forecast.Options{Now: now, NoChanges: true}
	before := forecast.Look(d, o)
	changes, err := schedule.ParseChanges("slots=12")
	if err != nil {
		t.Fatal(err)
	}
	more, err := d.With(changes, now)
	if err != nil {
		t.Fatal(err)
	}
	after := forecast.Look(more, o)
	if after.All.OnTime.P50 <= before.All.OnTime.P50+50 {
		t.Errorf("twice the slots save %d instead of %d", after.All.OnTime.P50, before.All.OnTime.P50)
	}
	if again := forecast.Look(d, o); !reflect.DeepEqual(again, before) {
		t.Error("the same counts and seed gave another forecast")
	}
	pinned, err := d.With([]schedule.Change{{What: "pin", Name: "BER", Value: 8}}, now)
	if err != nil {
		t.Fatal(err)
	}
	if c := forecast.CostOf("BER", before, forecast.Look(pinned, o)); c.Elsewhere > -20 || c.Here < 0 {
		t.Errorf("a pin of Berlin costs %+v", c)
	}
}

// TestBands: what comes true lies between P10 and P90 about four times of five.
func TestBands(t *testing.T) {
	now := friday
	var lots []lot
	for site := range zones {
		lots = append(lots, lot{site, 250, "redfish", inventory.Normal, false}, lot{site, 150, "winrm", inventory.Normal, false}, lot{site, 40, "manual", inventory.Normal, false})
	}
	o := schedule.Options{Start: now, Limits: schedule.Limits{Slots: 5, Technicians: 1}}
	f := fleet(lots, o)
	got := forecast.Look(schedule.NewDispatcher(f, nil), forecast.Options{Now: now, NoChanges: true, Runs: 40})
	ways, models := f.Cohorts()
	within := 0
	const truths = 60
	for i := range truths {
		rng := rand.New(rand.NewPCG(99, uint64(i)))
		truth := forecast.Truth{Spread: schedule.Spread}
		truth.Hours, truth.Failed = f.Rates.Sample(rng, ways, models)
		n := 0
		forecast.Run(schedule.NewDispatcher(f, nil), 0, truth, uint64(i)+1000, func(e forecast.End) {
			if e.Back && e.At <= f.Bucket(e.Ref).Due {
				n++
			}
		})
		if n >= got.All.OnTime.P10 && n <= got.All.OnTime.P90 {
			within++
		}
	}
	if share := float64(within) / truths; share < 0.6 || share > 0.97 {
		t.Errorf("%.0f %% within P10 to P90 (%+v of %d)", 100*share, got.All.OnTime, got.All.Hosts)
	}
}

// TestMidRun: what is in flight, waits or ended is counted once.
func TestMidRun(t *testing.T) {
	f := fleet([]lot{{"SYD", 60, "redfish", inventory.Normal, false}}, schedule.Options{Start: friday, Names: true, Rates: assume(10), Limits: schedule.Limits{Slots: 10}})
	p := schedule.NewPlanner(f)
	now := friday
	taken := p.Take(now, 10)
	for i, c := range taken {
		var err error
		switch {
		case i < 4:
			err = p.Done(schedule.Outcome{Host: c.Host, Way: c.Way, Verdict: remediate.Fixed, Took: 10 * time.Minute, Touched: true})
		case i < 6:
			err = p.Waiting(c.Host)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got := forecast.Look(p.Counts(), forecast.Options{Now: now.Add(15 * time.Minute), NoChanges: true, Back: map[string]forecast.Back{"SYD": {Hosts: 4, OnTime: 4}}})
	s := got.Sites[0]
	if s.Hosts != 60 || s.OnTime.P50 != 60 || s.ToDo[inventory.Normal] != 56 {
		t.Errorf("%+v", s)
	}
}

// TestRunKeepsCaps: no run ever has more in flight than it may.
func TestRunKeepsCaps(t *testing.T) {
	o := schedule.Options{Start: friday, Limits: schedule.Limits{Slots: 7, PerSite: 3, Technicians: 2, PerHour: map[string]int{"winrm": 12}},
		Ladder: remediate.Ladder{{Way: "redfish", Hosts: 4}, {Way: "winrm"}, {Way: "manual"}}}
	f := fleet([]lot{{"SYD", 40, "redfish", inventory.Normal, false}, {"BER", 40, "redfish", inventory.Low, false}, {"BER", 40, "winrm", inventory.Critical, false},
		{"NYC", 20, "manual", inventory.Normal, false}, {"NYC", 3, "winrm", inventory.Dependency, false}}, o)
	d := schedule.NewDispatcher(f, nil)
	hours, failed := d.Means()
	ways, _ := f.Cohorts()
	dependency, starts := 3, 0
	forecast.Run(d, 0, forecast.Truth{Hours: hours, Failed: failed, Spread: 0.5}, 1, func(e forecast.End) {
		sum, perSite, perWay := 0, map[int]int{}, map[string]int{}
		b := f.Bucket(e.Ref)
		if b.Tier == inventory.Dependency && (e.Back || e.Over) {
			dependency--
		}
		for i := range f.Buckets() {
			b, n := f.Bucket(schedule.Ref(i)), d.Stock(schedule.Ref(i)).InFlight
			perWay[ways[b.Cohort]] += n
			if b.Pool == schedule.Slots {
				sum += n
				perSite[b.Site] += n
			}
			if b.Pool == schedule.Hands && n > 0 && dependency > 0 {
				t.Fatalf("%d ordinary hosts of New York in flight before its dependency tier is done", n)
			}
		}
		if sum > 7 || perWay["redfish"] > 4 || perWay["manual"] > 2 || perSite[0] > 3 || perSite[2] > 3 {
			t.Fatalf("in flight: %d, %v, %v", sum, perSite, perWay)
		}
		if ways[b.Cohort] == "winrm" {
			if starts++; float64(starts-1) > 12*e.At+1 {
				t.Fatalf("%d treatments by winrm within %.2f hours", starts, e.At)
			}
		}
	})
	for i := range f.Buckets() {
		if s := d.Stock(schedule.Ref(i)); s.ToDo+s.InFlight > 0 {
			t.Errorf("left over: %+v", s)
		}
	}
}

// TestTechnicians: with a shift fewer hosts are back, with travel too, and work has to begin
// before the last shift ends.
func TestTechnicians(t *testing.T) {
	now := time.Date(2024, 7, 20, 0, 0, 0, 0, time.UTC) // Saturday 10:00 in Sydney
	look := func(l schedule.Limits) forecast.Line {
		l.Roaming = map[string]int{"AU": 2}
		f := fleet([]lot{{"SYD", 300, "manual", inventory.Normal, false}}, schedule.Options{Start: now, Rates: assume(12), Limits: l,
			Sites: calendar.Sites{"syd": {Name: "SYD", Technicians: 2}}})
		return forecast.Look(schedule.NewDispatcher(f, nil), forecast.Options{Now: now}).Sites[0]
	}
	clock := look(schedule.Limits{})
	shift := look(schedule.Limits{Shift: schedule.Shift{From: 8 * time.Hour, To: 18 * time.Hour}})
	travel := look(schedule.Limits{Travel: time.Hour})
	if clock.OnTime.P50 < 300 || shift.OnTime.P50 < 130 || shift.OnTime.P50 > 210 || shift.OnTime.P50+shift.Lost > clock.Hosts {
		t.Errorf("round the clock %+v, with a shift %+v", clock.OnTime, shift.OnTime)
	}
	// An hour for ten hosts is half as much again as the twelve minutes of each: 18 instead of 12.
	if before, after := clock.Ready.Sub(now), travel.Ready.Sub(now); after < before*14/10 || after > before*16/10 {
		t.Errorf("ready after %s, and with travel after %s", before, after)
	}
	if !shift.Latest.Before(clock.Latest.Add(-20 * time.Hour)) {
		t.Errorf("to begin by %s, and with a shift by %s", clock.Latest, shift.Latest)
	}
}
