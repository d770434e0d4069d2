package schedule

import (
	"fmt"
	"math"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

// A Shift is when technicians work, by the clock of the site, every day: it ends on the next day
// if To is not after From. The zero Shift is round the clock.
//
// It is the least that keeps a plan, and a run, from sending people out at night. A host that was
// begun is finished. Left out: days off, breaks, several shifts with different numbers of people, and
// those who come from another zone. What a pool needs ([Queue]) is reckoned round the clock.
type Shift struct{ From, To time.Duration } // since midnight

// ParseShift reads "06:00-22:00".
func ParseShift(text string) (Shift, error) {
	var all [2]time.Duration
	parts := strings.Split(text, "-")
	for i, part := range parts {
		t, err := time.Parse("15:04", strings.TrimSpace(part))
		if err != nil || len(parts) != 2 {
			return Shift{}, fmt.Errorf("%q is not a shift; write 06:00-22:00", text)
		}
		all[i] = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	if all[0] == all[1] {
		return Shift{}, fmt.Errorf("%q has no length; leave it out for round the clock", text)
	}
	return Shift{all[0], all[1]}, nil
}

// At says whether technicians work at a moment by the clock of their site, and when that changes.
// Round the clock, and by a clock that nobody knows, they do, and until is the zero time: whom
// nobody can tell the hour of is not kept waiting for it.
func (s Shift) At(t time.Time, clock *time.Location) (on bool, until time.Time) {
	if s == (Shift{}) || clock == nil {
		return true, time.Time{}
	}
	t = t.In(clock)
	midnight := func(days int) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day()+days, 0, 0, 0, 0, clock)
	}
	hour := func(days int, d time.Duration) time.Time {
		m := midnight(days)
		return time.Date(m.Year(), m.Month(), m.Day(), int(d.Hours()), int(d.Minutes())%60, 0, 0, clock)
	}
	for days := -1; days <= 2; days++ {
		from, to := hour(days, s.From), hour(days, s.To)
		if s.To <= s.From {
			to = hour(days+1, s.To)
		}
		switch {
		case t.Before(from):
			return false, from
		case t.Before(to):
			return true, to
		}
	}
	return true, t.Add(24 * time.Hour) // cannot be: one begins each day
}

// Clock returns the clock that the people of a place go by, as the calendar and the table of
// sites have it; nil if it is not known.
func (o *Options) Clock(p Place) *time.Location {
	h := inventory.Host{Site: p.Site, Country: p.Country, TimeZone: p.Zone}
	o.Sites.Fill(&h)
	if o.Calendar == nil {
		o.Calendar = calendar.New()
	}
	open := openingOf(o.Calendar, calendar.Place{Country: h.Country, TimeZone: h.TimeZone}, o.Start)
	if !open.known {
		return nil
	}
	return open.At.Location()
}

// A watch is whether technicians are at work at a site, and until when that holds, in hours.
type watch struct {
	on    bool
	until float64
}

// atWork says whether technicians work at a site, as of the last tick.
func (d *Dispatcher) atWork(s int32) bool {
	if d.watches == nil {
		return true
	}
	w := &d.watches[s]
	if d.now >= w.until {
		*w = d.watchAt(s, d.now)
	}
	return w.on
}

func (d *Dispatcher) watchAt(s int32, now float64) watch {
	on, until := d.limit.Shift.At(d.At(now), d.sites[s].shift)
	if until.IsZero() {
		return watch{on, math.Inf(1)}
	}
	return watch{on, d.hoursOf(until)}
}

// Dawn returns when technicians begin to work next at a site where hosts wait for them, or when
// they begin or cease to if either will do, at the tick that sees it: false if there is none.
func (d *Dispatcher) Dawn(now float64, either bool) (at float64, ok bool) {
	at = math.Inf(1)
	if d.watches == nil {
		return at, false
	}
	for s := range d.sites {
		if d.state[s].todo > 0 && d.waitsForHands(int32(s)) {
			w := d.watches[s]
			if now >= w.until {
				w = d.watchAt(int32(s), now)
			}
			if either || !w.on {
				at = min(at, w.until)
			}
		}
	}
	return math.Ceil(at/d.step)*d.step + 1e-6, !math.IsInf(at, 1)
}

// waitsForHands says whether hosts of a site are to be treated by people now.
func (d *Dispatcher) waitsForHands(s int32) bool {
	for l := d.sites[s].lanes; l < d.sites[s].ends; l++ {
		if d.cohorts[d.lanes[l].cohort].pool == Hands && d.heads[l] >= 0 {
			return true
		}
	}
	return false
}

// Before returns the moment so much work in a pool of a site before another: the hours in which
// people do not work do not count for them.
func (d *Dispatcher) Before(site int, p Pool, at, work float64) float64 {
	if d.watches == nil || p != Hands || math.IsInf(at, 0) {
		return at - work
	}
	const quarter = 0.25
	for n := 0; work > 0 && n < 4*24*30; n++ { // nobody plans for more than a month
		if d.watchAt(int32(site), at-quarter).on {
			if work <= quarter {
				return at - work
			}
			work -= quarter
		}
		at -= quarter
	}
	return at - max(work, 0)
}

// tripHosts is how many hosts a technician who goes round treats at a site before the next.
const tripHosts = 10

// Night is how many hours nobody may have been begun, for want of people at work, before there is
// no use in waiting for the next dawn: each shift began once.
const Night = 26

// trip returns what the way of a technician who goes round costs each host of a site, in hours:
// a technician comes for ten hosts, or all that there are, and a tenth of those that are treated
// from afar is thought to come to a person. Which site is near which is left out.
func (b *Builder) trip(hands, others int) float64 {
	n := min(max(float64(hands)+float64(others)/10, 1), tripHosts)
	return b.opts.Limits.Travel.Hours() / n
}

// Trip returns what the way of the technician adds to the treatment of a host, in hours.
func (d *Dispatcher) Trip(r Ref) float64 {
	b := &d.buckets[r]
	if d.cohorts[d.kinds[b.kind].cohort].pool != Hands {
		return 0
	}
	return d.sites[b.site].trip
}
