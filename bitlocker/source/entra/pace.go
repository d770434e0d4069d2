package entra

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A pace spaces requests: the rate goes up a little with each success and is halved when Graph
// says that it is too much.
type pace struct {
	mu     sync.Mutex
	rate   float64 // requests per second
	most   float64
	next   time.Time // before which nothing is sent
	halved time.Time // of the requests in flight, only the first refusal counts
}

const (
	least    = 0.5             // requests per second
	gain     = 0.05            // per success
	pauseMin = 2 * time.Second // where Graph does not say how long to wait
)

func newPace(start, most float64) pace {
	return pace{rate: min(max(start, least), most), most: max(most, least)}
}

// wait returns when the next request may go. It fails at once where ctx would end before.
func (p *pace) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		now := time.Now()
		if !now.Before(p.next) {
			p.next = now.Add(time.Duration(float64(time.Second) / p.rate))
			p.mu.Unlock()
			return ctx.Err()
		}
		until := p.next
		p.mu.Unlock()
		if end, ok := ctx.Deadline(); ok && end.Before(until) {
			return fmt.Errorf("Graph allows the next request only in %s: %w", until.Sub(now).Round(time.Second), context.DeadlineExceeded)
		}
		timer := time.NewTimer(until.Sub(now))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (p *pace) faster() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = min(p.rate+gain, p.most)
}

// slower halves the rate and sends nothing for a while.
func (p *pace) slower(after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if after == 0 {
		after = pauseMin
	}
	if until := now.Add(after); until.After(p.next) {
		p.next = until
	}
	if now.After(p.halved) {
		p.rate, p.halved = max(p.rate/2, least), p.next
	}
}
