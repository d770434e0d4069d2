package inventory

import (
	"cmp"
	"fmt"
	"slices"
)

// How rows of several sources are recognised as one host.
//
// By serial number, then UUID, then MAC address, then name; a later sign joins what the earlier
// ones have joined already. All rows that one sign would join are joined or none of them is,
// so that the order of the sources does not matter. They are not joined
//
//   - if two of them are of one source, which knows two hosts there;
//   - by a serial number or UUID that several machines have: of the rows with it, two differ
//     in the other of the two and in the name as well (cloned machines, blades that show the
//     serial number of their chassis);
//   - by a MAC address that hosts with several serial numbers or UUIDs have, or several hosts
//     of one source (docking stations, VPN adapters), or under two names of which one is some
//     other host's as well;
//   - by a name, if serial numbers or UUIDs say that they are several machines: see contest.go.
type merger struct {
	in    *intake
	rows  *list
	from  []uint16 // of a row, the number of its source
	extra []bool   // of a source, that it is a Supplement
	keys  keys
	set   sets
	state []fate
	notes map[int32][]Conflict // by row: what its host cannot tell from its own rows
}

// fate is what became of a row.
type fate uint8

const (
	used      fate = iota
	nameless       // used, but its name belongs to another host
	aside          // no host of its own
	ambiguous      // nobody knows whose it is
)

// merge makes hosts of the rows of several sources, in the order of their first rows.
func (in *intake) merge(rows *list, from []uint16, extra []bool, opts Options) []Host {
	m := &merger{in: in, rows: rows, from: from, extra: extra, keys: keysOf(rows, from), set: newSets(rows.n),
		state: make([]fate, rows.n), notes: map[int32][]Conflict{}}
	m.bothShared()
	m.join(byKey(m.keys.serial), m.onePerSource)
	m.join(byKey(m.keys.uuid), m.onePerSource)
	m.joinMACs()
	m.join(byKey(m.keys.name), m.agree)
	m.contests()
	m.putBMCsAside()
	m.putExtrasAside()
	hosts := m.hosts(opts)
	m.routesOnce(hosts)
	m.macsOnce(hosts)
	in.sum.Usable = len(hosts)
	return hosts
}

// byKey returns the rows that have a key, sorted by it.
func byKey(key []uint64) []keyed {
	var all []keyed
	for i, k := range key {
		if k != 0 {
			all = append(all, keyed{k, int32(i)})
		}
	}
	return sorted(all)
}

// sorted orders rows by key.
func sorted(all []keyed) []keyed {
	slices.SortFunc(all, func(a, b keyed) int { return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.row, b.row)) })
	return all
}

// groups calls f with the rows of each key that more than one row has.
func groups(all []keyed, f func([]keyed)) {
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].key == all[0].key {
			n++
		}
		if n > 1 {
			f(all[:n])
		}
		all = all[n:]
	}
}

// bothShared puts aside the serial numbers and UUIDs that several machines have.
func (m *merger) bothShared() {
	var serials, uuids []int32
	shared := func(key, other []uint64, found *[]int32) {
		groups(byKey(key), func(g []keyed) {
			others, names := map[uint64]bool{}, map[uint64]bool{}
			for _, r := range g {
				if other[r.row] != 0 {
					others[other[r.row]], names[m.keys.name[r.row]] = true, true
				}
			}
			// With two of each there are two rows that differ in both.
			if len(others) > 1 && len(names) > 1 {
				for _, r := range g {
					*found = append(*found, r.row)
				}
				m.warn(g[0].row, "shared by machines that are not one", "a value of its own; it is not used for any of them",
					map[bool]string{true: "serial", false: "uuid"}[found == &serials])
			}
		})
	}
	shared(m.keys.serial, m.keys.uuid, &serials)
	shared(m.keys.uuid, m.keys.serial, &uuids)
	for _, r := range serials {
		m.keys.serial[r], m.rows.at(r).Serial = 0, ""
	}
	for _, r := range uuids {
		m.keys.uuid[r], m.rows.at(r).UUID = 0, ""
	}
}

