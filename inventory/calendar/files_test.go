package calendar_test

import (
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

func TestDaysOfTheOperator(t *testing.T) {
	days, err := calendar.ReadDays("days.csv", strings.NewReader("\ufeffDate,Country,Site,Open,Name\n"+
		"2024-07-22,,,no,Company day\n2024-07-22,AU,,yes,Stocktaking\n2024-07-20,,SYD,yes,Saturday shift\n2024-07-23,DE,,,Bridge day\n"))
	if err != nil {
		t.Fatal(err)
	}
	cal := calendar.New()
	cal.Add(days...)
	for _, tc := range []struct{ name, country, zone, site, want, note string }{
		{"everywhere", "GB", "Europe/London", "LON", "2024-07-23 07:00", "closed Mon 22 Jul 2024: Company day"},
		{"a country goes before everywhere", "AU", "Australia/Perth", "PER", "2024-07-22 00:00", ""},
		{"a site goes before its country", "AU", "Australia/Sydney", "syd", "2024-07-19 22:00", "open Sat 20 Jul 2024: Saturday shift"},
		{"two in a row", "DE", "Europe/Berlin", "BER", "2024-07-24 06:00", "Bridge day"},
	} {
		h := &inventory.Host{Country: tc.country, TimeZone: tc.zone, Site: tc.site}
		o, err := cal.Opening(cal.PlaceOf(h), at(t, "2024-07-19 18:00"))
		if err != nil || !o.At.Equal(at(t, tc.want)) || !strings.Contains(strings.Join(o.Notes, "; "), tc.note) {
			t.Errorf("%s: %s, %q, %v; want %s %q", tc.name, o.At.UTC(), o.Notes, err, tc.want, tc.note)
		}
	}
}

func TestDaysThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "days.csv: its first line must name the columns: date, country",
		"day\n2024-07-22\n":             `days.csv:1: column "day": no such column (want date, country`,
		"name\nx\n":                     "days.csv:1: no column date",
		"date\n22.07.2024\n":            `days.csv:2: column "date": "22.07.2024": not a date (want 2026-12-24)`,
		"date,country\n2024-07-22,UK\n": `days.csv:2: column "country": "UK": not a country code (want GB)`,
		"date,open\n2024-07-22,maybe\n": `days.csv:2: column "open": "maybe": neither yes nor no`,
	} {
		if _, err := calendar.ReadDays("days.csv", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// ukHolidays is of the form that gov.uk publishes, with an event that repeats and one that has
// a time of day.
const ukHolidays = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\n" +
	"BEGIN:VEVENT\r\nDTEND;VALUE=DATE:20240827\r\nDTSTART;VALUE=DATE:20240826\r\nSUMMARY:Summer bank\r\n  holiday\r\nUID:1\r\nEND:VEVENT\r\n" +
	"BEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20201224\r\nDTEND;VALUE=DATE:20201227\r\nRRULE:FREQ=YEARLY\r\nSUMMARY:Shutdown\r\nUID:2\r\nEND:VEVENT\r\n" +
	"BEGIN:VEVENT\r\nDTSTART:20240722T090000Z\r\nDTEND:20240722T100000Z\r\nSUMMARY:Meeting\r\nUID:3\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"

func TestICS(t *testing.T) {
	days, err := calendar.ReadICS("uk.ics", strings.NewReader(ukHolidays), "GB", at(t, "2024-07-19 00:00"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range days {
		if d.Country != "GB" || d.Open {
			t.Errorf("%+v", d)
		}
		got[d.Date] = d.Name
	}
	for date, want := range map[string]string{"2024-08-26": "Summer bank holiday", "2024-12-24": "Shutdown", "2024-12-26": "Shutdown", "2029-12-25": "Shutdown",
		"2024-12-27": "", "2024-07-22": "", "2020-12-24": ""} {
		if got[date] != want {
			t.Errorf("%s: %q, want %q", date, got[date], want)
		}
	}
	for _, text := range []string{"", "date\n2024-07-22\n", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;VALUE=DATE:20240101\r\nRRULE:FREQ=SECONDLY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"} {
		if days, err := calendar.ReadICS("x.ics", strings.NewReader(text), "", time.Now()); err == nil || !strings.Contains(err.Error(), "x.ics") {
			t.Errorf("%q: %v, %v", text, days, err)
		}
	}
}

func TestSites(t *testing.T) {
	sites, err := calendar.ReadSites("sites.csv", strings.NewReader("site,country,region,timezone,opens,opens_low,technicians,slots\n"+
		"SYD,AU,APAC,Australia/Sydney,07:00,10:00,8,40\nDC1,DE,,Europe/Berlin,24x7,,,\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s := sites["syd"]; s.Technicians != 8 || s.Slots != 40 {
		t.Errorf("%+v", s)
	}
	for _, tc := range []struct{ host, want inventory.Host }{
		{inventory.Host{Site: "Syd", Tier: inventory.Normal}, inventory.Host{Country: "AU", Region: "APAC", TimeZone: "Australia/Sydney", Opens: "07:00"}},
		{inventory.Host{Site: "SYD", Tier: inventory.Low}, inventory.Host{Country: "AU", Region: "APAC", TimeZone: "Australia/Sydney", Opens: "10:00"}},
		{inventory.Host{Site: "SYD", Opens: "05:00", Country: "NZ"}, inventory.Host{Country: "NZ", Region: "APAC", TimeZone: "Australia/Sydney", Opens: "05:00"}},
		{inventory.Host{Site: "LON"}, inventory.Host{}},
	} {
		h := tc.host
		sites.Fill(&h)
		if h.Country != tc.want.Country || h.Region != tc.want.Region || h.TimeZone != tc.want.TimeZone || h.Opens != tc.want.Opens {
			t.Errorf("%+v became %+v", tc.host, h)
		}
	}
	sites, err = calendar.ReadSites("sites.csv", strings.NewReader("site,timezone\nNYC,Eastern Standard Time\n"))
	if err != nil || sites["nyc"].TimeZone != "America/New_York" {
		t.Errorf("a Windows name: %+v, %v", sites, err)
	}
	_, err = calendar.ReadSites("sites.csv", strings.NewReader("site,country,timezone,opens,slots\nSYD,XX,Sydney,noon,many\nSYD,,,,\n"))
	for _, want := range []string{`sites.csv:2: column "country": "XX"`, `column "timezone": "Sydney"`, `column "opens": "noon"`, `column "slots": "many"`, `sites.csv:3: column "site": "SYD": is empty or there twice`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

func FuzzReadICS(f *testing.F) {
	f.Add(ukHolidays)
	now := time.Date(2024, 7, 19, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		days, _ := calendar.ReadICS("x.ics", strings.NewReader(text), "", now)
		for _, d := range days {
			if _, err := time.Parse(time.DateOnly, d.Date); err != nil {
				t.Errorf("%+v is no date", d)
			}
		}
	})
}
