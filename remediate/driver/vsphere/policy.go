package vsphere

import (
	"context"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/pbm"
	pbmtypes "github.com/vmware/govmomi/pbm/types"
	"github.com/vmware/govmomi/vim25/types"
)

// policy returns the id of the storage policy of a disk, or nothing. A disk that is hung up
// without the policy that it had gets the default of its datastore, and nobody would notice.
func (in *instance) policy(ctx context.Context, d *types.VirtualDisk) (string, error) {
	if !in.IsVC() {
		return "", nil // an ESXi host alone has none
	}
	const what = "cannot ask for the storage policy of the disk"
	c, err := in.policies(ctx)
	if err != nil {
		return "", say(ctx, what, err)
	}
	ids, err := c.QueryAssociatedProfile(ctx, pbmtypes.PbmServerObjectRef{
		ObjectType: string(pbmtypes.PbmObjectTypeVirtualDiskId),
		Key:        fmt.Sprintf("%s:%d", in.ref.Value, d.Key), ServerUuid: strings.ToLower(in.ServiceContent.About.InstanceUuid),
	})
	if err != nil || len(ids) == 0 {
		return "", say(ctx, what, err)
	}
	return ids[0].UniqueId, nil
}

// policies returns what answers for storage policies: a service of its own beside vCenter's API,
// in the same session.
func (in *instance) policies(ctx context.Context) (*pbm.Client, error) {
	in.mu.Lock()
	known := in.site.pbm
	in.mu.Unlock()
	if known != nil {
		return known, nil
	}
	c, err := pbm.NewClient(ctx, in.Client)
	if err != nil {
		return nil, err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.site.pbm = c
	return c, nil
}