// join joins the rows that share a key, where fit says that what comes of it is one host.
func (m *merger) join(all []keyed, fit func(c cluster) bool) {
	tried := m.set.clone()
	groups(all, func(g []keyed) {
		for _, r := range g[1:] {
			tried.union(g[0].row, r.row)
		}
	})
	tried.clusters(func(c cluster) {
		if m.whole(c) || !fit(c) {
			return
		}
		for _, r := range c[1:] {
			m.set.union(c[0], r)
		}
	})
}

// whole says that the rows are one host already.
func (m *merger) whole(c cluster) bool {
	root := m.set.find(c[0])
	for _, r := range c[1:] {
		if m.set.find(r) != root {
			return false
		}
	}
	return true
}

// onePerSource says that no two of the rows are of one source.
func (m *merger) onePerSource(c cluster) bool {
	for i, r := range c {
		for _, other := range c[:i] {
			if m.from[r] == m.from[other] {
				return false
			}
		}
	}
	return true
}

// agree says that the rows may be one host: one of each source at most, and no two of them
// joined otherwise already into hosts that differ in serial number or UUID.
func (m *merger) agree(c cluster) bool {
	if !m.onePerSource(c) { // which bounds the number of rows by that of sources
		return false
	}
	for i, a := range c {
		for _, b := range c[:i] {
			if m.differ(m.parts(c, a), m.parts(c, b)) {
				return false
			}
		}
	}
	return true
}

// parts returns the rows of c that are joined with r.
func (m *merger) parts(c cluster, r int32) cluster {
	var part cluster
	for _, o := range c {
		if m.set.find(o) == m.set.find(r) {
			part = append(part, o)
		}
	}
	return part
}

// differ says that two hosts both have serial numbers, or both UUIDs, and none in common.
func (m *merger) differ(a, b cluster) bool {
	for _, key := range [][]uint64{m.keys.serial, m.keys.uuid} {
		both, common := false, false
		for _, x := range a {
			for _, y := range b {
				both = both || key[x] != 0 && key[y] != 0
				common = common || key[x] != 0 && key[x] == key[y]
			}
		}
		if both && !common {
			return true
		}
	}
	return false
}

// joinMACs joins rows by MAC address.
func (m *merger) joinMACs() {
	all := sorted(m.keys.macs)
	hosts := map[uint64]int{} // rows under a name
	for _, n := range m.keys.name {
		hosts[n]++
	}
	usable := all[:0:0]
	groups(all, func(g []keyed) {
		c := make(cluster, 0, len(g))
		for _, r := range g {
			c = append(c, r.row)
		}
		if m.agree(c) {
			usable = append(usable, g...)
		}
	})
	m.join(usable, func(c cluster) bool {
		if !m.agree(c) {
			return false
		}
		names := map[uint64]int{}
		for _, r := range c {
			names[m.keys.name[r]]++
		}
		for n, count := range names {
			if len(names) > 1 && count < hosts[n] {
				return false
			}
		}
		return true
	})
}

// putExtrasAside leaves out what only supplements know, with one warning for each of them.
func (m *merger) putExtrasAside() {
	if !slices.Contains(m.extra, true) || !slices.Contains(m.extra, false) {
		return
	}
	rows, first := make([]int, len(m.extra)), make([]int32, len(m.extra))
	m.set.all(func(c cluster) {
		if m.state[c[0]] == aside || m.state[c[0]] == ambiguous || slices.ContainsFunc(c, func(r int32) bool { return !m.extra[m.from[r]] }) {
			return
		}
		for _, r := range c {
			if rows[m.from[r]]++; rows[m.from[r]] == 1 {
				first[m.from[r]] = r
			}
			m.state[r] = aside
			m.in.sum.Aside++
		}
	})
	for i, n := range rows {
		if n > 0 {
			at := origin(m.rows.at(first[i]))
			m.in.warn(&RowError{Place: at.Place, Reason: fmt.Sprintf("%d hosts are known here alone and left out", n), Want: "them in a source that says which hosts there are, if they are yours"})
		}
	}
}

// warn notes a value of a row that is not used.
func (m *merger) warn(row int32, reason, want, column string) {
	h := m.rows.at(row)
	at := origin(h)
	value := map[string]string{"serial": h.Serial, "uuid": h.UUID, "name": h.Name, "address": h.Address}[column]
	m.in.warn(&RowError{Place: at.Place, Line: at.Line, Column: column, Value: value, Reason: reason, Want: want})
}
