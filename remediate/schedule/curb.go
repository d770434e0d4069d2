package schedule

import (
	"math"
	"slices"
)

// A Curb is one kind of what keeps hosts from being begun.
type Curb uint8

// The curbs. Of two that bind alike the first is named.
const (
	Halts     Curb = iota // of cohorts
	SiteSlots             // the places that a site can have
	Images                // over the uplink of a site
	People                // technicians, of a site or who go round
	Shifts                // when those work
	PerHour               // starts of a way in an hour
	WayPlaces             // of a way that has a cap
	CloudPlaces
	RunSlots
	Tiers // dependency tier, and services that every site needs
	curbs // how many there are
)

// Curbs returns those that there are here: a cap that no number says is none.
func (d *Dispatcher) Curbs() (all []Curb) {
	here := [curbs]bool{RunSlots: true, Images: d.limit.Images > 0, CloudPlaces: d.pools[1].cap > 0, Shifts: d.watches != nil,
		Halts: slices.Contains(d.shut, true), Tiers: d.service() < noService}
	for i := range d.sites {
		s := &d.sites[i]
		here[SiteSlots] = here[SiteSlots] || s.slots < math.MaxInt32
		here[People] = here[People] || s.hand < s.handTo
		here[Tiers] = here[Tiers] || s.gate
	}
	for i := range d.waysAt {
		here[PerHour] = here[PerHour] || d.waysAt[i].gap > 0
		here[WayPlaces] = here[WayPlaces] || d.waysAt[i].cap < math.MaxInt32
	}
	for i := range d.cohortsAt {
		here[Halts] = here[Halts] || d.cohortsAt[i].cap < math.MaxInt32
	}
	for c := range curbs {
		if here[c] {
			all = append(all, c)
		}
	}
	return all
}

// Lift returns a Dispatcher that goes on from the same counts as if there were none of these curbs.
func (d *Dispatcher) Lift(these ...Curb) *Dispatcher {
	c := d.Clone()
	fleet := *d.Fleet
	fleet.sites = slices.Clone(d.sites)
	c.Fleet = &fleet
	for _, curb := range these {
		c.lift(curb)
	}
	c.rekey()
	return c
}

func (d *Dispatcher) lift(curb Curb) {
	sites := func(change func(*site)) {
		for i := range d.sites {
			change(&d.sites[i])
		}
	}
	switch curb {
	case Halts:
		clear(d.shut)
		for i := range d.cohortsAt {
			d.cohortsAt[i].cap = math.MaxInt32
		}
	case SiteSlots:
		sites(func(s *site) { s.slots = math.MaxInt32 })
	case Images:
		d.limit.Images = 0
	case People:
		sites(func(s *site) { s.hands = math.MaxInt32 })
		for i := range d.people {
			d.pools[2+i].cap = math.MaxInt32
		}
	case Shifts:
		d.watches = nil
	case PerHour:
		for i := range d.waysAt {
			d.waysAt[i].gap, d.waysAt[i].next = 0, 0
		}
	case WayPlaces:
		for i := range d.waysAt {
			d.waysAt[i].cap = math.MaxInt32
		}
	case CloudPlaces:
		d.pools[1].cap = math.MaxInt32
	case RunSlots:
		d.pools[0].cap = math.MaxInt32
	case Tiers:
		sites(func(s *site) { s.gate = false })
		clear(d.services[:])
	}
}

// RatedWays returns how many hosts may be begun in an hour by the ways that have such a limit.
func (d *Dispatcher) RatedWays() map[string]int {
	all := map[string]int{}
	for i, w := range d.waysAt {
		if w.gap > 0 {
			all[d.ways[i]] = int(math.Round(1 / w.gap))
		}
	}
	return all
}
