package ec2

import (
	"context"

	"unbrick/remediate/swap"
)

var _ swap.SnapshotFinder = (*instance)(nil)

// HasSnapshot implements swap.SnapshotFinder. An account that does not see the instance is not
// the one that the snapshot is of.
func (in *instance) HasSnapshot(ctx context.Context, e swap.Entry) (bool, error) {
	if has, err := in.hasSnapshot(ctx, e); has || err != nil {
		return has, err
	}
	return false, in.read(ctx)
}
