package ec2

import (
	"context"
	"sync"
	"sync/atomic"
)

// A batch makes one request of what many ask for at once: those who ask while a request is under
// way share the next. One who asks alone waits for nobody. So the calls for a thousand hosts do
// not grow with their number, and no answer is older than its question.
type batch[T any] struct {
	fetch func(ctx context.Context, keys []string) (map[string]T, error)
	most  int // keys in one request

	mu      sync.Mutex
	busy    bool
	waiting []*ask[T]
}

// An ask is one question, and its answer once done is closed.
type ask[T any] struct {
	ctx   context.Context
	key   string
	done  chan struct{}
	value T
	ok    bool
	err   error
}

// get returns what there is of a key; ok is false if there is nothing.
func (b *batch[T]) get(ctx context.Context, key string) (value T, ok bool, err error) {
	a := &ask[T]{ctx: ctx, key: key, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, a)
	if !b.busy {
		b.busy = true
		go b.run()
	}
	b.mu.Unlock()
	select {
	case <-a.done:
		return a.value, a.ok, a.err
	case <-ctx.Done():
		return value, false, context.Cause(ctx)
	}
}

// run makes requests until nobody waits.
func (b *batch[T]) run() {
	for {
		asks := b.next()
		if len(asks) == 0 {
			return
		}
		b.answer(asks)
	}
}

// next takes those who wait, as many as one request serves. With none, the batch rests.
func (b *batch[T]) next() (asks []*ask[T]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > 0 && len(asks) < b.most {
		if a := b.waiting[0]; a.ctx.Err() == nil {
			asks = append(asks, a)
		}
		b.waiting = b.waiting[1:]
	}
	b.busy = len(asks) > 0
	return asks
}

// answer makes one request. It ends early when the last who asked is gone.
func (b *batch[T]) answer(asks []*ask[T]) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(asks[0].ctx))
	defer cancel()
	var left atomic.Int64
	left.Store(int64(len(asks)))
	var keys []string
	known := map[string]bool{}
	for _, a := range asks {
		stop := context.AfterFunc(a.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
		defer stop()
		if !known[a.key] {
			known[a.key], keys = true, append(keys, a.key)
		}
	}
	values, err := b.fetch(ctx, keys)
	for _, a := range asks {
		a.value, a.ok = values[a.key]
		a.err = err
		close(a.done)
	}
}
