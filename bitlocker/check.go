package bitlocker

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Holding is what the escrows say of the keys of one host, without showing any.
type Holding struct {
	Host    string   `json:"host"`
	Entries []Entry  `json:"entries,omitempty"`
	Unknown []string `json:"unknown,omitempty"` // escrows that could not say, and why
}

// OnRecord says whether there is a key that is not known to be unusable.
func (h Holding) OnRecord() bool {
	for _, e := range h.Entries {
		if e.Valid || e.Reason == "" {
			return true
		}
	}
	return false
}

// Has says whether a key of the host is on record. It reads no key and writes no ledger. An
// error means that it is not known: no escrow named one, and some could not say.
func (b *Broker) Has(ctx context.Context, host string) (bool, error) {
	all, err := b.Check(ctx, []string{host})
	if err != nil {
		return false, err
	}
	h := all[0]
	if h.OnRecord() || len(h.Unknown) == 0 {
		return h.OnRecord(), nil
	}
	var why []error
	for _, u := range h.Unknown {
		why = append(why, errors.New(u))
	}
	return false, fmt.Errorf("not known whether there is a key of host %s: %w", host, errors.Join(why...))
}

// Check returns what the escrows say of the keys of each host, in the order of hosts. It reads
// no key and writes no ledger. It fails only when ctx ends: an escrow that cannot be asked is
// in the Unknown of every host.
func (b *Broker) Check(ctx context.Context, hosts []string) ([]Holding, error) {
	all := make([]Holding, len(hosts))
	byHost := make(map[string][]int, len(hosts))
	for i, h := range hosts {
		all[i].Host = h
		byHost[FoldHost(h)] = append(byHost[FoldHost(h)], i)
	}
	unknown := func(s Source, why string) {
		for i := range all {
			all[i].Unknown = append(all[i].Unknown, name(s)+": "+why)
		}
	}
	if len(b.Sources) == 0 {
		return nil, errors.New("cannot look for keys: no escrow is configured")
	}
	lists := b.indexAll(ctx, hosts)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("cannot look for keys: %w", context.Cause(ctx))
	}
	for n, s := range b.Sources {
		entries, err := lists[n].entries, lists[n].err
		if err != nil {
			unknown(s, err.Error())
			continue
		}
		homeless := 0
		for _, e := range entries {
			if e.Host == "" {
				homeless++
				continue
			}
			for _, i := range byHost[FoldHost(e.Host)] {
				all[i].Entries = append(all[i].Entries, e)
			}
		}
		if homeless > 0 {
			unknown(s, fmt.Sprintf("has %d keys under no host name", homeless))
		}
	}
	return all, nil
}

type list struct {
	entries []Entry
	err     error
}

// indexAll asks all escrows at once: each may take minutes to list a large fleet.
func (b *Broker) indexAll(ctx context.Context, hosts []string) []list {
	lists := make([]list, len(b.Sources))
	var wg sync.WaitGroup
	for i, s := range b.Sources {
		wg.Go(func() { lists[i].entries, lists[i].err = index(ctx, s, hosts) })
	}
	wg.Wait()
	return lists
}

// index lists what an escrow has: one question for one host, one question for all of many.
func index(ctx context.Context, s Source, hosts []string) ([]Entry, error) {
	x, ok := s.(Indexer)
	switch {
	case !ok:
		return nil, errors.New("cannot list what it has")
	case len(hosts) == 1:
		return x.Index(ctx, hosts[0])
	}
	return x.Index(ctx, "")
}
