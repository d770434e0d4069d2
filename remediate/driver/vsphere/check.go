package vsphere

import (
	"context"
	"errors"
	"strings"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/inventory"
	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

var _ swap.Checker = (*instance)(nil)

// Check implements swap.Checker: for [Privileges], each on the object that vSphere asks for it.
func (in *instance) Check(ctx context.Context, snapshot bool) error {
	return in.granted(ctx, Privileges(snapshot), true)
}

// Check looks whether the rescue image could be booted on a machine, and changes nothing: for
// [ISOPrivileges], and for what Observe refuses. No helper is needed.
func (d *ISO) Check(ctx context.Context, t remediate.Target) (c swap.Checkup) {
	v, err := d.visit(ctx, t)
	if err != nil {
		return swap.Checkup{Platform: err}
	}
	c.Rights = v.granted(ctx, ISOPrivileges(), false)
	c.Refused = v.look(ctx)
	return c
}

// granted makes sure that the account has the privileges where vSphere asks for them: on the
// machine, on the helpers, and on what the machine is in and its files are on.
func (in *instance) granted(ctx context.Context, privileges []string, helping bool) error {
	var vm mo.VirtualMachine
	all, err := source.Collect(ctx, in.Client, types.PropertyFilterSpec{ObjectSet: []types.ObjectSpec{{Obj: in.ref}},
		PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name", "datastore", "parent", "resourcePool"}}}})
	if err == nil {
		err = mo.LoadObjectContent(all, &vm)
	}
	if err != nil {
		return say(ctx, "cannot read virtual machine "+in.ref.Value, err)
	}
	needs := []source.Need{{On: in.ref, Name: "virtual machine " + vm.Name, Privileges: below(privileges, "VirtualMachine.", "VirtualMachine.Inventory.")}}
	for _, ds := range vm.Datastore {
		needs = append(needs, source.Need{On: ds, Name: "datastore " + ds.Value, Privileges: below(privileges, "Datastore.", "")})
	}
	if in.IsVC() { // an ESXi host alone has no storage policies
		needs = append(needs, source.Need{On: in.ServiceContent.RootFolder, Name: "the vCenter itself", Privileges: below(privileges, "StorageProfile.", "")})
	}
	if vm.Parent != nil {
		needs = append(needs, source.Need{On: *vm.Parent, Name: "its folder", Privileges: below(privileges, "VirtualMachine.Inventory.", "")})
	}
	if vm.ResourcePool != nil {
		needs = append(needs, source.Need{On: *vm.ResourcePool, Name: "its resource pool", Privileges: below(privileges, "Resource.", "")})
	}
	if helping {
		helpers, err := in.helpersOf(ctx, in, soon)
		if err != nil {
			return err
		}
		for _, h := range helpers {
			needs = append(needs, source.Need{On: h.ref, Name: "helper " + h.name, Privileges: below(privileges, "VirtualMachine.Config.", "")})
		}
	}
	err = in.conn.Granted(ctx, asked(needs)...)
	var lacks *inventory.RightError
	if errors.As(err, &lacks) {
		return err
	}
	return say(ctx, "cannot check what may be done to virtual machine "+vm.Name, err)
}

// below returns the privileges with a prefix, but for those with another.
func below(all []string, prefix, not string) (some []string) {
	for _, p := range all {
		if strings.HasPrefix(p, prefix) && (not == "" || !strings.HasPrefix(p, not)) {
			some = append(some, p)
		}
	}
	return some
}

// asked leaves out needs of nothing.
func asked(all []source.Need) (some []source.Need) {
	for _, n := range all {
		if len(n.Privileges) > 0 {
			some = append(some, n)
		}
	}
	return some
}
