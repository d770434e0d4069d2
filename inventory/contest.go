package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// contests settles the names that several hosts go by, since a name is what everything else
// calls a host by. A host that goes by another name as well takes that one. Of the others the
// one in use and last seen keeps the name, and rows that name no machine go to it; the rest
// are records of machines that had the name before, and are put aside with a warning. Where
// nothing says which one it is, none of them is used.
func (m *merger) contests() {
	tried := m.set.clone()
	groups(m.names, func(g []keyed) {
		for _, r := range g[1:] {
			tried.union(g[0].row, r.row)
		}
	})
	tried.clusters(func(c cluster) {
		if m.whole(c) {
			return
		}
		for _, c := range m.byName(m.rename(slices.Clone(c))) {
			m.contest(c)
		}
	})
}

// rename takes away contested names from hosts that go by another one as well. It returns the
// rows of the other hosts.
func (m *merger) rename(c cluster) cluster {
	holder := map[uint64]int32{} // name: its only host, or -1
	for _, r := range c {
		name, host := m.keys.name[r], m.set.find(r)
		if was, ok := holder[name]; ok && was != host {
			host = -1
		}
		holder[name] = host
	}
	free := map[int32]bool{}
	for _, r := range c {
		if holder[m.keys.name[r]] >= 0 {
			free[m.set.find(r)] = true
		}
	}
	return slices.DeleteFunc(c, func(r int32) bool {
		if free[m.set.find(r)] && holder[m.keys.name[r]] < 0 {
			m.state[r] = nameless
		}
		return free[m.set.find(r)]
	})
}

// byName splits rows into those that are connected by names and hosts.
func (m *merger) byName(c cluster) (all []cluster) {
	for len(c) > 0 {
		names, hosts := map[uint64]bool{m.keys.name[c[0]]: true}, map[int32]bool{}
		for grew := true; grew; {
			grew = false
			for _, r := range c {
				host := m.set.find(r)
				if names[m.keys.name[r]] != hosts[host] {
					names[m.keys.name[r]], hosts[host], grew = true, true, true
				}
			}
		}
		var one, rest cluster
		for _, r := range c {
			if hosts[m.set.find(r)] {
				one = append(one, r)
			} else {
				rest = append(rest, r)
			}
		}
		all, c = append(all, one), rest
	}
	return all
}

// A claimant is a host that goes by a contested name.
type claimant struct {
	rows   cluster
	strong bool // it has a serial number or a UUID
	unused bool // retired or in stock
	seen   time.Time
	tie    string // to order those that are equal, whatever the order of the sources
}

func (m *merger) claimants(c cluster) (all []claimant) {
	done := map[int32]bool{}
	for _, r := range c {
		if done[m.set.find(r)] {
			continue
		}
		done[m.set.find(r)] = true
		one := claimant{rows: m.parts(c, r)}
		for _, r := range one.rows {
			h := m.rows.at(r)
			one.strong = one.strong || m.keys.serial[r] != 0 || m.keys.uuid[r] != 0
			one.unused = one.unused || h.State == Retired || h.State == InStock
			if at := h.Seen(); at.After(one.seen) {
				one.seen = at
			}
			at := origin(h)
			one.tie = max(one.tie, fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%d", h.Serial, h.UUID, h.Name, at.Place, at.Line))
		}
		all = append(all, one)
	}
	return all
}

// better orders claimants: what is a machine, in use, and was seen last comes first.
func (a claimant) better(b claimant) int {
	yes := func(b bool) int { return map[bool]int{true: 0, false: 1}[b] }
	return cmp.Or(yes(a.strong)-yes(b.strong), yes(!a.unused)-yes(!b.unused), b.seen.Compare(a.seen))
}

// contest settles who of the rows has their name.
func (m *merger) contest(c cluster) {
	all := m.claimants(c)
	slices.SortFunc(all, func(a, b claimant) int { return cmp.Or(a.better(b), strings.Compare(a.tie, b.tie)) })
	first := all[0]
	for _, other := range all[1:] {
		if other.strong && first.better(other) == 0 && m.differ(first.rows, other.rows) {
			m.undecided(c, first, other)
			return
		}
	}
	have := slices.Clone(first.rows)
	for _, other := range all[1:] {
		if both := append(slices.Clone(have), other.rows...); m.agree(both) {
			m.set.union(have[0], other.rows[0])
			have = both
			continue
		}
		for _, r := range other.rows {
			m.state[r] = aside
			m.in.sum.Aside++
		}
		m.warn(other.rows[0], fmt.Sprintf("the name is now that of %s (%s)", m.machine(first), m.place(first.rows[0])),
			"the record of the machine that had it before deleted; if this one is in use, its own name", "name")
		m.notes[first.rows[0]] = append(m.notes[first.rows[0]], Conflict{Field: "name", Says: []Said{m.claims(first), m.claims(other)}})
	}
}

// undecided leaves out all rows of a name.
func (m *merger) undecided(c cluster, a, b claimant) {
	for _, r := range c {
		m.state[r] = ambiguous
	}
	m.in.sum.Problems.Rows += len(c)
	at := origin(m.rows.at(a.rows[0]))
	m.in.sum.Problems.add(&RowError{Place: at.Place, Line: at.Line, Column: "name", Value: m.rows.at(a.rows[0]).Name,
		Reason: fmt.Sprintf("it is %s here, and %s in %s", m.machine(a), m.machine(b), m.place(b.rows[0])),
		Want:   "one machine of that name; nothing says which of them is the one in use",
	}, m.in.keep)
}

// claims is what a claimant's source says of it.
func (m *merger) claims(c claimant) Said {
	at := origin(m.rows.at(c.rows[0]))
	return Said{m.rows.at(c.rows[0]).Name + ", " + m.machine(c), at.Source, at.Place}
}

// machine names a machine by what it is recognised by.
func (m *merger) machine(c claimant) string {
	for _, r := range c.rows {
		if s := m.rows.at(r).Serial; s != "" {
			return "serial number " + s
		}
	}
	for _, r := range c.rows {
		if u := m.rows.at(r).UUID; u != "" {
			return "UUID " + u
		}
	}
	return "a host without serial number"
}

// place says where a row was read.
func (m *merger) place(r int32) string {
	at := origin(m.rows.at(r))
	if at.Line == 0 {
		return at.Place
	}
	return fmt.Sprintf("%s:%d", at.Place, at.Line)
}
