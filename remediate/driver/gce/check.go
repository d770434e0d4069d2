package gce

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"unbrick/inventory"
	api "unbrick/inventory/source/gce"
	"unbrick/remediate/swap"
)

var _ swap.Checker = (*instance)(nil)

// grant says where a permission is given.
const grant = "by a role on the project or on what it names (gcloud projects add-iam-policy-binding); Compute Instance Admin (v1) has all of them"

// Check implements swap.Checker: by testIamPermissions of the instance, its disk and the helpers.
// What it cannot ask for, since Compute Engine's API does not tell: compute.snapshots.create,
// .setLabels and .get, which are the project's, and iam.serviceAccounts.actAs.
func (in *instance) Check(_ context.Context, snapshot bool) error {
	lacks, err := in.lacks(in.at.in("instances", in.now.Name), "instance "+in.now.Name, "compute.instances.get", "compute.instances.stop",
		"compute.instances.start", "compute.instances.attachDisk", "compute.instances.detachDisk", "compute.instances.setDiskAutoDelete")
	if err != nil {
		return err
	}
	if k := in.now.Boot(); k != nil && k.Source != "" {
		of := []string{"compute.disks.get", "compute.disks.use"}
		if snapshot {
			of = append(of, "compute.disks.createSnapshot")
		}
		more, err := in.lacks(api.Partial(k.Source), "disk "+api.Last(k.Source), of...)
		if err != nil {
			return err
		}
		lacks = append(lacks, more...)
	}
	for _, name := range in.opt.Helpers {
		found, err := in.find(name)
		if err != nil {
			return err
		}
		for _, h := range found {
			more, err := in.lacks(in.at.in("instances", h.Name), "helper "+h.Name, "compute.instances.attachDisk", "compute.instances.detachDisk")
			if err != nil {
				return err
			}
			lacks = append(lacks, more...)
		}
	}
	if _, err := in.busy(); api.Is(err, http.StatusForbidden) && !api.Throttled(err) { // it is asked for by being used
		lacks = append(lacks, "compute.zoneOperations.list on project "+in.at.project)
	} else if err != nil {
		return err
	}
	if len(lacks) == 0 {
		return nil
	}
	return &inventory.RightError{Right: strings.Join(lacks, "; "), Where: grant}
}

// lacks returns which permissions the account does not have on a resource, in one text if any.
func (in *instance) lacks(path, called string, permissions ...string) ([]string, error) {
	var has struct {
		Permissions []string `json:"permissions"`
	}
	err := in.client.Post(in.ctx, path+"/testIamPermissions", nil, map[string]any{"permissions": permissions}, &has)
	var said *api.Error
	if errors.As(err, &said) && said.Status == http.StatusForbidden && !api.Throttled(err) {
		return nil, &swap.UnaskedError{Right: "compute." + kindOf(path) + ".list", Err: err}
	}
	if err != nil {
		return nil, in.say("cannot ask what may be done to "+called, err)
	}
	missing := slices.DeleteFunc(permissions, func(p string) bool { return slices.Contains(has.Permissions, p) })
	if len(missing) == 0 {
		return nil, nil
	}
	return []string{strings.Join(missing, ", ") + " on " + called}, nil
}

func kindOf(path string) string {
	if strings.Contains(path, "/disks/") {
		return "disks"
	}
	return "instances"
}
