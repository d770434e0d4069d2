package ec2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestAddress(t *testing.T) {
	const id = "i-0123456789abcdef0"
	for text, want := range map[string]address{
		id:                                  {instance: id},
		"i-0a1b2c3d":                        {instance: "i-0a1b2c3d"},
		"ap-southeast-2/" + id:              {region: "ap-southeast-2", instance: id},
		"us-gov-west-1/" + id:               {region: "us-gov-west-1", instance: id},
		"eu-west-1/" + id + "?profile=prod": {region: "eu-west-1", instance: id, profile: "prod"},
		id + "?profile=my%20own":            {instance: id, profile: "my own"},
		"arn:aws-cn:ec2:cn-north-1:123456789012:instance/" + id: {region: "cn-north-1", instance: id},
	} {
		if a, err := parseAddress(text); err != nil || a != want {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
	}
	for _, text := range []string{"", "WS-1", "i-123", "i-0123456789ABCDEF0", "eu-west-1/", "Sydney/" + id, id + "?region=x", id + "?profile=", "a/b/" + id,
		"arn:aws:ec2:eu-west-1:1:volume/vol-1", "arn:aws:rds:eu-west-1:1:instance/" + id, "arn:aws:ec2::1:instance/" + id, "eu-west-1/../" + id} {
		if a, err := parseAddress(text); err == nil || a != (address{}) {
			t.Errorf("%q is an address: %+v, %v", text, a, err)
		}
	}
}

// FuzzAddress: what is taken names one instance, and means the same when it is written as the
// source writes it.
func FuzzAddress(f *testing.F) {
	for _, seed := range []string{"eu-west-1/i-0123456789abcdef0?profile=p", "arn:aws:ec2:eu-west-1:1:instance/i-0a1b2c3d", "i-0a1b2c3d", "%", "?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseAddress(text)
		if err != nil {
			return
		}
		again := a.instance
		if a.region != "" {
			again = a.region + "/" + again
		}
		if b, err := parseAddress(again); err != nil || b.instance != a.instance || b.region != a.region {
			t.Errorf("%q is %+v, and that is %+v, %v", text, a, b, err)
		}
	})
}

// counted is a fetch that is held up until it is let go.
type counted struct {
	mu      sync.Mutex
	calls   [][]string
	begun   chan struct{}
	proceed chan error
}

func (c *counted) fetch(ctx context.Context, keys []string) (map[string]int, error) {
	c.mu.Lock()
	c.calls = append(c.calls, keys)
	c.mu.Unlock()
	c.begun <- struct{}{}
	found := map[string]int{}
	for _, k := range keys {
		found[k] = len(k)
	}
	select {
	case err := <-c.proceed:
		return found, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Those who ask while a request is under way share the next one, as many as fit.
func TestBatch(t *testing.T) {
	c := &counted{begun: make(chan struct{}), proceed: make(chan error)}
	b := &batch[int]{fetch: c.fetch, most: 4}
	var all sync.WaitGroup
	ask := func(key string) {
		all.Go(func() {
			if v, ok, err := b.get(t.Context(), key); err != nil || !ok || v != len(key) {
				t.Errorf("%s: %d, %v, %v", key, v, ok, err)
			}
		})
	}
	ask("first")
	<-c.begun
	for n := range 6 {
		ask(fmt.Sprintf("key %d", n%5)) // one is asked for twice
	}
	b.waits(6)
	c.proceed <- nil
	for range 2 {
		<-c.begun
		c.proceed <- nil
	}
	all.Wait()
	if len(c.calls) != 3 || len(c.calls[1])+len(c.calls[2]) < 5 || slices.Contains(c.calls[1], "first") {
		t.Errorf("%q", c.calls)
	}
}

// waits returns when so many wait.
func (b *batch[T]) waits(n int) {
	for {
		b.mu.Lock()
		have := len(b.waiting)
		b.mu.Unlock()
		if have == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// An error is everybody's; who goes is not waited for, and a request that nobody waits for ends.
func TestBatchEnds(t *testing.T) {
	c := &counted{begun: make(chan struct{}), proceed: make(chan error)}
	b := &batch[int]{fetch: c.fetch, most: 4}
	wrong := errors.New("wrong")
	got := make(chan error, 2)
	get := func(ctx context.Context) { _, _, err := b.get(ctx, "a"); got <- err }
	go get(t.Context())
	<-c.begun
	c.proceed <- wrong
	if err := <-got; !errors.Is(err, wrong) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go get(ctx)
	<-c.begun
	go get(t.Context())
	b.waits(1)
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-c.begun // the request of the first ended, and the second has its own
	c.proceed <- nil
	if err := <-got; err != nil {
		t.Error(err)
	}
}
