package azure

import (
	"context"

	"unbrick/remediate/swap"
)

var _ swap.SnapshotFinder = (*instance)(nil)

// HasSnapshot implements swap.SnapshotFinder. One of that name that is not ours is none.
func (in *instance) HasSnapshot(ctx context.Context, e swap.Entry) (bool, error) {
	r, err := inGroupOf(e.Slot.Volume, "snapshots", e.Mark)
	if err != nil {
		return false, err
	}
	got, err := in.snapshots.Get(ctx, r.ResourceGroupName, r.Name, nil)
	if missing(err) {
		return false, nil
	}
	return err == nil && val(got.Tags[tag]) == e.Mark, say(ctx, "cannot look for snapshot "+r.Name, err)
}
