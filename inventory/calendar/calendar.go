// Package calendar says when the working day of a site begins, in the site's own time zone.
//
// It knows time zones, the weekend of each country and opening hours. It knows no public
// holidays yet: a Monday that is one counts as a working day, which errs on the early side.
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
	Tier     inventory.Tier
}

// PlaceOf returns the place of h.
func PlaceOf(h inventory.Host) Place {
	return Place{Country: h.Country, TimeZone: h.TimeZone, Opens: h.Opens, Tier: h.Tier}
}

// An Opening is the moment at which a place must be back at work.
type Opening struct {
	At     time.Time // in the zone of the place
	Always bool      // open round the clock: At is a target, not an opening
	Notes  []string  // what was assumed because nobody said it
}

// A Calendar remembers time zones, because loading one takes longer than using it a hundred
// times. It may be used by several goroutines at once.
type Calendar struct{ zones sync.Map }

// New returns an empty Calendar.
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
	closed, note := weekend(p.Country)
	if hours.Days != nil {
		closed = func(d time.Weekday) bool { return !hours.Days[d] }
	} else if note != "" {
		notes = append(notes, note)
	}
	at, ok := next(now, zone, hours.Minute, closed)
	if !ok {
		return Opening{}, fmt.Errorf("opens %q: no such day within a fortnight", p.Opens)
	}
	return Opening{At: at, Notes: notes}, nil
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
