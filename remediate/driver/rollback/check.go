package rollback

import (
	"context"
	"errors"
	"fmt"

	"unbrick/inventory"
	api "unbrick/inventory/source/proxmox"
	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Check looks whether a machine could go back, and changes nothing. There are no helpers.
func (d *Driver) Check(ctx context.Context, t remediate.Target) (c swap.Checkup) {
	if c.Refused = d.allowed(t.Host); c.Refused != nil {
		return c
	}
	v, err := d.visit(ctx, t)
	if err != nil {
		return swap.Checkup{Platform: err}
	}
	defer v.Close()
	if asked, ok := v.Machine.(swap.Checker); ok {
		err := asked.Check(ctx, true)
		var lacks *inventory.RightError
		var unasked *swap.UnaskedError
		if err != nil && !errors.As(err, &lacks) && !errors.As(err, &unasked) {
			return swap.Checkup{Platform: err}
		}
		c.Rights = err
	}
	if v.entry.Number == 0 {
		_, c.Refused = d.ready(ctx, v)
	}
	return c
}

// Check implements swap.Checker: for [VSpherePrivileges].
func (m *virtual) Check(ctx context.Context, _ bool) error {
	return m.conn.Granted(ctx, source.Need{On: m.ref, Name: "virtual machine " + m.ref.Value, Privileges: VSpherePrivileges()})
}

// Check implements swap.Checker.
func (m *qemu) Check(ctx context.Context, _ bool) error {
	return m.Granted(ctx, api.Need{Path: fmt.Sprintf("/vms/%d", m.row.VMID), Privileges: []string{"VM.Audit", "VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback"}})
}
