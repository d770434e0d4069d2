package inventory

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// An intake judges what sources yield.
type intake struct {
	keep    int
	sum     Summary
	digest  digest
	ids     identities
	dropped map[int]bool // by the order in which hosts came
	blank   map[int]int  // what of a host is put aside: noSerial, noUUID
	hosts   int          // that came
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
		keep: opts.Keep, ids: newIdentities(),
		dropped: map[int]bool{}, blank: map[int]int{}, zones: map[string]siteZone{},
	}
	in.sum.Problems.First, in.sum.Warnings.First = []*RowError{}, []*RowError{}
	return in, nil
}

// What can be put aside of a host.
const (
	noSerial = 1 << iota
	noUUID
)

// read judges all that the sources yield and passes on, in their order, the hosts that are
// right in themselves, with the number of their source. Whether another row of the source
// claims the same is known only at the end: settle then says which of them must not be used.
func (in *intake) read(ctx context.Context, sources []Source, keep func(Host, int)) error {
	for i, src := range sources {
		in.ids = newIdentities()
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
	}
	in.ids = identities{}
	in.sum.Rows = in.hosts + in.bad.n
	in.sum.Usable = in.hosts - len(in.dropped)
	in.sum.Problems.Rows += in.bad.n
	in.sum.Warnings.Rows = in.warned.n
	in.sum.Digest = in.digest.String()
	return nil
}

// settle prepares the nth host for use, unless it must not be used.
func (in *intake) settle(h *Host, nth int) bool {
	if in.blank[nth]&noSerial != 0 {
		h.Serial = ""
	}
	if in.blank[nth]&noUUID != 0 {
		h.UUID = ""
	}
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
	for _, c := range in.ids.see(h, nth, at.Line, sum) {
		e := &RowError{Place: at.Place, Line: at.Line, Column: c.column, Value: c.value}
		switch {
		case c.same:
			e.Reason, e.Want = "the same row as "+in.where(c), "each host once"
			in.warn(e)
			in.putAside(nth)
			return
		case in.ids.gone[uint32(nth)] || in.ids.gone[uint32(c.nth)]: // said before
		case c.apart:
			e.Reason = "another host has it too, and the two are told apart by what stands beside it: " + in.where(c)
			e.Want = "a " + c.column + " of its own; it is not used for either"
			in.warn(e)
			bit := map[string]int{"serial": noSerial, "uuid": noUUID}[c.column]
			in.blank[nth] |= bit
			in.blank[c.nth] |= bit
		case c.newer || c.older:
			old := nth
			if c.newer {
				old = c.nth
			}
			e.Reason = "two records of it, of which the one last seen is used; the other: " + in.where(c)
			e.Want = "the older record deleted"
			in.warn(e)
			in.putAside(old)
		default:
			in.refuse(e, c, nth)
		}
	}
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

// refuse leaves out both hosts of a claim.
func (in *intake) refuse(e *RowError, c claim, nth int) {
	e.Reason = "another host already has it: " + in.where(c)
	e.Want = "each host once, with a " + c.column + " of its own"
	in.sum.Problems.add(e, in.keep)
	for _, n := range []int{c.nth, nth} {
		if !in.dropped[n] {
			in.dropped[n] = true
			in.sum.Problems.Rows++
		}
	}
}

// where names the earlier row of a claim: "fleet.csv:12".
func (in *intake) where(c claim) string {
	i := sort.Search(len(in.starts), func(i int) bool { return in.starts[i].nth > c.nth })
	place := in.starts[i-1].place
	if c.line == 0 {
		return place
	}
	return fmt.Sprintf("%s:%d", place, c.line)
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
