package calendar_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

// at reads a moment in UTC.
func at(t *testing.T, s string) time.Time {
	t.Helper()
	m, err := time.Parse("2006-01-02 15:04", s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOpening(t *testing.T) {
	const friday = "2024-07-19 18:00" // UTC: the weekend has begun in Sydney, not in New York
	for _, tc := range []struct {
		name             string
		country, zone    string
		opens            string
		now, want, notes string // UTC
	}{
		{"Sydney", "AU", "Australia/Sydney", "", friday, "2024-07-21 22:00", ""},
		{"New York", "US", "America/New_York", "08:00", friday, "2024-07-22 12:00", ""},
		{"Riyadh rests on Friday and Saturday", "SA", "Asia/Riyadh", "", friday, "2024-07-21 05:00", ""},
		{"Dubai rests on Saturday and Sunday since 2022", "AE", "Asia/Dubai", "", friday, "2024-07-22 04:00", ""},
		{"Tehran rests on Friday alone", "IR", "Asia/Tehran", "", friday, "2024-07-20 04:30", ""},
		{"Mumbai rests on Sunday alone", "IN", "Asia/Kolkata", "", friday, "2024-07-20 02:30", ""},
		{"days of the site's own", "AU", "Australia/Sydney", "Mon-Sat 07:30", friday, "2024-07-19 21:30", ""},
		{"a span that wraps", "", "Asia/Riyadh", "Sat-Wed 08:00", friday, "2024-07-20 05:00", ""},
		{"single days", "DE", "Europe/Berlin", "Tue,thursday 6:00", friday, "2024-07-23 04:00", ""},
		{"opens this very minute", "DE", "Europe/Berlin", "20:00", friday, friday, ""},
		{"opened a minute ago", "DE", "Europe/Berlin", "19:59", friday, "2024-07-22 17:59", ""},
		{"the only clock of a country", "JP", "", "", friday, "2024-07-21 23:00", "no time zone: Asia/Tokyo taken"},
		{"no country", "", "Europe/Berlin", "", friday, "2024-07-22 06:00", "no country: Saturday and Sunday taken"},
		{"no such country", "ZZ", "Europe/Berlin", "", friday, "2024-07-22 06:00", "country ZZ not known"},

		// Clocks that change. In a gap: the first moment after it.
		{"gap in Berlin", "DE", "Europe/Berlin", "Sun 02:30", "2024-03-30 12:00", "2024-03-31 01:00", ""},
		{"gap in New York", "US", "America/New_York", "Sun 02:30", "2024-03-09 12:00", "2024-03-10 07:00", ""},
		{"gap at midnight in Santiago", "CL", "America/Santiago", "Sun 00:30", "2024-09-07 12:00", "2024-09-08 04:00", ""},
		{"gap at midnight in Cairo", "EG", "Africa/Cairo", "Fri 00:00", "2024-04-25 12:00", "2024-04-25 22:00", ""},
		{"gap of half an hour", "AU", "Australia/Lord_Howe", "Sun 02:15", "2024-10-05 00:00", "2024-10-05 15:30", ""},
		// The hour that comes twice: the earlier.
		{"overlap in Berlin", "DE", "Europe/Berlin", "Sun 02:30", "2024-10-26 12:00", "2024-10-27 00:30", ""},
		{"overlap in New York", "US", "America/New_York", "Sun 01:30", "2024-11-02 12:00", "2024-11-03 05:30", ""},
		{"between the two", "US", "America/New_York", "Sun 01:30", "2024-11-03 05:45", "2024-11-10 06:30", ""},
		{"a date that Apia left out", "WS", "Pacific/Apia", "Fri 08:00", "2011-12-29 20:00", "2012-01-05 18:00", "no public holidays known for WS"},
		{"over the change it is still 08:00", "DE", "Europe/Berlin", "Mon 08:00", "2024-04-06 12:00", "2024-04-08 06:00", ""},
		{"the last days before the change", "DE", "Europe/Berlin", "Mon 08:00", "2024-03-23 12:00", "2024-03-25 07:00", ""},

		// Public holidays.
		{"Easter Monday in Berlin", "DE", "Europe/Berlin", "", "2024-03-30 12:00", "2024-04-02 06:00", "closed Mon 1 Apr 2024: Easter Monday"},
		{"a substitute day in Bangkok", "TH", "Asia/Bangkok", "", friday, "2024-07-23 01:00", "closed Mon 22 Jul 2024: Substitution for Asalha"},
		{"the new year in Shanghai", "CN", "Asia/Shanghai", "", "2025-01-28 12:00", "2025-01-31 00:00", "Spring Festival"},
		{"a site that opens on holidays too", "DE", "Europe/Berlin", "Mon-Sat 07:30 holidays", "2024-03-31 12:00", "2024-04-01 05:30", ""},
		{"years that nobody knows", "DE", "Europe/Berlin", "", "2040-07-19 18:00", "2040-07-20 06:00", "public holidays known from 2024 to 2030 alone"},
		{"a country without data", "AQ", "Antarctica/Troll", "", friday, "2024-07-22 06:00", "no public holidays known for AQ"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, err := calendar.New().Opening(calendar.Place{Country: tc.country, TimeZone: tc.zone, Opens: tc.opens}, at(t, tc.now))
			if err != nil {
				t.Fatal(err)
			}
			if want := at(t, tc.want); !o.At.Equal(want) {
				t.Errorf("got %s, want %s", o.At.UTC(), want)
			}
			if notes := strings.Join(o.Notes, "; "); tc.notes == "" && notes != "" || !strings.Contains(notes, tc.notes) {
				t.Errorf("notes %q, want %q", notes, tc.notes)
			}
			if o.Always {
				t.Error("not open round the clock")
			}
		})
	}
}

func TestRoundTheClock(t *testing.T) {
	now := at(t, "2024-07-19 18:00")
	for tier, want := range map[inventory.Tier]time.Duration{
		inventory.Dependency: 4 * time.Hour, inventory.Critical: 4 * time.Hour,
		inventory.Normal: 12 * time.Hour, inventory.Low: 24 * time.Hour,
	} {
		for _, opens := range []string{"24x7", "24/7", "24X7"} {
			o, err := calendar.New().Opening(calendar.Place{Opens: opens, Tier: tier}, now)
			if err != nil || !o.Always || o.At.Sub(now) != want {
				t.Errorf("%s, %s: got %+v, %v; want %s after now", tier, opens, o, err, want)
			}
		}
	}
}

func TestOpeningErrors(t *testing.T) {
	for _, tc := range []struct{ country, zone, opens, want string }{
		{"", "", "", "no time zone and no country"},
		{"US", "", "", "no time zone, and US has 8: one of America/New_York, "},
		{"CN", "", "", "no time zone, and CN has 2: one of Asia/Shanghai, Asia/Urumqi"},
		{"ZZ", "", "", `no time zone, and none known for country "ZZ"`},
		{"DE", "Mars/Olympus", "", `time zone "Mars/Olympus": not a time zone`},
		{"DE", "Europe/Berlin", "noon", `opens "noon": not an opening hour`},
	} {
		_, err := calendar.New().Opening(calendar.Place{Country: tc.country, TimeZone: tc.zone, Opens: tc.opens}, time.Time{})
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%+v: got %v", tc, err)
		}
	}
}

