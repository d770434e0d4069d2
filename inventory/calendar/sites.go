package calendar

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"unbrick/inventory"
)

// A Site is what an operator says of a site, for all its hosts.
type Site struct {
	Name, Country, Region, TimeZone string
	Opens                           string
	ByTier                          map[inventory.Tier]string // opening hours of single tiers
	Technicians                     int                       // people who can go to a host there; 0: not said
	Slots                           int                       // hosts that may be in treatment at once; 0: not said
}

// Sites are known by their names in lower case.
type Sites map[string]Site

// columns of a table of sites beside its name.
var siteColumns = [...]string{"country", "region", "timezone", "opens", "opens_dependency", "opens_critical",
	"opens_normal", "opens_low", "technicians", "slots"}

// ReadSites reads a table of sites: CSV with a header, of which site is needed and the others
// are optional. Every bad value is an *inventory.RowError; they are joined.
func ReadSites(place string, r io.Reader) (Sites, error) {
	rows, err := readTable(place, r, []string{"site"}, siteColumns[:])
	if err != nil {
		return nil, err
	}
	sites, cal := Sites{}, New()
	var errs []error
	for _, row := range rows {
		s, err := row.site(cal)
		errs = append(errs, err)
		key := strings.ToLower(s.Name)
		if _, twice := sites[key]; twice || key == "" {
			errs = append(errs, row.bad("site", &inventory.ValueError{Reason: "is empty or there twice", Want: "one line for each site"}))
		}
		sites[key] = s
	}
	return sites, errors.Join(errs...)
}

// site reads a row.
func (r row) site(cal *Calendar) (Site, error) {
	s := Site{Name: r.get("site"), Region: r.get("region"), TimeZone: r.get("timezone"), Opens: r.get("opens"), ByTier: map[inventory.Tier]string{}}
	var errs []error
	check := func(column string, err error) {
		if err != nil && r.get(column) != "" {
			errs = append(errs, r.bad(column, err))
		}
	}
	var err error
	s.Country, err = ParseCountry(r.get("country"))
	check("country", err)
	s.TimeZone, err = cal.Check("timezone", s.TimeZone)
	check("timezone", err)
	_, err = ParseHours(s.Opens)
	check("opens", err)
	for t := inventory.Dependency; t <= inventory.Low; t++ {
		column := "opens_" + t.String()
		if hours := r.get(column); hours != "" {
			_, err = ParseHours(hours)
			check(column, err)
			s.ByTier[t] = hours
		}
	}
	for column, n := range map[string]*int{"technicians": &s.Technicians, "slots": &s.Slots} {
		v, err := strconv.ParseUint(r.get(column), 10, 16)
		if err != nil {
			err = &inventory.ValueError{Reason: "not a number", Want: "0 to 65535"}
		}
		*n = int(v)
		check(column, err)
	}
	return s, errors.Join(errs...)
}

// Fill puts into h what its site says and its own row left out. What the host's row says of
// itself counts.
func (s Sites) Fill(h *inventory.Host) {
	site, ok := s[strings.ToLower(h.Site)]
	if !ok {
		return
	}
	for field, v := range map[*string]string{&h.Country: site.Country, &h.Region: site.Region, &h.TimeZone: site.TimeZone} {
		if *field == "" {
			*field = v
		}
	}
	if h.Opens == "" {
		h.Opens = site.Opens
		if hours := site.ByTier[h.Tier]; hours != "" {
			h.Opens = hours
		}
	}
}
