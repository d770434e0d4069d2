package schedule

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/remediate"
)

// A Builder makes a [Fleet] of hosts, one after the other: they need not be held. The order in
// which they come does not matter.
type Builder struct {
	opts   Options
	sites  map[string]*siteDraft
	opens  map[calendar.Place]*placeOpening
	chains map[string]*chain
	names  []string
	hosts  []draftMember
	tokens map[string]int32
	notes  map[string]int
	ways   []string          // by name, once the hosts are there
	routes map[string]*chain // by model and what ways there are into a host
	text   []byte            // scratch
}

// siteDraft is a site while it grows.
type siteDraft struct {
	Place
	id    int32
	first opening // the first of its hosts' known ones
	piles []pile
	caps  *siteCaps
	last  [inventory.Low + 1]*placeOpening // of each tier: that of its last host
}

type placeOpening struct {
	place calendar.Place
	opening
}

// siteCaps are caps that were given with the hosts.
type siteCaps struct{ slots, hands int }

// A pile is hosts of a site that are the same to the plan.
type pile struct {
	chain  *chain
	tier   inventory.Tier
	class  uint8
	always bool
	due    time.Time // zero if not known
	hosts  int32
}

type draftMember struct {
	site          *siteDraft
	pile, index   int32
	group, subnet int32
}

// NewBuilder returns a Builder without hosts.
func NewBuilder(o Options) *Builder {
	o.fill()
	return &Builder{opts: o, sites: map[string]*siteDraft{}, opens: map[calendar.Place]*placeOpening{},
		chains: map[string]*chain{}, routes: map[string]*chain{}, tokens: map[string]int32{}, notes: map[string]int{}}
}

// Add counts a host in. What its site says and its own row left out is filled in first. It
// returns false if the host cannot be treated: that is counted at its site. index is the
// caller's own number of the host.
func (b *Builder) Add(host *inventory.Host, index int) bool {
	h := host
	if len(b.opts.Sites) > 0 {
		filled := *host
		b.opts.Sites.Fill(&filled)
		h = &filled
	}
	s := b.site(Place{Site: h.Site, Country: h.Country, Region: h.Region, Zone: h.TimeZone})
	open := b.opening(s, b.opts.Calendar.PlaceOf(h))
	for _, n := range open.Notes {
		b.notes[n]++
	}
	if !open.known {
		b.notes[strings.TrimPrefix(open.why, "last: ")]++
	} else if s.first.At.IsZero() || open.At.Before(s.first.At) {
		s.first = *open
	}
	ways := b.opts.Ladder.Ways(*h)
	why := ""
	if b.opts.Held != nil {
		why = b.opts.Held(h)
	}
	if why == "" && len(ways) == 0 {
		why = "no way in"
	}
	if why != "" {
		if s.Held == nil {
			s.Held = map[string]int{}
		}
		s.Held[why]++
		return false
	}
	p := pile{chain: b.chainOf(b.opts.Model(h), ways), tier: h.Tier, class: noService, always: open.Always, due: open.At}
	if c := b.opts.Service(h); c > 0 && c < noService {
		p.class = uint8(c)
	}
	i := s.add(p, 1)
	if b.opts.Names {
		m := draftMember{site: s, pile: i, index: int32(index)}
		if h.Group != "" {
			m.group = b.token("group " + h.Group)
		}
		for _, r := range ways {
			if net := remediate.Subnet(*h, r); net != "" && m.subnet == 0 && b.opts.Limits.PerSubnet > 0 {
				m.subnet = b.token("subnet " + net) // of its controller: there is one
			}
		}
		b.names, b.hosts = append(b.names, h.Name), append(b.hosts, m)
	}
	return true
}

// opening returns when a place of a site opens. Most hosts of a site and tier have one place.
func (b *Builder) opening(s *siteDraft, place calendar.Place) *opening {
	t := min(int(place.Tier), len(s.last)-1)
	if p := s.last[t]; p != nil && p.place == place {
		return &p.opening
	}
	p := b.opens[place]
	if p == nil {
		// Host by host, texts may be parts of whole rows.
		place.Country, place.TimeZone = strings.Clone(place.Country), strings.Clone(place.TimeZone)
		place.Opens, place.Site = strings.Clone(place.Opens), strings.Clone(place.Site)
		p = &placeOpening{place, openingOf(b.opts.Calendar, place, b.opts.Start)}
		b.opens[place] = p
	}
	s.last[t] = p
	return &p.opening
}

// A Crowd is hosts that are the same to the plan, for fleets that are made up.
type Crowd struct {
	Place
	Slots, Technicians int
	Ways               []string
	Again              []float32 // the share of failures, of each way, that it is tried on again
	Tier               inventory.Tier
	Always             bool
	Due                time.Time
}

