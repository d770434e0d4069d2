package vsphere

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate/swap"
)

var _ swap.SnapshotFinder = (*instance)(nil)

// HasSnapshot implements swap.SnapshotFinder. The copy is looked for among all machines, by its
// name and by what was noted on it: host and copy may have been moved since, and renamed.
func (in *instance) HasSnapshot(ctx context.Context, e swap.Entry) (bool, error) {
	all, err := in.labels(ctx, in)
	return slices.ContainsFunc(all, func(label string) bool { return strings.Contains(label, e.Mark) }), err
}

// labels are the names and notes of all machines of the server. They are read once a minute.
func (s *site) labels(ctx context.Context, in *instance) ([]string, error) {
	s.mu.Lock()
	known, read := s.known, s.knownAt
	s.mu.Unlock()
	if time.Since(read) < time.Minute {
		return known, nil
	}
	objects, err := source.Collect(ctx, in.Client, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{source.Below(in.ServiceContent.RootFolder)},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name", "summary.config.annotation"}}},
	})
	if err != nil {
		return nil, say(ctx, "cannot list the virtual machines", err)
	}
	known = nil
	for _, o := range objects {
		var vm mo.VirtualMachine
		if err := mo.LoadObjectContent([]types.ObjectContent{o}, &vm); err != nil {
			return nil, say(ctx, "cannot read "+o.Obj.Value, err)
		}
		known = append(known, vm.Name+" "+vm.Summary.Config.Annotation)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.knownAt = known, time.Now()
	return known, nil
}