func TestZone(t *testing.T) {
	c := calendar.New()
	for _, name := range []string{"Europe/Berlin", "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+5"} {
		for range 2 { // the second time from memory
			if loc, err := c.Zone(name); err != nil || loc.String() != name {
				t.Errorf("%s: %v, %v", name, loc, err)
			}
		}
	}
	for name, want := range map[string]string{
		"W. Europe Standard Time":   "a Windows name, not an IANA time zone (want Europe/Berlin)",
		"aus eastern standard time": "a Windows name, not an IANA time zone (want Australia/Sydney)",
		"EST":                       "not a time zone (want an IANA name such as Europe/Berlin)",
		"Local":                     "not a time zone (want an IANA name such as Europe/Berlin)",
		"":                          "not a time zone (want an IANA name such as Europe/Berlin)",
		"+02:00":                    "not a time zone (want an IANA name such as Europe/Berlin)",
		"../../../etc/passwd":       "not a time zone (want an IANA name such as Europe/Berlin)",
		"Europe/Berlim":             "not a time zone (want an IANA name such as Europe/Berlin)",
	} {
		_, err := c.Zone(name)
		var v *inventory.ValueError
		if !errors.As(err, &v) || v.Error() != want {
			t.Errorf("%q: got %v, want %s", name, err, want)
		}
	}
}

