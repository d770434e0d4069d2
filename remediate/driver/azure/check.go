package azure

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"

	"unbrick/inventory"
	source "unbrick/inventory/source/azure"
	"unbrick/remediate/swap"
)

var _ swap.Checker = (*instance)(nil)

// A need is actions at a scope.
type need struct {
	scope, name string // resource id, and for people
	actions     []string
}

// asking is the right to ask for the others.
const asking = "Microsoft.Authorization/permissions/read"

// Check implements swap.Checker: by the permissions at the machine, the resource group of its disk,
// its network cards and the helpers. What counts for the whole subscription shows when locks and
// helpers by tag are read.
func (in *instance) Check(ctx context.Context, snapshot bool) error {
	needs, err := in.needs(ctx, snapshot)
	if err != nil {
		return err
	}
	var lacks []string
	for _, n := range needs {
		has, err := in.client.Permissions(ctx, n.scope)
		if refused(err) {
			return &swap.UnaskedError{Right: asking + " on " + n.name, Err: source.Explain(err)}
		}
		if err != nil {
			return say(ctx, "cannot ask what may be done to "+n.name, err)
		}
		var some []string
		for _, a := range n.actions {
			if !has.Allow(a) {
				some = append(some, a)
			}
		}
		if len(some) > 0 {
			lacks = append(lacks, strings.Join(some, ", ")+" on "+n.name)
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return &inventory.RightError{Right: strings.Join(lacks, "; "), Where: "in the custom role of the account (az role definition update), assigned there or above"}
}

func refused(err error) bool {
	var r *source.Refusal
	return err != nil && errors.As(source.Explain(err), &r) && r.Status == http.StatusForbidden
}

// needs are what the package's comment lists.
func (in *instance) needs(ctx context.Context, snapshot bool) ([]need, error) {
	const vms, disks = "Microsoft.Compute/virtualMachines/", "Microsoft.Compute/disks/"
	all := []need{{in.at.ID(), "virtual machine " + in.at.Name, []string{vms + "read", vms + "write", vms + "deallocate/action", vms + "start/action"}}}
	if r, err := arm.ParseResourceID(osDisk(in.last)); err == nil {
		of := []string{disks + "read", disks + "write", disks + "delete", disks + "beginGetAccess/action"}
		if snapshot {
			of = append(of, "Microsoft.Compute/snapshots/read", "Microsoft.Compute/snapshots/write")
		}
		group := "/subscriptions/" + r.SubscriptionID + "/resourceGroups/" + r.ResourceGroupName
		all = append(all, need{group, "resource group " + r.ResourceGroupName, of})
	}
	if p := in.last.Properties.NetworkProfile; p != nil {
		for _, n := range p.NetworkInterfaces {
			id := val(n.ID)
			all = append(all, need{id, "network card " + id[strings.LastIndex(id, "/")+1:], []string{"Microsoft.Network/networkInterfaces/join/action"}})
		}
	}
	helpers, err := in.named(ctx)
	for _, a := range helpers {
		if !strings.EqualFold(a.Subscription, in.at.Subscription) {
			continue // it is passed over
		}
		if _, err := in.machine(ctx, a); errors.Is(err, errNoMachine) {
			continue // Helpers says it
		} else if err != nil && !refused(err) { // what is refused is a right that is missing
			return nil, err
		}
		all = append(all, need{a.ID(), "helper " + a.Name, []string{vms + "read", vms + "write", vms + "attachDetachDataDisks/action", disks + "read"}})
	}
	return all, err
}
