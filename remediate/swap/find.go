package swap

import (
	"context"
	"fmt"

	"unbrick/inventory"
	"unbrick/remediate"
)

// A SnapshotFinder is an Instance on whose platform can be asked for a snapshot. Optional.
type SnapshotFinder interface {
	// HasSnapshot says whether the snapshot of an entry is there, or is being made or removed. That
	// it is not is said only where the account would see it.
	HasSnapshot(ctx context.Context, e Entry) (bool, error)
}

// HasSnapshot asks a platform whether the snapshot of an entry is there, and changes nothing. It
// is not asked where the instance is not found, or another has its address now: who sees no
// instance may see no snapshot of it either.
func HasSnapshot(ctx context.Context, p Platform, e Entry) (has bool, err error) {
	in, err := p.Reach(ctx, remediate.Target{Run: e.Run, Host: inventory.Host{Name: e.Host}, Route: inventory.Route{Driver: e.Way, Address: e.Address}})
	if err != nil {
		return false, err
	}
	defer in.Close()
	f, ok := in.(SnapshotFinder)
	switch {
	case !ok:
		return false, fmt.Errorf("nobody can ask %s for snapshots", e.Way)
	case in.ID() != e.Instance:
		return false, fmt.Errorf("%s is the address of another instance now (%s, and was %s)", e.Address, in.ID(), e.Instance)
	}
	return f.HasSnapshot(ctx, e)
}