func TestParseHours(t *testing.T) {
	for s, want := range map[string]int{
		"": 480, "08:00": 480, "8:00": 480, "08:00:00": 480, "7:30": 450, "00:00": 0, "23:59": 1439,
		"Mon 00:30": 30, " Monday-Friday  09:15 ": 555, "mon,wed 10:00": 600,
	} {
		if h, err := calendar.ParseHours(s); err != nil || h.Minute != want || h.Always {
			t.Errorf("%q: %+v, %v; want minute %d", s, h, err, want)
		}
	}
	for _, s := range []string{"8", "800", "0800", "24:00", "08:60", "8:0", "8 am", "08:00-17:00", "Mon", "Xyz 08:00",
		"Mon- 08:00", "-Mon 08:00", "Mon,, 08:00", "+8:00", "-1:00", ":00", "::", "1:00:00:00", "Mon 08:00 09:00", "24x7 08:00"} {
		if h, err := calendar.ParseHours(s); err == nil {
			t.Errorf("%q is taken as %+v", s, h)
		}
	}
}

func TestParseCountry(t *testing.T) {
	for s, want := range map[string]string{"DE": "DE", " au ": "AU", "na": "NA"} {
		if got, err := calendar.ParseCountry(s); err != nil || got != want {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{"UK": "want GB", "Germany": "two letters", "DEU": "two letters", "ZZ": "two letters", "": "two letters", "#": "two letters"} {
		if _, err := calendar.ParseCountry(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", s, err, want)
		}
	}
}

// FuzzOpening: an opening is never before now, is within a fortnight, and shows the hour that
// was asked for unless the clock skipped it.
func FuzzOpening(f *testing.F) {
	f.Add(int64(1721362140), "Europe/Berlin", "Mon-Fri 08:00")
	f.Add(int64(1725750000), "America/Santiago", "Sun 00:30")
	f.Add(int64(1711753200), "Africa/Cairo", "00:00")
	f.Add(int64(1325188800), "Pacific/Apia", "Fri 08:00")
	f.Fuzz(func(t *testing.T, unix int64, zone, opens string) {
		if unix < 0 || unix > 4e9 {
			return
		}
		now := time.Unix(unix, 0)
		o, err := calendar.New().Opening(calendar.Place{Country: "DE", TimeZone: zone, Opens: opens}, now)
		if err != nil {
			return
		}
		if o.At.Before(now) || o.At.Sub(now) > 15*24*time.Hour {
			t.Fatalf("%s in %s after %s: %s", opens, zone, now.UTC(), o.At)
		}
		h, err := calendar.ParseHours(opens)
		if err != nil {
			t.Fatalf("Opening took %q, ParseHours does not: %v", opens, err)
		}
		if h.Always {
			return
		}
		if h.Days != nil && !h.Days[o.At.Weekday()] {
			t.Fatalf("%s in %s: %s is no such day", opens, zone, o.At)
		}
		if shown := o.At.Hour()*60 + o.At.Minute(); shown != h.Minute {
			start, _ := o.At.ZoneBounds()
			if !o.At.Equal(start) || shown < h.Minute {
				t.Fatalf("%s in %s: %s is neither that hour nor the end of a gap", opens, zone, o.At)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	for _, tc := range [][3]string{
		{"country", "de", "DE"}, {"country", "Germany", ""}, {"timezone", "Europe/Berlin", "Europe/Berlin"},
		{"timezone", "W. Europe Standard Time", "Europe/Berlin"}, {"timezone", "EST", ""}, {"opens", "08:00", "08:00"}, {"opens", "8", ""}, {"site", "x", "x"},
	} {
		got, err := calendar.New().Check(tc[0], tc[1])
		if (err == nil) != (tc[2] != "") || err == nil && got != tc[2] {
			t.Errorf("%s %q: %q, %v, want %q", tc[0], tc[1], got, err, tc[2])
		}
	}
}
