package schedule

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Change is one thing that could be otherwise: "slots=60", "technicians.SYD=8".
type Change struct {
	What  string // "slots", "technicians", "route", "rate", "cloud", "images", "attempts", "pin"
	Name  string // of a site, way or country; empty: of all
	Value int
}

// String writes the change as [ParseChanges] reads it.
func (c Change) String() string {
	if c.Name == "" {
		return fmt.Sprintf("%s=%d", c.What, c.Value)
	}
	return fmt.Sprintf("%s.%s=%d", c.What, c.Name, c.Value)
}

// changes says of each kind whether a name must, may or must not follow.
var changeNames = map[string]string{
	"slots": "may", "technicians": "must", "route": "must", "rate": "must", "pin": "must",
	"cloud": "no", "images": "no", "attempts": "no",
}

const changeHelp = "slots=60, slots.SITE=8, technicians.SITE=8 or .COUNTRY, route.redfish=100, rate.ec2=600 (in an hour), " +
	"cloud=40, images=4, attempts=2, pin.SITE=4 (hours)"

// ParseChanges reads "slots=60,technicians.SYD=8". Names of sites may hold dots; one that holds
// a comma or an equals sign cannot be named. An error says at which column it is.
func ParseChanges(text string) ([]Change, error) {
	var all []Change
	column := 1
	for part := range strings.SplitSeq(text, ",") {
		lead := len(part) - len(strings.TrimLeft(part, " "))
		c, at, err := parseChange(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("column %d: %w; it is one of %s", column+lead+at, err, changeHelp)
		}
		all = append(all, c)
		column += len(part) + 1
	}
	return all, nil
}

// parseChange reads one change; at is where in text it is wrong.
func parseChange(text string) (c Change, at int, err error) {
	left, value, ok := strings.Cut(text, "=")
	if !ok {
		return c, len(text), fmt.Errorf("no value in %q", text)
	}
	c.What, c.Name, _ = strings.Cut(left, ".")
	named, known := changeNames[c.What]
	switch {
	case !known:
		return c, 0, fmt.Errorf("nothing called %q can change", c.What)
	case named == "must" && c.Name == "":
		return c, len(c.What), fmt.Errorf("%s of what", c.What)
	case named == "no" && c.Name != "":
		return c, len(c.What), fmt.Errorf("%s has no name", c.What)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 24)
	if errors.Is(err, strconv.ErrRange) {
		return c, len(left) + 1, fmt.Errorf("too large a number %q", value)
	}
	if err != nil {
		return c, len(left) + 1, fmt.Errorf("not a number %q", value)
	}
	if n == 0 && c.What != "route" && c.What != "technicians" {
		return c, len(left) + 1, fmt.Errorf("%s cannot be 0", left)
	}
	c.Value = int(n)
	return c, 0, nil
}

// Options applies what a plan must be built with anew: attempts.
func (c Change) Options(o *Options) {
	if c.What == "attempts" {
		o.Attempts = c.Value
		for i := range o.Ladder {
			o.Ladder[i].Tries = 0
		}
	}
}

// With returns a Dispatcher that goes on from the same counts at now as if changes were made.
// Attempts are for [Change.Options] and change nothing here.
func (d *Dispatcher) With(changes []Change, now time.Time) (*Dispatcher, error) {
	c := d.Clone()
	fleet := *d.Fleet
	fleet.sites = append([]site(nil), d.sites...)
	c.Fleet = &fleet
	for _, change := range changes {
		if err := c.change(change, now); err != nil {
			return nil, err
		}
	}
	c.rekey()
	return c, nil
}

func (d *Dispatcher) change(c Change, now time.Time) error {
	switch c.What {
	case "slots":
		if c.Name == "" {
			d.pools[0].cap = int32(c.Value)
			return nil
		}
		return d.atSite(c, func(i int) { d.sites[i].slots = c.Value })
	case "technicians":
		for i, p := range d.people {
			if p.name == roamingName+c.Name {
				d.pools[2+i].cap = int32(c.Value)
				return nil
			}
		}
		return d.atSite(c, func(i int) {
			s := &d.sites[i]
			s.hands = c.Value
			if d.people[s.people].name == "technicians at "+s.Site {
				d.pools[2+s.people].cap = int32(c.Value)
			}
		})
	case "pin":
		return d.atSite(c, func(i int) { d.Pin(i, now.Add(time.Duration(c.Value)*time.Hour), false) })
	case "cloud":
		if d.pools[1].cap == 0 {
			return fmt.Errorf("%s: cloud hosts take slots, as the limits are", c)
		}
		d.pools[1].cap = int32(c.Value)
	case "images":
		d.limit.Images = c.Value
	case "route", "rate":
		i, ok := search(len(d.ways), func(i int) string { return d.ways[i] }, c.Name)
		switch {
		case !ok:
			return fmt.Errorf("%s: no host goes that way; they go %s", c, strings.Join(d.ways, ", "))
		case c.What == "route":
			d.waysAt[i].cap = int32(min(c.Value, math.MaxInt32))
		default:
			d.waysAt[i].gap = 1 / float64(c.Value)
		}
	}
	return nil
}

func (d *Dispatcher) atSite(c Change, change func(int)) error {
	i, ok := d.SiteIndex(c.Name)
	if !ok {
		return fmt.Errorf("%s: no site %q in the plan", c, c.Name)
	}
	change(i)
	return nil
}
