package bitlocker

import (
	"context"
	"fmt"
	"time"
)

// An answer is what one escrow said.
type answer struct {
	key Key
	err error
}

// A silentError is the answer of an escrow that gave none in time.
type silentError time.Duration

func (e silentError) Error() string {
	return fmt.Sprintf("it gave no answer within %s", time.Duration(e))
}

// ask puts the question to every escrow at once and returns their answers in the order of
// Sources. It returns when all have answered, when Wait or Grace is over, or with ctx, even if
// an escrow does not heed its context.
func (b *Broker) ask(ctx context.Context, q Query) []answer {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type numbered struct {
		answer
		i int
	}
	heard := make(chan numbered, len(b.Sources))
	for i, s := range b.Sources {
		go func() {
			key, err := s.Lookup(ctx, q)
			heard <- numbered{answer{key, err}, i}
		}()
	}
	wait, grace := orDefault(b.Wait, defaultWait), orDefault(b.Grace, defaultGrace)
	answers := make([]answer, len(b.Sources))
	for i := range answers {
		answers[i].err = silentError(wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	found := false
	for range b.Sources {
		select {
		case n := <-heard:
			answers[n.i] = n.answer
			if n.err == nil && !n.key.IsZero() && !found {
				found = true
				timer.Reset(min(grace, wait))
			}
		case <-timer.C:
			return answers
		case <-ctx.Done():
			return answers
		}
	}
	return answers
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
