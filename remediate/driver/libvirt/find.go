package libvirt

import (
	"context"

	"unbrick/remediate/swap"
)

var _ swap.SnapshotFinder = (*instance)(nil)

// HasSnapshot implements swap.SnapshotFinder.
func (in *instance) HasSnapshot(_ context.Context, e swap.Entry) (bool, error) {
	return in.hasSnapshot(e.Mark)
}
