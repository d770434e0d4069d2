package inventory

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sort"
	"strings"
)

// An intake judges what sources yield.
type intake struct {
	keep    int
	seed    maphash.Seed // differs from process to process
	sum     Summary
	digest  digest
	ids     identities
	dropped map[int]bool // by the order in which hosts came
	shared  shares
	name    func(nth int) string // of a host that came, where hosts are kept
	hosts   int                  // that came
	starts  []start
	zones   map[string]siteZone
	bad     rowCount
	warned  rowCount
}

// A rowCount counts rows of which one or several values were reported.
type rowCount struct {
	place string
	line  int
	n     int
}

// see counts the row of e, unless it was counted for the value before.
func (c *rowCount) see(e *RowError) {
	if c.n == 0 || e.Line == 0 || e.Line != c.line || e.Place != c.place {
		c.n++
	}
	c.place, c.line = e.Place, e.Line
}

// A start is the first host of a place.
type start struct {
	nth   int
	place string
}

// A siteZone is the time zone of the first host of a site.
type siteZone struct {
	zone string
	at   Origin
	told bool
}

// newIntake returns an intake that has seen nothing.
func newIntake(opts Options) (*intake, error) {
	for field := range opts.Wins {
		if fields := MergeFields(); !slices.Contains(fields, field) {
			return nil, fmt.Errorf("no field %q for which a source can win; the fields are %s", field, strings.Join(fields, ", "))
		}
	}
	if opts.Keep == 0 {
		opts.Keep = keepProblems
	}
	in := &intake{
		keep: opts.Keep, seed: maphash.MakeSeed(), // so that nobody can write an inventory whose hashes collide
		dropped: map[int]bool{}, zones: map[string]siteZone{},
		shared: shares{open: map[uint64]*sharing{}, void: map[uint64]string{}, lost: map[lost]string{}},
	}
	in.sum.Problems.First, in.sum.Warnings.First = []*RowError{}, []*RowError{}
	return in, nil
}

// read judges all that the sources yield and passes on, in their order, the hosts that are
// right in themselves, with the number of their source. Whether another row of the source
// claims the same is known only at the end: settle then says which of them must not be used.
func (in *intake) read(ctx context.Context, sources []Source, keep func(Host, int)) error {
	for i, src := range sources {
		in.ids = newIdentities(in.seed, len(sources) == 1) // of several, macsOnce sees who has them in the end
		for h, err := range src.Hosts(ctx) {
			switch row := rowError(err); {
			case row != nil && row.Warning:
				in.warn(row)
			case row != nil:
				in.sum.Problems.add(row, in.keep)
				in.bad.see(row)
			case err != nil:
				return err
			default:
				in.host(&h)
				keep(h, i)
			}
		}
		in.judgeShares()
	}
	in.ids.names, in.ids.ids, in.ids.gone = nil, nil, nil
	in.sum.Rows = in.hosts + in.bad.n
	in.sum.Usable = in.hosts - len(in.dropped)
	in.sum.Problems.Rows += in.bad.n
	in.sum.Warnings.Rows = in.warned.n
	in.sum.Digest = in.digest.String()
	return nil
}

// settle prepares the nth host for use, unless it must not be used.
func (in *intake) settle(h *Host, nth int) bool {
	in.blank(h, nth)
	return !in.dropped[nth]
}

// warn records a value that is put aside.
func (in *intake) warn(e *RowError) {
	e.Warning = true
	in.sum.Warnings.add(e, in.keep)
	in.warned.see(e)
}

// host takes in one host that is right in itself.
func (in *intake) host(h *Host) {
	nth := in.hosts
	in.hosts++
	at := origin(h)
	if n := len(in.starts); n == 0 || in.starts[n-1].place != at.Place {
		in.starts = append(in.starts, start{nth, at.Place})
	}
	sum := in.digest.add(h)
	if c, ok := in.ids.name(h, nth, at.Line, sum); ok && in.twice(h, nth, c) {
		return
	}
	in.ids.values(h, nth, at.Line, func(s share) { in.shared.add(s, h, nth) })
	in.checkZone(h, at)
}

// putAside leaves a row out that is no host of its own.
func (in *intake) putAside(nth int) {
	in.ids.gone[uint32(nth)] = true
	if !in.dropped[nth] {
		in.dropped[nth] = true
		in.sum.Aside++
	}
}

// twice settles that an earlier row has the name of the nth host. It says whether there is no more
// to see of this one.
func (in *intake) twice(h *Host, nth int, c claim) bool {
	at := origin(h)
	e := &RowError{Place: at.Place, Line: at.Line, Column: "name", Value: h.Name}
	old := nth
	if c.newer {
		old = c.nth
	}
	switch {
	case c.same:
		e.Reason, e.Want = "the same row as "+in.where(c.nth, c.line), "each host once"
	case c.state:
		e.Reason = "two records of it, of which the one in use is used; the other: " + in.where(c.nth, c.line)
		e.Want = "the record that is not in use deleted"
	case c.newer || c.older:
		e.Reason = "two records of it, of which the one last seen is used; the other: " + in.where(c.nth, c.line)
		e.Want = "the older record deleted"
	default:
		e.Reason, e.Want = "another host already has it: "+in.where(c.nth, c.line), "each host once, with a name of its own"
		in.refuse(e, c.nth, nth)
		return false
	}
	in.warn(e)
	in.putAside(old)
	return old == nth
}

// refuse leaves out hosts of one name of which nobody knows which is right.
func (in *intake) refuse(e *RowError, nths ...int) {
	in.sum.Problems.add(e, in.keep)
	for _, n := range nths {
		if !in.dropped[n] {
			in.dropped[n] = true
			in.sum.Problems.Rows++
		}
	}
}

// where names a row: "fleet.csv:12", or its host where lines mean nothing.
func (in *intake) where(nth, line int) string {
	i := sort.Search(len(in.starts), func(i int) bool { return in.starts[i].nth > nth })
	place := in.starts[i-1].place
	switch {
	case line > 0:
		return fmt.Sprintf("%s:%d", place, line)
	case in.name != nil:
		return in.name(nth) + " in " + place
	}
	return place
}

// checkZone warns of a site that keeps two times: one of them is a slip, and its hosts would
// be treated for the wrong opening.
func (in *intake) checkZone(h *Host, at Origin) {
	if h.Site == "" || h.TimeZone == "" {
		return
	}
	seen, ok := in.zones[h.Site]
	if !ok {
		in.zones[h.Site] = siteZone{zone: h.TimeZone, at: at}
	}
	if !ok || seen.told || seen.zone == h.TimeZone {
		return
	}
	in.warn(&RowError{
		Place: at.Place, Line: at.Line, Column: "timezone", Value: h.TimeZone,
		Reason: fmt.Sprintf("site %s has another time zone in line %d: %s", h.Site, seen.at.Line, seen.zone),
		Want:   "one time zone for a site; each host keeps its own",
	})
	seen.told = true
	in.zones[h.Site] = seen
}

// origin returns where h was read first.
func origin(h *Host) Origin {
	if len(h.From) == 0 {
		return Origin{Place: "inventory"}
	}
	return h.From[0]
}
