package inventory

import (
	"net/netip"
	"slices"
	"strings"
)

// A textField is a field of which a host has one value.
type textField struct {
	name string
	at   func(*Host) *string
	same func(a, b string) bool // two values that are no conflict
}

var textFields = []textField{
	{"name", func(h *Host) *string { return &h.Name }, sameShort},
	{"serial", func(h *Host) *string { return &h.Serial }, func(a, b string) bool { return string(serialKey(nil, a)) == string(serialKey(nil, b)) }},
	{"uuid", func(h *Host) *string { return &h.UUID }, func(a, b string) bool { return uuidKey(a) == uuidKey(b) }},
	{"address", func(h *Host) *string { return &h.Address }, sameAddress},
	{"site", func(h *Host) *string { return &h.Site }, strings.EqualFold},
	{"country", func(h *Host) *string { return &h.Country }, strings.EqualFold},
	{"region", func(h *Host) *string { return &h.Region }, strings.EqualFold},
	{"timezone", func(h *Host) *string { return &h.TimeZone }, strings.EqualFold},
	{"opens", func(h *Host) *string { return &h.Opens }, strings.EqualFold},
	{"technician", func(h *Host) *string { return &h.Technician }, strings.EqualFold},
	{"group", func(h *Host) *string { return &h.Group }, strings.EqualFold},
}

// MergeFields returns the fields for which Options.Wins may name sources.
func MergeFields() []string {
	var names []string
	for _, f := range textFields {
		names = append(names, f.name)
	}
	return append(names, "tier", "state", "routes", "labels")
}

// sameShort takes a name with its domain and without for one.
func sameShort(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	return a == b || shortName(a) == b || shortName(b) == a
}

// sameAddress finds no conflict between a name and an IP address.
func sameAddress(a, b string) bool {
	ip, errA := netip.ParseAddr(a)
	other, errB := netip.ParseAddr(b)
	if errA == nil && errB == nil {
		return ip.Unmap() == other.Unmap()
	}
	return (errA == nil) != (errB == nil) || sameShort(a, b)
}

// hosts makes a host of each set of rows that is in use.
func (m *merger) hosts(opts Options) []Host {
	n := 0
	m.set.all(func(cluster) { n++ })
	hosts := make([]Host, 0, n)
	m.set.all(func(c cluster) {
		if s := m.state[c[0]]; s == aside || s == ambiguous {
			return
		}
		m.in.sum.Merged += len(c) - 1
		if len(c) == 1 {
			h := *m.rows.at(c[0])
			h.Conflicts = append(h.Conflicts, m.notes[c[0]]...)
			hosts = append(hosts, h)
		} else {
			hosts = append(hosts, m.host(c, opts.Wins))
			m.renamed(c)
		}
		if opts.Rows != nil {
			rows := make([]*Host, len(c))
			for i, r := range c {
				rows[i] = m.rows.at(r)
			}
			opts.Rows(&hosts[len(hosts)-1], rows)
		}
	})
	return hosts
}

// host makes one host of several rows.
func (m *merger) host(c cluster, wins map[string][]string) (h Host) {
	for _, f := range textFields {
		order := m.order(c, wins[f.name])
		if f.name == "name" {
			order = slices.Clone(order)
			slices.SortStableFunc(order, func(a, b int32) int { return int(m.state[a]) - int(m.state[b]) }) // nameless last
		}
		said := m.said(order, func(h *Host) string { return *f.at(h) }, f.same)
		if len(said) > 0 {
			*f.at(&h) = said[0].Value
		}
		h.note(f.name, said)
	}
	m.tier(&h, m.order(c, wins["tier"]))
	m.life(&h, m.order(c, wins["state"]))
	m.routes(&h, m.order(c, wins["routes"]))
	for _, r := range m.order(c, wins["labels"]) {
		for k, v := range m.rows.at(r).Labels {
			if h.Labels == nil {
				h.Labels = make(map[string]string, len(m.rows.at(r).Labels))
			}
			if _, ok := h.Labels[k]; !ok {
				h.Labels[k] = v
			}
		}
	}
	for _, r := range c {
		h.From = append(h.From, m.rows.at(r).From...)
		for _, mac := range m.rows.at(r).MAC {
			if !slices.Contains(h.MAC, mac) {
				h.MAC = append(h.MAC, mac)
			}
		}
		for _, note := range m.notes[r] {
			if !slices.ContainsFunc(h.Conflicts, func(c Conflict) bool { return c.Field == note.Field && slices.Equal(c.Says, note.Says) }) {
				h.Conflicts = append(h.Conflicts, note)
			}
		}
	}
	return h
}

// note records a field for which sources have several values.
func (h *Host) note(field string, said []Said) {
	if len(said) > 1 {
		h.Conflicts = append(h.Conflicts, Conflict{field, said})
	}
}

