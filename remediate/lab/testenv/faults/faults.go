// Package faults keeps the orders to fail that a test gives to the fake of a peer.
package faults

import (
	"slices"
	"sync"
)

// A Book holds the orders of a fake whose faults are of type F. The zero Book is empty. It is
// safe for concurrent use.
type Book[F any] struct {
	mu     sync.Mutex
	orders []order[F]
}

type order[F any] struct {
	fault       F
	skip, count int
}

// Order adds a fault that skip requests pass by and that then hits count of them; 0 means 1,
// below 0 all from then on.
func (b *Book[F]) Order(f F, skip, count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = append(b.orders, order[F]{f, skip, count})
}

// Heal takes back every order.
func (b *Book[F]) Heal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = nil
}

// Pending returns the faults that have not happened, or not often enough.
func (b *Book[F]) Pending() (all []F) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.orders {
		all = append(all, o.fault)
	}
	return all
}

// Meet returns the fault that a request meets: the first in the order in which they were added
// that fits, one at most.
func (b *Book[F]) Meet(fits func(F) bool) (f F, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.orders {
		o := &b.orders[i]
		if !fits(o.fault) {
			continue
		}
		if o.skip > 0 {
			o.skip--
			continue
		}
		f = o.fault
		switch {
		case o.count < 0:
		case o.count <= 1:
			b.orders = slices.Delete(b.orders, i, i+1)
		default:
			o.count--
		}
		return f, true
	}
	return f, false
}
