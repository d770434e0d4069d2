package proxmox

import (
	"context"
	"fmt"
	"strings"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate/swap"
)

var _ swap.Checker = (*instance)(nil)

// Check implements swap.Checker: for the privileges that the package's comment lists.
func (in *instance) Check(ctx context.Context, snapshot bool) error {
	own := []string{"VM.Audit", "VM.PowerMgmt", "VM.Config.Disk"}
	if snapshot {
		own = append(own, "VM.Snapshot")
	}
	needs := []api.Need{{Path: fmt.Sprintf("/vms/%d", in.row.VMID), Privileges: own}}
	for _, h := range in.helpers() {
		needs = append(needs, api.Need{Path: fmt.Sprintf("/vms/%d", h.VMID), Privileges: []string{"VM.Audit", "VM.Config.Disk"}})
	}
	g, err := in.read(ctx, in.row)
	if err != nil {
		return err
	}
	if d, err := g.system(in.at.disk); err == nil { // Describe says it else
		if storage, _, ok := strings.Cut(d.volume, ":"); ok {
			needs = append(needs, api.Need{Path: "/storage/" + storage, Privileges: []string{"Datastore.Audit"}})
		}
	}
	return in.Granted(ctx, needs...)
}
