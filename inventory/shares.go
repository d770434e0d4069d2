package inventory

import (
	"cmp"
	"fmt"
	"slices"
)

// shares are the values that several rows of one source have under different names: serial numbers
// of copied machines and of blades' chassis, one BMC for two hosts. Nobody knows whose they are,
// and a BMC address in two rows restarts the wrong host: none of them uses it. The rows are hosts
// all the same. Where one of them alone is in use, it is that one's.
type shares struct {
	open map[uint64]*sharing // of the source that is being read
	void map[uint64]string   // values that nobody uses, whichever source has them, and who has them
	lost map[lost]string     // values that some rows do not use
}

// lost is a value that the nth host does not use.
type lost struct {
	nth int
	key uint64
}

// A sharing is the rows that have a value.
type sharing struct {
	key     uint64
	holders []holder // in their order
}

type holder struct {
	nth, line int
	out       bool
	at        Origin
	column    string // empty for the first, whose row is not at hand
	value     string
}

// add notes that the nth host has a value that an earlier one has.
func (s *shares) add(v share, h *Host, nth int) {
	one := s.open[v.key]
	if one == nil {
		one = &sharing{key: v.key, holders: []holder{{nth: int(v.first.nth), line: int(v.first.line), out: v.first.out}}}
		s.open[v.key] = one
	}
	if last := one.holders[len(one.holders)-1]; last.nth != nth {
		at := origin(h)
		one.holders = append(one.holders, holder{nth, at.Line, isOut(h), at, v.column, v.value})
	}
}

// judgeShares says of the values that several rows of the source have who uses them, now that it
// is known which rows are put aside.
func (in *intake) judgeShares() {
	all := make([]*sharing, 0, len(in.shared.open))
	for _, s := range in.shared.open {
		s.holders = slices.DeleteFunc(s.holders, func(h holder) bool { return in.ids.gone[uint32(h.nth)] })
		if slices.ContainsFunc(s.holders, func(h holder) bool { return !in.dropped[h.nth] }) && len(s.holders) > 1 {
			all = append(all, s)
		}
	}
	clear(in.shared.open)
	slices.SortFunc(all, func(a, b *sharing) int { // as they came
		return cmp.Or(cmp.Compare(a.holders[1].nth, b.holders[1].nth), cmp.Compare(a.holders[1].column, b.holders[1].column), cmp.Compare(a.key, b.key))
	})
	for _, s := range all {
		in.judge(s)
	}
}

// judge says who uses a value.
func (in *intake) judge(s *sharing) {
	who := ""
	for i, h := range s.holders[:min(len(s.holders), 4)] {
		who += map[bool]string{true: "", false: ", "}[i == 0] + in.where(h.nth, h.line)
	}
	if more := len(s.holders) - 4; more > 0 {
		who += fmt.Sprintf(" and %d more", more)
	}
	used := slices.IndexFunc(s.holders, func(h holder) bool { return !h.out })
	alone := used >= 0 && !slices.ContainsFunc(s.holders[used+1:], func(h holder) bool { return !h.out })
	if !alone {
		in.shared.void[s.key] = who
	}
	for i, h := range s.holders {
		if alone && i != used {
			in.shared.lost[lost{h.nth, s.key}] = who
		}
		if i > 0 && (i == 1 || h.column != "mac") {
			in.warnShare(s, h, used, alone)
		}
	}
}

// warnShare says of a row that an earlier one has a value too.
func (in *intake) warnShare(s *sharing, h holder, used int, alone bool) {
	first := s.holders[0]
	e := &RowError{Place: h.at.Place, Line: h.at.Line, Column: h.column, Value: h.value,
		Reason: "another host has it too: " + in.where(first.nth, first.line), Want: "each host its own; it is not used for any of them"}
	switch {
	case alone:
		e.Want = "each host its own; it is used for the one that is in use: " + in.where(s.holders[used].nth, s.holders[used].line)
	case h.column == "mac":
		e.Reason = "several hosts have it: a docking station, or an adapter that is no card; the first: " + in.where(first.nth, first.line)
		e.Want = "the hosts' own; it is not used for any of them"
	}
	in.warn(e)
}

// blank takes away what the nth host shares with others, and notes it with the host.
func (in *intake) blank(h *Host, nth int) {
	if len(in.shared.void) == 0 && len(in.shared.lost) == 0 {
		return
	}
	var routes, macs []int
	in.ids.each(h, func(v value) {
		who, ok := in.shared.void[v.key]
		if !ok {
			if who, ok = in.shared.lost[lost{nth, v.key}]; !ok {
				return
			}
		}
		switch {
		case v.route > 0 && slices.Contains(routes, v.route):
			return
		case v.route > 0:
			routes = append(routes, v.route)
		case v.mac > 0:
			macs = append(macs, v.mac)
		case v.column == "serial":
			h.Serial = ""
		case v.column == "uuid":
			h.UUID = ""
		}
		at := origin(h)
		h.Conflicts = append(slices.Clip(h.Conflicts), Conflict{v.column, []Said{{v.text + ", not used: it is in " + who, at.Source, at.Place}}})
	})
	h.Routes, h.MAC = without(h.Routes, routes), without(h.MAC, macs)
}

// without returns a list without some of its elements, which are counted from 1 on.
func without[T any](all []T, some []int) []T {
	if some == nil {
		return all
	}
	var left []T
	for i, v := range all {
		if !slices.Contains(some, i+1) {
			left = append(left, v)
		}
	}
	return left
}
