package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate/schedule"
)

// A census is a fleet as the plan knows it. Hosts are held up to a number; of more, there are
// counts alone, and no order by name.
type census struct {
	fleets []*schedule.Fleet // one for each of the options it was made with
	hosts  []inventory.Host  // nil if they are only counted
	out    map[int]string    // by index of hosts: why it is not in the plan
	total  int
	always map[string]bool // sites that are open round the clock
	notes  map[string]int  // what was assumed, and of how many hosts
}

// A counter takes a census.
type counter struct {
	census
	hours    map[string]calendar.Hours
	builders []*schedule.Builder
}

// newCounter returns a counter for plans of these options, which are the same but in how often
// ways are tried. Names are kept for held hosts.
func newCounter(names bool, options ...schedule.Options) *counter {
	n := &counter{hours: map[string]calendar.Hours{}}
	n.always, n.out = map[string]bool{}, map[int]string{}
	for _, o := range options {
		o.Names = names
		n.builders = append(n.builders, schedule.NewBuilder(o))
	}
	return n
}

// add counts a host that the table of sites has filled in. h is not kept.
func (n *counter) add(h *inventory.Host, index int) (in bool) {
	n.total++
	hours, ok := n.hours[h.Opens]
	if !ok {
		hours, _ = calendar.ParseHours(h.Opens) // read before; what is wrong is a note of the plan
		n.hours[strings.Clone(h.Opens)] = hours
	}
	if hours.Always && !n.always[h.Site] {
		n.always[strings.Clone(h.Site)] = true
	}
	for _, b := range n.builders {
		in = b.Add(h, index)
	}
	return in
}

// done ends the census.
func (n *counter) done() *census {
	n.notes = n.builders[0].Notes()
	for _, b := range n.builders {
		n.fleets = append(n.fleets, b.Build())
	}
	return &n.census
}

// held takes a census of hosts that are in memory.
func held(hosts []inventory.Host, options ...schedule.Options) *census {
	n := newCounter(true, options...)
	n.hosts = hosts
	for i := range hosts {
		if h := &hosts[i]; !n.add(h, i) {
			n.out[i] = "no way in"
			if o := options[0]; o.Held != nil {
				n.out[i] = cmp.Or(o.Held(h), n.out[i])
			}
		}
	}
	return n.done()
}

// lines returns the notes as lines, each with how many hosts it is about.
func (n *census) lines() []string {
	var lines []string
	for _, note := range slices.Sorted(maps.Keys(n.notes)) {
		lines = append(lines, fmt.Sprintf("%s (%d hosts)", note, n.notes[note]))
	}
	return lines
}
