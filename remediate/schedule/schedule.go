// Package schedule says which hosts come first, what will be late, and when a run must stop.
//
// It is pure: no I/O, and no clock of its own. The same inputs give the same order.
//
// A [Builder] counts the hosts of a fleet into a [Fleet]: a site has a queue for each [Pool],
// and in it buckets of hosts that are the same to the plan. A [Dispatcher] works on those counts
// and takes the bucket whose index is the highest ([Choice].Value); a [Planner] names the hosts for a run that
// goes on. What is beside it: package forecast looks ahead, package halt stops what goes wrong.
//
// [Order] is the first form: by opening alone.
package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

// An Item is one host in the order in which hosts are to be treated.
type Item struct {
	Index int            `json:"-"` // in the slice given to Order
	Name  string         `json:"host"`
	Site  string         `json:"site,omitempty"`
	Tier  inventory.Tier `json:"tier"`
	Due   time.Time      `json:"due,omitzero"` // in the host's own zone; zero if not known
	Known bool           `json:"known"`        // whether there is a due time
	Why   string         `json:"why"`          // one line for a person
	Notes []string       `json:"notes,omitempty"`
}

// Order returns the hosts in the order in which they are to be treated:
//
//   - by due time: the opening of the host's site, in the site's own time zone, after now;
//   - then by tier, dependency first, then site, then name.
//
// Hosts of the dependency tier are due when the first host of their site is, because the
// others cannot work without them. Hosts without a known opening come last, and Why says
// what is missing. now should be the start of the run and stay the same when it is resumed:
// else sites that have opened meanwhile fall behind those that open tomorrow.
func Order(hosts []inventory.Host, now time.Time) []Item {
	cal := calendar.New()
	known := map[calendar.Place]opening{}
	first := map[string]opening{} // of each site
	items := make([]Item, len(hosts))
	for i := range hosts {
		h := &hosts[i]
		p := cal.PlaceOf(h)
		o, ok := known[p]
		if !ok {
			o = openingOf(cal, p, now)
			known[p] = o
		}
		items[i] = Item{
			Index: i, Name: h.Name, Site: h.Site, Tier: h.Tier,
			Due: o.At, Known: o.known, Why: o.why, Notes: o.Notes,
		}
		if f, ok := first[h.Site]; o.known && (!ok || o.At.Before(f.At)) {
			first[h.Site] = o
		}
	}
	for i := range items {
		lift(&items[i], first)
	}
	slices.SortFunc(items, compare)
	return items
}

// opening is what all hosts of a place share.
type opening struct {
	calendar.Opening
	known bool
	why   string
}

// openingOf returns when a place opens, in words too.
func openingOf(cal *calendar.Calendar, p calendar.Place, now time.Time) opening {
	o, err := cal.Opening(p, now)
	switch {
	case err != nil:
		return opening{why: "last: " + err.Error()}
	case o.Always:
		return opening{o, true, fmt.Sprintf("open round the clock: %s tier wanted within %s, by %s", p.Tier, short(o.At.Sub(now)), stamp(o.At))}
	}
	return opening{o, true, "opens " + stamp(o.At)}
}

// short writes whole hours as "4h".
func short(d time.Duration) string { return strings.TrimSuffix(d.String(), "0m0s") }

// stamp writes a moment as the people of the site and those of the run read it:
// "Mon 08:00 AEST (Sun 22:00 UTC)".
func stamp(t time.Time) string {
	const layout = "Mon 15:04"
	return fmt.Sprintf("%s (%s UTC)", t.Format(layout+" MST"), t.UTC().Format(layout))
}

// lift brings a host that others of its site depend on forward to the first of them.
func lift(it *Item, first map[string]opening) {
	o, ok := first[it.Site]
	if it.Tier != inventory.Dependency || it.Site == "" || !ok {
		return
	}
	if !it.Known || o.At.Before(it.Due) {
		it.Due, it.Known = o.At, true
		it.Why = "others at " + it.Site + " depend on it; the first " + o.why
	}
}

// compare orders items; no two of them are equal.
func compare(a, b Item) int {
	if a.Known != b.Known {
		if a.Known {
			return -1
		}
		return 1
	}
	return cmp.Or(
		a.Due.Compare(b.Due),
		cmp.Compare(a.Tier, b.Tier),
		strings.Compare(a.Site, b.Site),
		strings.Compare(a.Name, b.Name),
		cmp.Compare(a.Index, b.Index),
	)
}
