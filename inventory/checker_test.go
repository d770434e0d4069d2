package inventory_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"strings"
	"testing"

	"unbrick/inventory"
)

// A reading is a source that only reads, and counts what is taken of it.
type reading struct {
	rows  []error // nil is a host
	taken *int
}

func (r reading) Hosts(context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for _, err := range r.rows {
			*r.taken++
			h := inventory.Host{}
			if err == nil {
				h.Name = "PC1"
			}
			if !yield(h, err) {
				return
			}
		}
	}
}

func TestCheckReads(t *testing.T) {
	n := 0
	bad := &inventory.RowError{Place: "fleet.csv", Line: 2}
	if err := inventory.Check(t.Context(), reading{[]error{bad, nil, nil, nil}, &n}); err != nil || n != 2 {
		t.Errorf("a source with a host: %v after %d rows, want 2", err, n)
	}
	if err := inventory.Check(t.Context(), reading{[]error{bad}, &n}); err == nil || !strings.Contains(err.Error(), "no hosts") {
		t.Errorf("a source without hosts: %v", err)
	}
	broken := errors.New("broken")
	if err := inventory.Check(t.Context(), reading{[]error{broken}, &n}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	denied := &fs.PathError{Op: "open", Path: "/srv/fleet.csv", Err: fs.ErrPermission}
	var right *inventory.RightError
	if err := inventory.Check(t.Context(), reading{[]error{denied}, &n}); !errors.As(err, &right) || !strings.Contains(right.Right, "/srv/fleet.csv") || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file that may not be read: %v", err)
	}
}
