// Package sourcetest holds the suite that every inventory.Source passes.
package sourcetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"unbrick/inventory"
)

// A Case is what the suite needs of a source. Each function returns a fresh Source.
type Case struct {
	// Good knows the hosts named in Names, at least three, in that order, and nothing bad.
	Good  func(t *testing.T) inventory.Source
	Names []string
	// Bad knows the hosts of Names too, and at least one row that cannot be used in front of
	// the last of them. Nil for sources without rows.
	Bad func(t *testing.T) inventory.Source
	// Broken fails before it has yielded everything.
	Broken func(t *testing.T) inventory.Source
}

// Run runs the suite. A failure quotes the sentence of the contract that was broken.
func Run(t *testing.T, c Case) {
	t.Run("yields every host", func(t *testing.T) { everyHost(t, c) })
	t.Run("may be read again", func(t *testing.T) {
		src := c.Good(t)
		for range 2 {
			if names, err := drain(context.Background(), src); err != nil || !slices.Equal(names, c.Names) {
				t.Fatalf("Hosts yields every host, each time it is called: got %q, error %v", names, err)
			}
		}
	})
	t.Run("stops when the consumer does", func(t *testing.T) {
		src := c.Good(t)
		n := 0
		for range src.Hosts(context.Background()) { // a source that goes on panics here
			if n++; n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("read %d hosts, want to stop at 2", n)
		}
	})
	t.Run("honours the context", func(t *testing.T) { honoursContext(t, c) })
	t.Run("a bad row does not end it", func(t *testing.T) { badRows(t, c) })
	t.Run("an error is the last thing", func(t *testing.T) { broken(t, c) })
}

func everyHost(t *testing.T, c Case) {
	var names []string
	for h, err := range c.Good(t).Hosts(context.Background()) {
		if err != nil {
			t.Fatalf("Hosts yields every host that the source knows: got error %v", err)
		}
		if h.Name == "" {
			t.Error("Only Name is always there: got a host without one")
		}
		if len(h.From) == 0 || h.From[0].Source == "" || h.From[0].Place == "" {
			t.Errorf("An Origin says where a host was read: %s has %+v", h.Name, h.From)
		}
		names = append(names, h.Name)
	}
	if !slices.Equal(names, c.Names) {
		t.Errorf("Hosts yields every host that the source knows: got %q, want %q", names, c.Names)
	}
}

func honoursContext(t *testing.T, c Case) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	names, err := drain(ctx, c.Good(t))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that is over: got %d hosts and error %v, want context.Canceled as the last thing", len(names), err)
	}
}

func badRows(t *testing.T, c Case) {
	if c.Bad == nil {
		t.Skip("the source has no rows")
	}
	var names []string
	bad := 0
	for h, err := range c.Bad(t).Hosts(context.Background()) {
		var row *inventory.RowError
		switch {
		case errors.As(err, &row):
			bad++
			if h.Name != "" || len(h.Routes) > 0 {
				t.Errorf("A *RowError beside a zero Host is one bad row: got it beside %+v", h)
			}
			if row.Place == "" || row.Reason == "" || row.Want == "" {
				t.Errorf("a row error says where, what is wrong and what would be right: %+v", row)
			}
		case err != nil:
			t.Fatalf("a bad row: the source goes on after it: got error %v", err)
		default:
			names = append(names, h.Name)
		}
	}
	if bad == 0 || !slices.Equal(names, c.Names) {
		t.Errorf("a bad row: the source goes on after it: got %d bad and hosts %q, want %q", bad, names, c.Names)
	}
}

func broken(t *testing.T, c Case) {
	var last error
	for _, err := range c.Broken(t).Hosts(context.Background()) {
		var row *inventory.RowError
		if last != nil {
			t.Fatalf("Any other error is the last thing it yields: %v came after %v", err, last)
		}
		if !errors.As(err, &row) {
			last = err
		}
	}
	if last == nil {
		t.Error("a source that cannot read everything says so: got no error")
	}
}

// drain reads src and returns the names of its hosts and the error that ended it.
func drain(ctx context.Context, src inventory.Source) (names []string, last error) {
	for h, err := range src.Hosts(ctx) {
		if last = err; err == nil {
			names = append(names, h.Name)
		}
	}
	return names, last
}
