package calendar

import (
	_ "embed"
	"strings"
	"sync"
	"time"

	"unbrick/inventory"
)

//go:embed zones.txt
var zonesText string

//go:embed windows.txt
var windowsText string

// countries maps each country to the clocks it keeps.
var countries = sync.OnceValue(func() map[string][]string {
	m := map[string][]string{}
	for line := range strings.Lines(zonesText) {
		if f := strings.Fields(line); len(f) > 0 && f[0] != "#" {
			m[f[0]] = f[1:]
		}
	}
	return m
})

// windowsZones maps Windows' zone names, in lower case, to IANA names.
var windowsZones = sync.OnceValue(func() map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(windowsText) {
		if name, zone, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			m[strings.ToLower(name)] = zone
		}
	}
	return m
})

// ParseCountry returns an ISO 3166-1 alpha-2 code in upper case. The error is a
// *inventory.ValueError.
func ParseCountry(s string) (string, error) {
	c := strings.ToUpper(strings.TrimSpace(s))
	if _, ok := countries()[c]; ok {
		return c, nil
	}
	want := "two letters of ISO 3166-1, such as DE"
	switch c {
	case "UK":
		want = "GB"
	case "EL":
		want = "GR"
	}
	return "", &inventory.ValueError{Reason: "not a country code", Want: want}
}

// weekends are the countries that do not rest on Saturday and Sunday. From CLDR 48, and for
// BD, DJ and MV from vacanza/holidays. Where sources disagree (AF, MR) only the day on which
// they agree is one of rest: too early is the safe mistake. A region's own weekend (Kedah,
// Sharjah) is written in the hosts' opening hours: "Sun-Thu 08:00".
var weekends = map[string][]time.Weekday{
	"AF": {time.Friday},
	"IR": {time.Friday},
	"MR": {time.Saturday},
	"BN": {time.Friday, time.Sunday},
	"NP": {time.Saturday},
	"IN": {time.Sunday},
	"UG": {time.Sunday},
	"HK": {time.Sunday},
}

const fridaySaturday = "BD BH DJ DZ EG IL IQ JO KW LY MV OM QA SA SD SY YE"

// weekend returns which days are not working days in a country, and what it assumed.
func weekend(country string) (closed func(time.Weekday) bool, note string) {
	days := []time.Weekday{time.Saturday, time.Sunday}
	_, known := countries()[country]
	switch {
	case country == "":
		note = "no country: Saturday and Sunday taken as the weekend"
	case !known:
		note = "country " + country + " not known: Saturday and Sunday taken as the weekend"
	case strings.Contains(fridaySaturday, country):
		days = []time.Weekday{time.Friday, time.Saturday}
	case weekends[country] != nil:
		days = weekends[country]
	}
	return func(d time.Weekday) bool {
		for _, w := range days {
			if d == w {
				return true
			}
		}
		return false
	}, note
}
