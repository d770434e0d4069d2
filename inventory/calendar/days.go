package calendar

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// holidayData is made by holidays.mjs. What it has is of whole countries: the holidays of a
// state or a canton, and those that a government sets at short notice, come from the operator.
//
//go:embed holidays.txt.gz
var holidayData []byte

// laterDays are holidays that were set after the fact and are in no rule book; both touched the
// weekend after 19 July 2024 (vacanza/holidays).
const laterDays = "TH\tSubstitution for Asalha Bucha Day\t2024-07-22\nEG\tRevolution Day (observed)\t2024-07-25\n"

// A Day is a date on which the rule of a place does not hold. That of a site goes before that
// of its country, and one of a country before one of everywhere.
type Day struct {
	Date    string // 2026-12-24
	Country string // empty: any
	Site    string // empty: any
	Open    bool   // open although the rule says closed; otherwise closed
	Name    string // "Christmas Eve"
}

// scope is where a Day holds.
type scope struct{ date, country, site string }

// A table is the public holidays of whole countries.
type table struct {
	days        map[scope]Day
	countries   map[string]bool
	first, last string // dates
}

// holidays returns those that travel with the program.
var holidays = sync.OnceValue(func() table {
	h := table{days: map[scope]Day{}, countries: map[string]bool{}}
	r, err := gzip.NewReader(bytes.NewReader(holidayData))
	if err != nil {
		panic("calendar: damaged in this program: holidays: " + err.Error())
	}
	lines := bufio.NewScanner(io.MultiReader(r, strings.NewReader(laterDays)))
	for lines.Scan() {
		f := strings.SplitN(lines.Text(), "\t", 3)
		if len(f) != 3 || strings.HasPrefix(f[0], "#") {
			continue
		}
		h.countries[f[0]] = true
		for date := range strings.FieldsSeq(f[2]) {
			h.days[scope{date: date, country: f[0]}] = Day{Date: date, Country: f[0], Name: f[1]}
			if h.first == "" || date < h.first {
				h.first = date
			}
			h.last = max(h.last, date)
		}
	}
	return h
})

// Add makes days known. The last of two for the same date and place counts. It must not be
// called while openings are asked for.
func (c *Calendar) Add(days ...Day) {
	if c.days == nil {
		c.days = map[scope]Day{}
	}
	for _, d := range days {
		c.days[scope{d.Date, strings.ToUpper(d.Country), strings.ToLower(d.Site)}] = d
		c.sites = c.sites || d.Site != ""
	}
}

// day returns what holds at a place on a date against its rule.
func (c *Calendar) day(p Place, date string) (Day, bool) {
	for _, s := range []scope{
		{date, "", strings.ToLower(p.Site)}, {date, p.Country, strings.ToLower(p.Site)}, // of the site
		{date: date, country: p.Country}, {date: date},
	} {
		if d, ok := c.days[s]; ok && (p.Site != "" || s.site == "") {
			return d, true
		}
	}
	d, ok := holidays().days[scope{date: date, country: p.Country}]
	return d, ok && p.Country != ""
}

// holidayNote says what is not known of the holidays of a place around a date.
func holidayNote(country, date string) string {
	h := holidays()
	switch {
	case country == "":
		return "" // the missing country is noted already
	case !h.countries[country]:
		return "no public holidays known for " + country
	case date < h.first[:4] || date[:4] > h.last[:4]:
		return fmt.Sprintf("public holidays known from %s to %s alone", h.first[:4], h.last[:4])
	}
	return ""
}

// dayName writes a date for a note: "Mon 22 Jul 2024".
func dayName(date time.Time) string { return date.Format("Mon 2 Jan 2006") }
