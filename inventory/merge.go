package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// How rows of several sources are recognised as one host.
//
// By serial number, then UUID, then MAC address, then name; a later sign joins what the earlier
// ones have joined already. All rows that one sign would join are joined or none of them is,
// so that the order of the sources does not matter. They are not joined
//
//   - if two of them are of one source, which knows two hosts there;
//   - by a serial number or UUID that several machines have: of the rows with it, two differ
//     in the name, and in the other of the two or in what else is known of them, see apart.go
//     (copied machines, blades that show the serial number of their chassis). Then it is not
//     used for any of them;
//   - by a MAC address that hosts with several serial numbers or UUIDs have, or several hosts
//     of one source (docking stations, VPN adapters), or under two names of which one is some
//     other host's as well, or that are reached at two addresses of one way;
//   - by a name, if serial numbers or UUIDs say that they are several machines: see contest.go.
type merger struct {
	in    *intake
	rows  *list
	from  []uint16 // of a row, the number of its source
	extra []bool   // of a source, that it is a Supplement
	keys  keys
	set   sets
	state []fate
	names []keyed              // rows by name
	notes map[int32][]Conflict // by row: what its host cannot tell from its own rows
	later []*RowError          // warnings that come after the others
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
	m.names = byKey(m.keys.name)
	m.bothShared()
	m.joinByID("serial", m.keys.serial)
	m.joinByID("uuid", m.keys.uuid)
	m.joinMACs()
	m.join(m.names, m.agree)
	m.contests()
	m.putBMCsAside()
	m.putExtrasAside()
	hosts := m.hosts(opts)
	m.routesOnce(hosts)
	m.macsOnce(hosts)
	for _, e := range m.later {
		in.warn(e)
	}
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
	var found []func()
	shared := func(column string, key, other []uint64) {
		groups(byKey(key), func(g []keyed) {
			others, names := map[uint64]bool{}, map[uint64]bool{}
			rows := make(cluster, 0, len(g))
			for _, r := range g {
				rows = append(rows, r.row)
				if other[r.row] != 0 {
					others[other[r.row]], names[m.keys.name[r.row]] = true, true
				}
			}
			// With two of each there are two rows that differ in both.
			if len(others) > 1 && len(names) > 1 || m.onePerSource(rows) && m.apartIn(rows) {
				found = append(found, func() { m.blank(column, rows) })
			}
		})
	}
	shared("serial", m.keys.serial, m.keys.uuid)
	shared("uuid", m.keys.uuid, m.keys.serial)
	for _, blank := range found { // only now: each is judged by what all rows say
		blank()
	}
}

// blank takes a serial number or UUID away from rows of several machines, and says so.
func (m *merger) blank(column string, rows cluster) {
	m.warn(rows[0], "shared by machines that are not one: "+m.list(rows), "a value of its own; it is not used for any of them", column)
	var said []Said
	for i, r := range rows {
		h := m.rows.at(r)
		at := origin(h)
		said = append(said, Said{h.Value(column) + " for " + h.Name, at.Source, at.Place})
		if i == 3 {
			break
		}
	}
	for _, r := range rows {
		m.notes[r] = append(m.notes[r], Conflict{column, said})
		if column == "serial" {
			m.keys.serial[r], m.rows.at(r).Serial = 0, ""
		} else {
			m.keys.uuid[r], m.rows.at(r).UUID = 0, ""
		}
	}
}

// list names the hosts of rows, and where they stand: "web1 (a.csv:2), db7 (b.csv:7)".
func (m *merger) list(rows cluster) string {
	var b strings.Builder
	named := map[uint64]bool{}
	for _, r := range rows {
		if named[m.keys.name[r]] {
			continue
		}
		named[m.keys.name[r]] = true
		if len(named) == 5 {
			b.WriteString(" and others")
			break
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (%s)", m.rows.at(r).Name, m.place(r))
	}
	return b.String()
}

// joinByID joins the rows that share a serial number or UUID. Where that would make one host of
// several, it is not used for any of them.
func (m *merger) joinByID(column string, key []uint64) {
	var found []cluster
	m.join(byKey(key), func(c cluster) bool {
		if m.onePerSource(c) && !m.apartIn(c) {
			return true
		}
		by := map[uint64]cluster{}
		for _, r := range c {
			if key[r] != 0 {
				by[key[r]] = append(by[key[r]], r)
			}
		}
		for _, r := range c {
			if rows := by[key[r]]; len(rows) > 1 && !m.whole(rows) {
				found = append(found, rows)
				delete(by, key[r])
			}
		}
		return false
	})
	for _, rows := range found { // only now: kin goes by it
		m.blank(column, rows)
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
		if !m.agree(c) || m.elsewhere(c) {
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

// elsewhere says that two of the rows, under two names, are reached at two addresses of one way.
func (m *merger) elsewhere(c cluster) bool {
	for i, a := range c {
		for _, b := range c[:i] {
			if m.keys.name[a] != m.keys.name[b] && m.waysApart(m.kin(a), m.kin(b), isOwnWay) {
				return true
			}
		}
	}
	return false
}

// renamed warns of a host that its sources know under several names.
func (m *merger) renamed(c cluster) {
	if !m.twoNames(c) {
		return
	}
	at := origin(m.rows.at(c[0]))
	m.later = append(m.later, &RowError{Place: at.Place, Line: at.Line, Column: "name", Value: m.rows.at(c[0]).Name,
		Reason: "taken for one host by " + m.sign(c) + ", under several names: " + m.list(c), Want: "one name, if it is one"})
}

// sign is what rows under several names have in common.
func (m *merger) sign(c cluster) string {
	for _, id := range []struct {
		what string
		key  []uint64
		of   func(*Host) string
	}{{"serial number ", m.keys.serial, func(h *Host) string { return h.Serial }}, {"UUID ", m.keys.uuid, func(h *Host) string { return h.UUID }}} {
		for i, a := range c {
			for _, b := range c[:i] {
				if id.key[a] != 0 && id.key[a] == id.key[b] && m.keys.name[a] != m.keys.name[b] {
					return id.what + id.of(m.rows.at(b))
				}
			}
		}
	}
	return "MAC address"
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