// AddCrowd counts n equal hosts in.
func (b *Builder) AddCrowd(c Crowd, n int) {
	s := b.site(c.Place)
	s.caps = &siteCaps{c.Slots, c.Technicians}
	if s.first.At.IsZero() || c.Due.Before(s.first.At) {
		s.first.At = c.Due
	}
	s.add(pile{chain: b.chain("", c.Ways, c.Again), tier: c.Tier, class: noService, always: c.Always, due: c.Due}, n)
}

// Notes returns what was assumed of the hosts because nobody said it, and of how many.
func (b *Builder) Notes() map[string]int { return maps.Clone(b.notes) }

// site returns a site that is known already, or begins it.
func (b *Builder) site(p Place) *siteDraft {
	s := b.sites[p.Site]
	if s == nil {
		p.Site, p.Country, p.Region, p.Zone = strings.Clone(p.Site), strings.Clone(p.Country), strings.Clone(p.Region), strings.Clone(p.Zone)
		s = &siteDraft{Place: p}
		b.sites[p.Site] = s
	}
	s.Join(p)
	return s
}

// Join adds what another host says of the same place: of what differs the first by alphabet
// counts, whatever order they come in.
func (p *Place) Join(o Place) {
	least := func(have *string, v string) {
		if *have != v && v != "" && (*have == "" || v < *have) {
			*have = strings.Clone(v)
		}
	}
	least(&p.Country, o.Country)
	least(&p.Region, o.Region)
	least(&p.Zone, o.Zone)
}

// add counts n hosts to their pile and returns it.
func (s *siteDraft) add(p pile, n int) int32 {
	s.Hosts += n
	for i := range s.piles {
		q := &s.piles[i]
		if q.chain == p.chain && q.tier == p.tier && q.class == p.class && q.always == p.always && q.due.Equal(p.due) {
			q.hosts += int32(n)
			return int32(i)
		}
	}
	p.hosts = int32(n)
	s.piles = append(s.piles, p)
	return int32(len(s.piles) - 1)
}

func (b *Builder) token(name string) int32 {
	t, ok := b.tokens[name]
	if !ok {
		t = int32(len(b.tokens) + 1)
		b.tokens[name] = t
	}
	return t
}

// Build returns the fleet. The Builder is used up.
func (b *Builder) Build() *Fleet {
	f := &Fleet{Start: b.opts.Start, Rates: b.opts.Rates, limits: b.opts.Limits, ladder: b.opts.Ladder}
	b.kinds(f)
	order := slices.Sorted(maps.Keys(b.sites))
	roaming := map[string]int32{}
	where := make([][]int32, 0, len(order)) // of each pile of each site: its bucket
	for id, name := range order {
		s := b.sites[name]
		s.id = int32(id)
		f.sites = append(f.sites, b.finish(s, f, roaming))
		where = append(where, b.buckets(s, f))
		f.total += s.Hosts
		s.piles = nil
	}
	b.members(f, where)
	b.sites, b.chains, b.hosts = nil, nil, nil
	return f
}

// finish puts the caps of a site together. What the table of sites says counts first.
func (b *Builder) finish(s *siteDraft, f *Fleet, roaming map[string]int32) site {
	out := site{Place: s.Place, slots: b.opts.Limits.PerSite, hands: b.opts.Limits.Technicians}
	if s.caps != nil {
		out.slots, out.hands = s.caps.slots, s.caps.hands
	} else if said, ok := b.opts.Sites[strings.ToLower(s.Site)]; ok {
		out.slots, out.hands = cmp.Or(said.Slots, out.slots), cmp.Or(said.Technicians, out.hands)
	}
	if out.slots <= 0 || s.Site == "" {
		out.slots = math.MaxInt32
	}
	if out.hands <= 0 {
		out.hands = math.MaxInt32
	}
	if out.Clock = s.first.At.Location(); s.first.At.IsZero() {
		out.Clock = time.UTC
	}
	if b.opts.Limits.Shift != (Shift{}) {
		out.shift = b.opts.Clock(s.Place)
	}
	if n, ok := b.opts.Limits.Roaming[s.Country]; ok {
		p, known := roaming[s.Country]
		if !known {
			p = int32(len(f.people))
			f.people = append(f.people, people{roamingName + s.Country, n})
			roaming[s.Country] = p
		}
		out.people = p
		hands := 0
		for _, p := range s.piles {
			if len(p.chain.ways) > 0 && poolOf(p.chain.ways[0]) == Hands {
				hands += int(p.hosts)
			}
		}
		out.trip = b.trip(hands, s.Hosts-hands)
		return out
	}
	out.people, out.alone = int32(len(f.people)), true
	f.people = append(f.people, people{"technicians at " + s.Site, out.hands})
	return out
}
