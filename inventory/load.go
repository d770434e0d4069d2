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
}

// A Summary is what reading a fleet brought to light.
type Summary struct {
	Rows     int      `json:"rows"`     // read, good and bad
	Usable   int      `json:"usable"`   // hosts that remain
	Problems Problems `json:"problems"` // rows that cannot be used
	Warnings Problems `json:"warnings"` // values put aside; their rows are used
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

// Load reads every source into memory, about 1 kB for each host and more while it reads.
//
// Rows that cannot be used are reported all at once: the error is then the fleet's *Problems.
// So are hosts that two rows claim: by name in any case, serial number, UUID or a way in,
// since a BMC address in two rows restarts the wrong host. Neither of the two is used, since nobody knows which one is right; a row that repeats another word for
// word is only a warning. With opts.SkipBad what is left is a fleet and no error, unless
// nothing is left.
//
// The Fleet is there whenever the sources could be read to their end. Any other error is a
// source that could not.
func Load(ctx context.Context, opts Options, sources ...Source) (*Fleet, error) {
	in := newIntake(opts)
	var hosts []Host
	if err := in.read(ctx, sources, func(h Host) { hosts = append(hosts, h) }); err != nil {
		return nil, err
	}
	kept := hosts[:0]
	for i, h := range hosts {
		if !in.dropped[i] {
			kept = append(kept, h)
		}
	}
	clear(hosts[len(kept):])
	f := &Fleet{Summary: in.sum, Hosts: kept}
	return f, f.verdict(opts)
}

// A Scan is a fleet that was read once and not kept: what is wrong with it is known, and
// [Scan.Hosts] reads it again. It is for fleets that do not fit into memory; it costs about
// 200 bytes for each host.
type Scan struct {
	Summary
	sources []Source
	dropped map[int]bool
}

// NewScan reads every source once and judges it as [Load] does.
func NewScan(ctx context.Context, opts Options, sources ...Source) (*Scan, error) {
	in := newIntake(opts)
	if err := in.read(ctx, sources, func(Host) {}); err != nil {
		return nil, err
	}
	s := &Scan{Summary: in.sum, sources: sources, dropped: in.dropped}
	return s, s.verdict(opts)
}

// Hosts reads the sources again and yields the hosts that the scan found usable. An error is
// the last thing it yields; one says that a source is no longer what was scanned.
func (s *Scan) Hosts(ctx context.Context) iter.Seq2[Host, error] {
	return func(yield func(Host, error) bool) {
		var d digest
		n := 0
		for h, err := range all(ctx, s.sources) {
			if rowError(err) != nil {
				continue
			}
			if err != nil {
				yield(Host{}, err)
				return
			}
			d.add(&h)
			n++
			if !s.dropped[n-1] && !yield(h, nil) {
				return
			}
		}
		if d.String() != s.Digest {
			yield(Host{}, errors.New("the inventory changed while it was read; start again"))
		}
	}
}

// all yields what the sources yield, one after the other, and ends with the first error that
// is no row's.
func all(ctx context.Context, sources []Source) iter.Seq2[Host, error] {
	return func(yield func(Host, error) bool) {
		for _, src := range sources {
			for h, err := range src.Hosts(ctx) {
				if !yield(h, err) || err != nil && rowError(err) == nil {
					return
				}
			}
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
