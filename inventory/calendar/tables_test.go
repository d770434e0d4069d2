package calendar

import (
	"slices"
	"strings"
	"testing"
)

// TestTables: every zone that the tables name can be loaded, and the weekends are of countries.
func TestTables(t *testing.T) {
	c := New()
	if n := len(countries()); n != 249 {
		t.Errorf("%d countries, ISO 3166-1 has 249", n)
	}
	for country, zones := range countries() {
		for _, z := range zones {
			if _, err := c.Zone(z); err != nil {
				t.Errorf("%s: %s: %v", country, z, err)
			}
		}
	}
	if n := len(windowsZones()); n != 139 {
		t.Errorf("%d Windows zones, CLDR has 139", n)
	}
	for name, zone := range windowsZones() {
		if _, err := c.Zone(zone); err != nil {
			t.Errorf("%s: %s: %v", name, zone, err)
		}
	}
	for _, country := range strings.Fields(fridaySaturday) {
		if _, ok := countries()[country]; !ok || weekends[country] != nil {
			t.Errorf("Friday and Saturday: %s is no country, or has two weekends", country)
		}
	}
	for country := range weekends {
		if _, ok := countries()[country]; !ok {
			t.Errorf("weekend of %s, which is no country", country)
		}
	}
	for _, country := range []string{"US", "RU", "AU", "BR", "CA", "MX", "ID", "ES", "PT", "CN"} {
		if len(countries()[country]) < 2 {
			t.Errorf("%s keeps several clocks", country)
		}
	}
	if got := countries()["DE"]; !slices.Equal(got, []string{"Europe/Berlin"}) {
		t.Errorf("DE: %q", got)
	}
}
