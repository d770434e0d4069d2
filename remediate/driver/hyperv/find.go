package hyperv

import (
	"context"
	"fmt"

	"unbrick/remediate/swap"
)

var _ swap.SnapshotFinder = (*instance)(nil)

// HasSnapshot implements swap.SnapshotFinder.
func (in *instance) HasSnapshot(ctx context.Context, e swap.Entry) (bool, error) {
	s, err := in.read(ctx, copyOf(e))
	if err != nil {
		return false, err
	}
	if s.Detail == nil {
		return false, fmt.Errorf("hypervisor %s does not say whether the copy of %s is there", in.at.host, in.at.vm)
	}
	return s.Detail.Copy, nil
}
