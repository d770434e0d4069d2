package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/swap"
)

// A finder says whether the snapshot of an entry is there.
type finder func(ctx context.Context, e swap.Entry) (bool, error)

// finders returns the finder of a way in. Where the configuration does not fit, each says so.
func (k *kit) finders() func(way string) finder {
	p, err := k.listPlatforms(k.store)
	return func(way string) finder {
		return func(ctx context.Context, e swap.Entry) (bool, error) {
			onto, swaps := p.swaps[way]
			back, rolls := p.rollbacks[way]
			switch {
			case err != nil:
				return false, err
			case swaps:
				return swap.HasSnapshot(ctx, onto, e)
			case rolls:
				return rollback.HasSnapshot(ctx, back, e)
			}
			return false, fmt.Errorf("this program knows no way in %q", way)
		}
	}
}

// How platforms are asked.
const (
	askedAtOnce = 8
	askedFor    = 30 * time.Second
)

// An asking asks platforms whether snapshots are there.
type asking struct {
	finders func(way string) finder
	forget  func(context.Context, swap.Entry) error
	// patience is how long one place may be asked in vain, in all. What is left of it is not asked
	// then: a hypervisor that is down would take its time for each.
	patience time.Duration

	mu   sync.Mutex
	vain map[string]time.Duration // by place
	why  map[string]error         // why, at last
}

// ask leaves out the snapshots that are gone, and notes that of those whose swap has ended. An
// error is the journal's, or that the context has ended; what was noted stays.
func (a *asking) ask(ctx context.Context, left []leftover) ([]leftover, error) {
	a.vain, a.why = map[string]time.Duration{}, map[string]error{}
	gone, errs := make([]bool, len(left)), make([]error, len(left))
	var wg sync.WaitGroup
	turns := make(chan struct{}, askedAtOnce)
	for i := range left {
		if left[i].What != "snapshot" {
			continue
		}
		turns <- struct{}{}
		wg.Go(func() {
			defer func() { <-turns }()
			has, err := a.one(ctx, left[i].entry)
			switch {
			case err != nil:
				left[i].Unasked = oneLine(err.Error())
			case !has:
				gone[i] = true
				if left[i].entry.Ended {
					errs[i] = a.forget(ctx, left[i].entry)
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	there := []leftover{}
	for i, l := range left {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if !gone[i] {
			there = append(there, l)
		}
	}
	return there, nil
}

func (a *asking) one(ctx context.Context, e swap.Entry) (bool, error) {
	at := place(e)
	a.mu.Lock()
	lost, why := a.vain[at], a.why[at]
	a.mu.Unlock()
	if why != nil && lost >= a.patience {
		return false, why
	}
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	began := time.Now()
	has, err := a.finders(e.Way)(ctx, e)
	if err != nil {
		a.mu.Lock()
		a.vain[at], a.why[at] = a.vain[at]+time.Since(began), err
		a.mu.Unlock()
	}
	return has, err
}

// place is where an instance is, as far as its address says: a region, a server, a hypervisor.
func place(e swap.Entry) string {
	at := e.Address
	if i := strings.LastIndexByte(at, '/'); i >= 0 {
		at = at[:i]
	}
	return strings.TrimSpace(e.Way + " " + at)
}

// unasked says, a line for each place, why it was not asked.
func unasked(left []leftover) (lines []string) {
	count := map[string]int{}
	var places []string
	why := map[string]string{}
	for _, l := range left {
		if l.Unasked == "" {
			continue
		}
		at := place(l.entry)
		if count[at]++; count[at] == 1 {
			places, why[at] = append(places, at), l.Unasked
		}
	}
	slices.Sort(places)
	for _, at := range places {
		lines = append(lines, fmt.Sprintf("%s: it is not known which of %d snapshots are still there: %s", at, count[at], why[at]))
	}
	return lines
}