// order returns the rows in the order in which they are believed.
func (m *merger) order(c cluster, wins []string) cluster {
	if len(wins) == 0 {
		return c
	}
	rank := func(r int32) int {
		at := origin(m.rows.at(r))
		i := slices.IndexFunc(wins, func(w string) bool { return w == at.Source || w == at.Place })
		if i < 0 {
			return len(wins)
		}
		return i
	}
	c = slices.Clone(c)
	slices.SortStableFunc(c, func(a, b int32) int { return rank(a) - rank(b) })
	return c
}

// said returns the different values of a field, the one in use first.
func (m *merger) said(order cluster, value func(*Host) string, same func(a, b string) bool) (all []Said) {
	for _, r := range order {
		v := value(m.rows.at(r))
		if v == "" || slices.ContainsFunc(all, func(s Said) bool { return same(s.Value, v) }) {
			continue
		}
		at := origin(m.rows.at(r))
		if all == nil {
			all = make([]Said, 0, 1)
		}
		all = append(all, Said{v, at.Source, at.Place})
	}
	return all
}

// tier takes the first tier that is not the one of a host whose tier nobody named.
func (m *merger) tier(h *Host, order cluster) {
	h.Tier = Normal
	said := m.said(order, func(h *Host) string {
		if h.Tier == Normal {
			return ""
		}
		return h.Tier.String()
	}, strings.EqualFold)
	if len(said) > 0 {
		h.Tier, _ = ParseTier(said[0].Value)
	}
	h.note("tier", said)
}

// life takes a state that one source names, since most do not know of any. A host that one
// source has seen was online, whatever another believes.
func (m *merger) life(h *Host, order cluster) {
	seen := slices.ContainsFunc(order, func(r int32) bool { return !m.rows.at(r).Seen().IsZero() })
	said := m.said(order, func(h *Host) string {
		if h.State == NeverOnline && seen {
			return ""
		}
		return string(h.State)
	}, strings.EqualFold)
	if len(said) > 0 {
		h.State = State(said[0].Value)
	}
	h.note("state", said)
}

// routes takes each way in from the first source that has it.
func (m *merger) routes(h *Host, order cluster) {
	for _, r := range order {
		for _, route := range m.rows.at(r).Routes {
			other := slices.ContainsFunc(order[:slices.Index(order, r)], func(before int32) bool {
				return slices.ContainsFunc(m.rows.at(before).Routes, func(o Route) bool { return o.Driver == route.Driver })
			})
			if !other {
				h.Routes = append(h.Routes, route)
			}
		}
	}
	ways := map[string]bool{}
	for _, route := range h.Routes {
		if !ways[route.Driver] {
			ways[route.Driver] = true
			h.note(route.Driver, m.said(order, routeBy(route.Driver), func(a, b string) bool { return strings.EqualFold(bareAddress(a), bareAddress(b)) }))
		}
	}
}

// routeBy returns the address of a host's first route by a driver.
func routeBy(driver string) func(*Host) string {
	return func(h *Host) string {
		for _, r := range h.Routes {
			if r.Driver == driver {
				return r.Address
			}
		}
		return ""
	}
}

// macsOnce takes the MAC addresses away that several hosts have: those of docking stations and
// of VPN adapters. A host that is booted from the network by one of them may be any of them. What
// one host alone of them that is in use has is its own.
func (m *merger) macsOnce(hosts []Host) {
	holders := map[string][]int{}
	first := map[string]int{}
	for i := range hosts {
		for _, mac := range hosts[i].MAC {
			was, ok := first[mac]
			if !ok {
				first[mac] = i
			} else if all := holders[mac]; was != i && (all == nil || all[len(all)-1] != i) {
				if all == nil {
					all = []int{was}
				}
				holders[mac] = append(all, i)
			}
		}
	}
	if len(holders) == 0 {
		return
	}
	for i := range hosts {
		h := &hosts[i]
		h.MAC = slices.DeleteFunc(slices.Clone(h.MAC), func(mac string) bool {
			all := holders[mac]
			if all == nil || onlyInUse(hosts, all) == i {
				return false
			}
			if all[0] == i {
				at := origin(h)
				m.in.warn(&RowError{Place: at.Place, Line: at.Line, Column: "mac", Value: mac,
					Reason: "several hosts have it: a docking station, or an adapter that is no card", Want: "the hosts' own; it is not used for any of them"})
			}
			other := all[0]
			if other == i {
				other = all[1]
			}
			at := origin(&hosts[other])
			h.Conflicts = append(slices.Clip(h.Conflicts), Conflict{"mac", []Said{{mac + ", not used: it is that of " + hosts[other].Name + " too", at.Source, at.Place}}})
			return true
		})
	}
}
