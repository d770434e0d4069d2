// Package calendar says when the working day of a site begins, in the site's own time zone.
//
// It knows time zones, the weekend and the public holidays of each country, and opening hours.
// What it does not know (the holidays of a state, those set last week) counts as a working day,
// which errs on the early side; operators add days of their own with [Calendar.Add].
package calendar

import (
	"fmt"
	"strings"
	"sync"
	"time"

	// The zones travel inside the program: Windows has no zone files, and a rescue jump box
	// may have none either. A system's own files are still preferred, being newer.
	_ "time/tzdata"

	"unbrick/inventory"
)

// A Place is what decides when a host is due. It can be a map key: hosts with equal places
// have equal openings.
type Place struct {
	Country  string // ISO 3166-1 alpha-2; empty if not known
	TimeZone string // IANA name; empty if the country has one clock only
	Opens    string // as [ParseHours] takes it
	Site     string // only where days of single sites were added
	Tier     inventory.Tier
}

// PlaceOf returns the place of h.
func (c *Calendar) PlaceOf(h *inventory.Host) Place {
	p := Place{Country: h.Country, TimeZone: h.TimeZone, Opens: h.Opens, Tier: h.Tier}
	if c.sites {
		p.Site = h.Site
	}
	return p
}

// An Opening is the moment at which a place must be back at work.
type Opening struct {
	At     time.Time // in the zone of the place
	Always bool      // open round the clock: At is a target, not an opening
	Notes  []string  // what was assumed because nobody said it
}

// A Calendar remembers time zones, because loading one takes longer than using it a hundred
// times. It may be used by several goroutines at once.
type Calendar struct {
	zones sync.Map
	days  map[scope]Day // added by the operator
	sites bool          // some of them are of single sites
}

// New returns a Calendar that knows what travels with the program.
func New() *Calendar { return new(Calendar) }

// Zone returns the time zone of an IANA name. The error is a *inventory.ValueError; of a
// Windows name it says which zone is meant.
//
// Abbreviations are refused even where the zone data knows them: "EST" there is a clock
// without summer time, which is not what the person who wrote it meant.
func (c *Calendar) Zone(name string) (*time.Location, error) {
	if loc, ok := c.zones.Load(name); ok {
		return loc.(*time.Location), nil
	}
	const want = "an IANA name such as Europe/Berlin"
	if iana, ok := windowsZones()[strings.ToLower(name)]; ok && name != "UTC" {
		return nil, &inventory.ValueError{Reason: "a Windows name, not an IANA time zone", Want: iana}
	}
	if name != "UTC" && !strings.Contains(name, "/") {
		return nil, &inventory.ValueError{Reason: "not a time zone", Want: want}
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, &inventory.ValueError{Reason: "not a time zone", Want: want}
	}
	c.zones.Store(name, loc)
	return loc, nil
}

// target is how long after now a place without an opening is due (a shop floor that never
// closes has no next opening: without a target it would be late from the first minute).
func target(t inventory.Tier) time.Duration {
	switch t {
	case inventory.Dependency, inventory.Critical:
		return 4 * time.Hour
	case inventory.Normal:
		return 12 * time.Hour
	}
	return 24 * time.Hour
}

// Opening returns the first opening of p at or after now. For a place open round the clock it
// is a target by tier: 4 hours for dependency and critical, 12 for normal, 24 for low.
//
// now is the moment from which the opening is sought, as a rule the start of the run: a site
// that opened an hour before is due at its next opening.
func (c *Calendar) Opening(p Place, now time.Time) (Opening, error) {
	hours, err := ParseHours(p.Opens)
	if err != nil {
		return Opening{}, fmt.Errorf("opens %q: %w", p.Opens, err)
	}
	zone, notes, err := c.zoneOf(p)
	if hours.Always {
		at := now.Add(target(p.Tier))
		if err == nil {
			at = at.In(zone)
		}
		return Opening{At: at, Always: true}, nil
	}
	if err != nil {
		return Opening{}, err
	}
	rest, note := weekend(p.Country)
	if hours.Days != nil {
		rest = func(d time.Weekday) bool { return !hours.Days[d] }
	} else if note != "" {
		notes = append(notes, note)
	}
	at, ok := next(now, zone, hours.Minute, func(date time.Time) bool {
		shut, why := c.closed(p, hours, rest, date)
		if why != "" {
			notes = append(notes, why)
		}
		return shut
	})
	if !ok {
		return Opening{}, fmt.Errorf("opens %q: no such day within %d days", p.Opens, searchDays)
	}
	if note := holidayNote(p.Country, at.Format(time.DateOnly)); note != "" && !hours.Holidays {
		notes = append(notes, note)
	}
	return Opening{At: at, Notes: notes}, nil
}

// closed says whether a place is closed on a date, and why if that is not its weekly rest.
func (c *Calendar) closed(p Place, hours Hours, rest func(time.Weekday) bool, date time.Time) (shut bool, why string) {
	shut = rest(date.Weekday())
	d, ok := c.day(p, date.Format(time.DateOnly))
	switch {
	case !ok || d.Open != shut: // no day of its own, or one that says what the rule says
		return shut, ""
	case d.Open:
		return false, "open " + dayName(date) + ": " + d.Name
	case hours.Holidays && d.Site == "":
		return false, ""
	}
	return true, "closed " + dayName(date) + ": " + d.Name
}

// zoneOf returns the zone of a place, and what it assumed. A country with several clocks gives
// none: the wrong one could mean a site that is a whole working day late.
func (c *Calendar) zoneOf(p Place) (*time.Location, []string, error) {
	if p.TimeZone != "" {
		zone, err := c.Zone(p.TimeZone)
		if err != nil {
			return nil, nil, fmt.Errorf("time zone %q: %w", p.TimeZone, err)
		}
		return zone, nil, nil
	}
	if p.Country == "" {
		return nil, nil, fmt.Errorf("no time zone and no country")
	}
	names := countries()[p.Country]
	switch len(names) {
	case 0:
		return nil, nil, fmt.Errorf("no time zone, and none known for country %q", p.Country)
	case 1:
		zone, err := c.Zone(names[0])
		return zone, []string{"no time zone: " + names[0] + " taken, the only clock of " + p.Country}, err
	}
	return nil, nil, fmt.Errorf("no time zone, and %s has %d: one of %s", p.Country, len(names), strings.Join(names, ", "))
}
