package rotation

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"unbrick/bitlocker"
)

// fewHosts is how many hosts are asked for one by one; for more, an escrow lists all it has.
const fewHosts = 10

// A listing is what one escrow says that it has.
type listing struct {
	source  bitlocker.Source
	name    string
	err     error
	entries map[string][]bitlocker.Entry // by folded host
	failed  map[string]error
}

// of returns the entries of a host.
func (l *listing) of(host string) ([]bitlocker.Entry, error) {
	if l.err != nil {
		return nil, l.err
	}
	h := bitlocker.FoldHost(host)
	return l.entries[h], l.failed[h]
}

// list asks all escrows at once. It fails only when ctx ends.
func list(ctx context.Context, escrows []bitlocker.Source, hosts map[string]bool) ([]*listing, error) {
	all := make([]*listing, len(escrows))
	var wg sync.WaitGroup
	for i, s := range escrows {
		all[i] = &listing{source: s, name: name(s), entries: map[string][]bitlocker.Entry{}, failed: map[string]error{}}
		wg.Go(func() { all[i].fill(ctx, hosts) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("cannot look for new protectors: %w", context.Cause(ctx))
	}
	return all, nil
}

func (l *listing) fill(ctx context.Context, hosts map[string]bool) {
	x, ok := l.source.(bitlocker.Indexer)
	if !ok {
		l.err = errors.New("cannot list what it has")
		return
	}
	if len(hosts) > fewHosts {
		var entries []bitlocker.Entry
		entries, l.err = x.Index(ctx, "")
		l.file(entries)
		return
	}
	for h := range hosts {
		entries, err := x.Index(ctx, h)
		if err != nil {
			l.failed[h] = err
			continue
		}
		l.file(entries)
	}
}

func (l *listing) file(entries []bitlocker.Entry) {
	for _, e := range entries {
		if e.Host != "" && !e.ID.IsZero() {
			h := bitlocker.FoldHost(e.Host)
			l.entries[h] = append(l.entries[h], e)
		}
	}
}

// name says which escrow s is, as the ledger does.
func name(s bitlocker.Source) string {
	if n, ok := s.(fmt.Stringer); ok {
		return n.String()
	}
	return fmt.Sprintf("%T", s)
}
