package schedule_test

import (
	"fmt"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
)

func TestParseShift(t *testing.T) {
	for text, want := range map[string]schedule.Shift{
		"06:00-22:00":   {From: 6 * time.Hour, To: 22 * time.Hour},
		"22:30 - 06:15": {From: 22*time.Hour + 30*time.Minute, To: 6*time.Hour + 15*time.Minute},
	} {
		if got, err := schedule.ParseShift(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "6-22", "06:00", "06:00-06:00", "06:00-22:00-23:00", "25:00-06:00"} {
		if got, err := schedule.ParseShift(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// Nobody is sent out beside the shift of the site, whatever its zone, shifts past midnight too,
// and all hosts come to be treated. What technicians cannot do all the same ends the plan.
func TestShift(t *testing.T) {
	var hosts []inventory.Host
	for i := range 60 {
		h := host(fmt.Sprintf("h%02d", i), []string{"SYD", "NYC", "OFF"}[i%3], []string{"AU", "US", "IN"}[i%3],
			[]string{"Australia/Sydney", "America/New_York", "Asia/Kolkata"}[i%3])
		h.Routes = []inventory.Route{{Driver: remediate.Manual, Address: "a"}}
		if i%5 == 0 {
			h.Routes = []inventory.Route{{Driver: "redfish", Address: "a"}}
		}
		hosts = append(hosts, h)
	}
	for _, text := range []string{"09:00-11:00", "22:00-02:00"} {
		shift, err := schedule.ParseShift(text)
		if err != nil {
			t.Fatal(err)
		}
		y := newYard(t, nil, hosts, schedule.Options{Start: friday, Names: true, Limits: schedule.Limits{Shift: shift}})
		n := 0
		for s := range y.planner.Order(friday) {
			zone, err := time.LoadLocation(y.hosts[s.Host].TimeZone)
			if err != nil {
				t.Fatal(err)
			}
			at := s.At.In(zone)
			clock := time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
			on := clock >= shift.From && clock < shift.To || shift.To < shift.From && (clock >= shift.From || clock < shift.To)
			// A tick that began in the shift may last a little longer.
			if before := clock - 10*time.Minute; !on && !(before >= shift.From && before < shift.To || shift.To < shift.From && before < shift.To) && s.Way == remediate.Manual {
				t.Errorf("%s: %s is begun at %s", text, s.Host, at)
			}
			n++
		}
		if n != len(hosts) {
			t.Errorf("%s: %d hosts are begun", text, n)
		}
	}
	y := newYard(t, nil, hosts, schedule.Options{Start: friday, Names: true,
		Limits: schedule.Limits{Shift: schedule.Shift{From: time.Hour, To: 2 * time.Hour}, Roaming: map[string]int{"AU": 0, "US": 0, "IN": 0}}})
	for s := range y.planner.Order(friday) {
		if s.Way == remediate.Manual {
			t.Errorf("%s is begun by nobody", s.Host)
		}
	}
}

// A shift is kept by the clock of the site, also over a change of it; by a clock that nobody knows
// there is none to wait for. The clock is what the table of sites, or the country, says.
func TestShiftAt(t *testing.T) {
	o := schedule.Options{Start: friday, Sites: calendar.Sites{"syd": {Name: "SYD", TimeZone: "Australia/Sydney"}}}
	shift := schedule.Shift{From: 6 * time.Hour, To: 22 * time.Hour}
	for _, tc := range []struct {
		place schedule.Place
		now   string
		on    bool
		until string
	}{
		{schedule.Place{Site: "SYD"}, "2024-07-19T19:59:00Z", false, "2024-07-20T06:00:00+10:00"},
		{schedule.Place{Site: "SYD"}, "2024-07-19T20:00:00Z", true, "2024-07-20T22:00:00+10:00"},
		{schedule.Place{Site: "SYD", Zone: "Asia/Tokyo"}, "2024-07-19T20:00:00Z", false, "2024-07-20T06:00:00+09:00"},
		{schedule.Place{Site: "BER", Country: "DE"}, "2024-10-26T20:00:00Z", false, "2024-10-27T06:00:00+01:00"},
		{schedule.Place{Site: "NYC", Country: "US"}, "2024-07-19T03:00:00Z", true, ""},
		{schedule.Place{Site: "XXX"}, "2024-07-19T03:00:00Z", true, ""},
	} {
		now, _ := time.Parse(time.RFC3339, tc.now)
		on, until := shift.At(now, o.Clock(tc.place))
		got := ""
		if !until.IsZero() {
			got = until.Format(time.RFC3339)
		}
		if on != tc.on || got != tc.until {
			t.Errorf("%+v at %s: %v until %q, want %v until %q", tc.place, tc.now, on, got, tc.on, tc.until)
		}
	}
}
