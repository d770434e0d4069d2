package inventory

import (
	"context"
	"errors"
	"iter"
)

// Options say how a fleet is read. The zero Options are the strict ones.
type Options struct {
	SkipBad bool // go on without the rows that cannot be used
	Keep    int  // how many problems to keep in full; 0 is 1000

	// Wins says for a field which sources are believed, best first, by Origin.Source or
	// Origin.Place: {"site": {"netbox"}}. After them, and for the other fields, come the sources
	// in the order in which they are given. The fields are those of [MergeFields].
	Wins map[string][]string

	// Rows is told of every host what it was made of, in the order of the sources, if it is
	// there: for a person who asks who said what. It must not keep the rows.
	Rows func(h *Host, rows []*Host)
}

// A Summary is what reading a fleet brought to light.
type Summary struct {
	Rows     int      `json:"rows"`             // read, good and bad: Usable, Merged, Aside and Problems.Rows together
	Usable   int      `json:"usable"`           // hosts that remain
	Merged   int      `json:"merged,omitempty"` // rows that say more of a host that another row has
	Aside    int      `json:"aside,omitempty"`  // rows that are no host of their own: repeated, out of date, a BMC; each has a warning
	Problems Problems `json:"problems"`         // rows that cannot be used
	Warnings Problems `json:"warnings"`         // values put aside; their rows are used
	// Digest is the SHA-256, in hex, of every host that is right in itself. The order of the
	// rows, the file's name and its form do not change it; any value does.
	Digest string `json:"digest"`
}

// verdict returns the error of a fleet that was read to its end.
func (s *Summary) verdict(opts Options) error {
	switch {
	case s.Problems.Total > 0 && (!opts.SkipBad || s.Usable == 0):
		return &s.Problems
	case s.Usable == 0:
		return errors.New("the inventory has no hosts")
	}
	return nil
}

// A Fleet is all hosts of the sources.
type Fleet struct {
	Summary
	Hosts []Host
}

// Load reads every source into memory, about 1 kB for each row and more while it reads.
//
// What several sources say of one machine becomes one host: see merge.go for how it is
// recognised. What they do not agree on is in the host's Conflicts.
//
// Rows that cannot be used are reported all at once: the error is then the fleet's *Problems.
// So are two rows of one source under one name, in any case. Neither is used, since nobody knows
// which one is right; unless one of them alone is in use, or the source has seen it later, or a row
// repeats another word for word: that is only a warning. With opts.SkipBad what is left is a fleet
// and no error, unless nothing is left.
//
// A serial number, UUID, way in or MAC address that rows of one source have under several names
// is used for none of them, since a BMC address in two rows restarts the wrong host: that is a
// warning, and stands in the Conflicts of each. Nobody is left out for it.
//
// The Fleet is there whenever the sources could be read to their end. Any other error is a
// source that could not.
func Load(ctx context.Context, opts Options, sources ...Source) (*Fleet, error) {
	in, err := newIntake(opts)
	if err != nil {
		return nil, err
	}
	if len(sources) > 1 {
		return in.loadMerged(ctx, opts, sources)
	}
	var hosts []Host
	in.name = func(nth int) string { return hosts[nth].Name }
	if err := in.read(ctx, sources, func(h Host, _ int) { hosts = append(hosts, h) }); err != nil {
		return nil, err
	}
	kept := hosts[:0]
	for i := range hosts {
		if in.settle(&hosts[i], i) {
			kept = append(kept, hosts[i])
			if opts.Rows != nil {
				opts.Rows(&kept[len(kept)-1], []*Host{&hosts[i]})
			}
		}
	}
	clear(hosts[len(kept):])
	f := &Fleet{Summary: in.sum, Hosts: kept}
	return f, f.verdict(opts)
}

// loadMerged loads several sources.
func (in *intake) loadMerged(ctx context.Context, opts Options, sources []Source) (*Fleet, error) {
	rows := new(list)
	var from []uint16
	in.name = func(nth int) string { return rows.at(int32(nth)).Name }
	err := in.read(ctx, sources, func(h Host, source int) {
		rows.add(h)
		from = append(from, uint16(source))
	})
	if err != nil {
		return nil, err
	}
	kept := int32(0)
	for i := range int32(rows.n) {
		if h := rows.at(i); in.settle(h, int(i)) {
			*rows.at(kept), from[kept] = *h, from[i]
			kept++
		}
	}
	rows.cut(int(kept))
	extra := make([]bool, len(sources))
	for i, src := range sources {
		_, extra[i] = src.(Supplement)
	}
	hosts := in.merge(rows, from[:kept], extra, opts)
	f := &Fleet{Summary: in.sum, Hosts: hosts}
	return f, f.verdict(opts)
}

// A Scan is a fleet that was read once and not kept: what is wrong with it is known, and
// [Scan.Hosts] reads it again. It is for a fleet that does not fit into memory, of one source;
// it costs about 250 bytes for each host, and 50 for each of its MAC addresses. Several sources have to be merged: they are kept.
type Scan struct {
	Summary
	source Source
	in     *intake
	merged []Host
}

// NewScan reads every source once and judges it as [Load] does.
func NewScan(ctx context.Context, opts Options, sources ...Source) (*Scan, error) {
	if len(sources) != 1 {
		f, err := Load(ctx, opts, sources...)
		if f == nil {
			return nil, err
		}
		return &Scan{Summary: f.Summary, merged: f.Hosts}, err
	}
	in, err := newIntake(opts)
	if err != nil {
		return nil, err
	}
	if err := in.read(ctx, sources, func(Host, int) {}); err != nil {
		return nil, err
	}
	s := &Scan{Summary: in.sum, source: sources[0], in: in}
	return s, s.verdict(opts)
}

// Hosts yields the hosts that the scan found usable. It reads the source again; an error is
// the last thing it yields; one says that the source is no longer what was scanned.
func (s *Scan) Hosts(ctx context.Context) iter.Seq2[Host, error] {
	return func(yield func(Host, error) bool) {
		if s.source == nil {
			for _, h := range s.merged {
				if !yield(h, nil) {
					return
				}
			}
			return
		}
		var d digest
		n := 0
		for h, err := range s.source.Hosts(ctx) {
			if rowError(err) != nil {
				continue
			}
			if err != nil {
				yield(Host{}, err)
				return
			}
			d.add(&h)
			n++
			if s.in.settle(&h, n-1) && !yield(h, nil) {
				return
			}
		}
		if d.String() != s.Digest {
			yield(Host{}, errors.New("the inventory changed while it was read; start again"))
		}
	}
}

// rowError returns the *RowError in err, or nil.
func rowError(err error) *RowError {
	if err == nil {
		return nil
	}
	var row *RowError
	errors.As(err, &row)
	return row
}
