// Package simulate compares rules for who goes first, on fleets that are made up.
//
// Shares, times and failures of the fleet are assumptions (scheduling.md, section 5): what
// counts is how rules differ, not how many hosts any of them saves. The same seed gives the same
// fleet and the same run. It is pure.
package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

// A World is a fleet that is made up. The zero World has 200,000 hosts at 2,000 sites.
type World struct {
	Hosts, Sites int
	Seed         uint64
}

// Start is when the work on every World begins: the model incident.
func Start() time.Time { return time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC) }

func (w *World) fill() {
	if w.Hosts <= 0 {
		w.Hosts = 200_000
	}
	if w.Sites <= 0 {
		w.Sites = max(1, w.Hosts/100)
	}
}

// The ways of the fleet, with their shares in an office and in a data centre; minutes and
// failures are those that schedule.Rates assume.
var (
	waysOf  = [...]string{remediate.Manual, "amt", "redfish", "winrm", "ec2"}
	office  = [...]float64{0.55, 0.22, 0.03, 0.12, 0.08}
	centre  = [...]float64{0.05, 0, 0.70, 0.10, 0.15}
	tiersOf = [...]float64{0.015, 0.10, 0.585, 0.30}
)

// zipf is how fast sites get smaller: with 2,000 of them the largest has 2 % of the hosts.
const zipf = 0.6

// enough is more places than any fleet needs.
const enough = 1 << 23

// Fleet returns the hosts of the world, with more places than they need: [Places] says how many
// they are to have.
func (w World) Fleet() *schedule.Fleet {
	w.fill()
	r := rand.New(rand.NewPCG(w.Seed, 0xf1ee7))
	groups := groups()
	roaming := map[string]int{}
	weights := make([]float64, len(groups))
	for i, g := range groups {
		roaming[g.country] = enough
		weights[i] = g.weight
	}
	b := schedule.NewBuilder(schedule.Options{Start: Start(), Limits: schedule.Limits{Slots: enough, Roaming: roaming}})
	cal := calendar.New()
	scale := 0.0
	for i := range w.Sites {
		scale += math.Pow(float64(i+1), -zipf)
	}
	for i := range w.Sites {
		n := max(1, int(math.Round(float64(w.Hosts)*math.Pow(float64(i+1), -zipf)/scale)))
		w.site(b, cal, r, groups[pick(r, weights)], i, n)
	}
	return b.Build()
}

// site adds the hosts of one site.
func (w World) site(b *schedule.Builder, cal *calendar.Calendar, r *rand.Rand, g group, i, n int) {
	always, shares := r.Float64() < 0.08, office[:]
	if r.Float64() < 0.05 {
		shares = centre[:]
	}
	zone, err := cal.Zone(g.zone)
	if err != nil {
		panic("simulate: " + g.zone) // of the table below
	}
	saturday := time.Date(2024, 7, 20, 0, 0, 0, 0, zone)
	left := map[[2]int]int{}
	for range n {
		left[[2]int{pick(r, tiersOf[:]), pick(r, shares)}]++
	}
	for tier := range tiersOf {
		p := calendar.Place{Country: g.country, TimeZone: g.zone, Tier: inventory.Tier(tier)}
		from := saturday
		if always {
			p.Opens, from = "24x7", Start()
		}
		open, err := cal.Opening(p, from)
		if err != nil {
			panic("simulate: " + err.Error()) // of the table below
		}
		for way := range waysOf {
			k := left[[2]int{tier, way}]
			if k == 0 {
				continue
			}
			c := schedule.Crowd{Place: schedule.Place{Site: fmt.Sprintf("%s-%05d", g.country, i), Country: g.country, Region: g.region, Zone: g.zone},
				Slots: min(max(2, n/60), 40), Technicians: min(max(1, n/120), 16), Tier: inventory.Tier(tier), Always: always, Due: open.At,
				Ways: []string{waysOf[way], remediate.Manual}, Again: []float32{0.5, 1}}
			if way == 0 {
				c.Ways, c.Again = c.Ways[1:], c.Again[1:]
			}
			b.AddCrowd(c, k)
		}
	}
}

// pick draws an index by weight.
func pick(r *rand.Rand, weights []float64) int {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	x := r.Float64() * sum
	for i, w := range weights {
		if x -= w; x < 0 {
			return i
		}
	}
	return len(weights) - 1
}

// weekend is how long the technicians of a country have for sites that never close, in hours.
const weekend = 72

// Places returns the places of a fleet of which nothing is begun, as many as load asks for: at 1.0 as
// many slots, and technicians in each country, as the sites that close at night need if nothing
// goes wrong; the others and what fails come on top. At 2.0 it is half of that.
func Places(d *schedule.Dispatcher, load float64) ([]schedule.Change, error) {
	if load <= 0 {
		return nil, fmt.Errorf("cannot simulate a load of %v: it must be above 0", load)
	}
	all := d.Places()
	closes := closing(d, len(all))
	slots, hands := []forecast.Job(nil), map[string][]forecast.Job{}
	for i, p := range all {
		for _, q := range d.Queues(i) {
			j := forecast.Job{Places: q.Own, Due: q.Due, Work: q.Work}
			if !closes[i] { // a country may have little else
				j.Due, j.Work = []float64{weekend}, j.Work[len(j.Work)-1:]
			}
			switch {
			case q.Pool == schedule.Hands:
				hands[p.Country] = append(hands[p.Country], j)
			case closes[i]:
				slots = append(slots, j)
			}
		}
	}
	least := func(jobs []forecast.Job) int { return max(1, int(math.Ceil(forecast.Needed(jobs).Needed/load))) }
	changes := []schedule.Change{{What: "slots", Value: least(slots)}}
	for _, country := range countries() {
		if jobs := hands[country]; jobs != nil {
			changes = append(changes, schedule.Change{What: "technicians", Name: country, Value: least(jobs)})
		}
	}
	return changes, nil
}

// closing says which sites are not open round the clock: they have one due time.
func closing(d *schedule.Dispatcher, n int) []bool {
	first, closes := make([]float64, n), make([]bool, n)
	for i := range closes {
		closes[i] = true
	}
	for i := range d.Buckets() {
		b := d.Bucket(schedule.Ref(i))
		if first[b.Site] == 0 {
			first[b.Site] = b.Due
		}
		if b.Due != first[b.Site] || b.Due < 25 {
			closes[b.Site] = false
		}
	}
	return closes
}
