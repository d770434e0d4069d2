package swaptest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Each does hosts 0 to n-1, so many at once. One that goes ill fails the test.
func Each(t testing.TB, n, atOnce int, do func(host int) error) {
	t.Helper()
	var all sync.WaitGroup
	jobs := make(chan int, n)
	for host := range n {
		jobs <- host
	}
	close(jobs)
	for range atOnce {
		all.Go(func() {
			for host := range jobs {
				if err := do(host); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// Through takes one host there and back by the driver, as the engine calls it. What may pass is
// asked again after pause.
func Through(ctx context.Context, d *swap.Driver, t remediate.Target, pause time.Duration) error {
	var before remediate.Posture
	for _, stage := range []func() error{
		func() (err error) { before, err = d.Observe(ctx, t); return err },
		func() error { return d.Enter(ctx, t, remediate.Image{}) },
		func() error { return d.Leave(ctx, t, before) },
	} {
		for {
			err := stage()
			var retry *remediate.RetryError
			if err == nil {
				break
			}
			if !errors.As(err, &retry) {
				return err
			}
			time.Sleep(pause)
		}
	}
	return nil
}
