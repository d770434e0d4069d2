package vsphere

import (
	"context"
	"fmt"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// ofSession says whether a request makes or ends a session.
func ofSession(req any) bool {
	switch req.(type) {
	case *methods.LoginBody, *methods.LogoutBody, *methods.RetrieveServiceContentBody:
		return true
	}
	return false
}

// page is how many objects one answer brings.
const page = 500

// Collect reads properties, to the last page. What went in between is left out.
func Collect(ctx context.Context, c *vim25.Client, spec types.PropertyFilterSpec) ([]types.ObjectContent, error) {
	return collect(ctx, c, spec, page)
}

func collect(ctx context.Context, c *vim25.Client, spec types.PropertyFilterSpec, page int) ([]types.ObjectContent, error) {
	spec.ReportMissingObjectsInResults = types.NewBool(true)
	res, err := methods.RetrievePropertiesEx(ctx, c, &types.RetrievePropertiesEx{
		This:    c.ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{spec},
		Options: types.RetrieveOptions{MaxObjects: int32(page)},
	})
	if err != nil || res.Returnval == nil {
		return nil, err
	}
	all, token := res.Returnval.Objects, res.Returnval.Token
	for token != "" {
		res, err := methods.ContinueRetrievePropertiesEx(ctx, c, &types.ContinueRetrievePropertiesEx{
			This: c.ServiceContent.PropertyCollector, Token: token})
		if err != nil {
			return nil, err
		}
		all, token = append(all, res.Returnval.Objects...), res.Returnval.Token
	}
	return all, nil
}

// Below returns what leads from a folder, data center, cluster, host, pool or vApp to the
// virtual machines in it, and past the folders, data centers, clusters and hosts on the way.
// What lies below a pool or a host leads no further: vcsim goes in circles otherwise.
func Below(root types.ManagedObjectReference) types.ObjectSpec {
	down := []string{"Folder.childEntity", "Datacenter.vmFolder", "Datacenter.hostFolder", "ComputeResource.host", "ComputeResource.resourcePool", "ResourcePool.vm"}
	pool := []string{"ResourcePool.resourcePool", "ResourcePool.vm"}
	paths := []struct {
		kind, path string
		then       []string
	}{
		{"Folder", "childEntity", down}, {"Datacenter", "vmFolder", down}, {"Datacenter", "hostFolder", down},
		{"ComputeResource", "resourcePool", pool}, {"ComputeResource", "host", []string{"HostSystem.vm"}}, {"HostSystem", "vm", nil},
		{"ResourcePool", "resourcePool", pool}, {"ResourcePool", "vm", nil},
	}
	spec := types.ObjectSpec{Obj: root}
	for _, p := range paths {
		t := &types.TraversalSpec{SelectionSpec: types.SelectionSpec{Name: p.kind + "." + p.path}, Type: p.kind, Path: p.path}
		for _, name := range p.then {
			t.SelectSet = append(t.SelectSet, &types.SelectionSpec{Name: name})
		}
		spec.SelectSet = append(spec.SelectSet, t)
	}
	return spec
}

// Find returns what an inventory path leads to: /DC1/vm/Finance, /DC1/host/Cluster1.
func Find(ctx context.Context, c *vim25.Client, path string) (types.ManagedObjectReference, error) {
	res, err := methods.FindByInventoryPath(ctx, c, &types.FindByInventoryPath{This: *c.ServiceContent.SearchIndex, InventoryPath: path})
	if err != nil {
		return types.ManagedObjectReference{}, fmt.Errorf("cannot look for %s: %w", path, err)
	}
	if res.Returnval == nil {
		return types.ManagedObjectReference{}, fmt.Errorf("there is no %s, or the account does not see it\npaths are those of govc find: /DATACENTER/vm/FOLDER, /DATACENTER/host/CLUSTER", path)
	}
	return *res.Returnval, nil
}
