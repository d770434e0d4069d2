package azure

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	source "unbrick/inventory/source/azure"
	"unbrick/remediate/swap"
)

const tagPrefix = "tag:"

// helperAt is the address of a helper for a host. Its error means that no machine of Azure can be
// called so: the list may have the helpers of other platforms too.
func helperAt(h string, host source.Address) (source.Address, error) {
	switch strings.Count(strings.Trim(h, "/"), "/") {
	case 0:
		h = host.Subscription + "/" + host.Group + "/" + h
	case 1:
		h = host.Subscription + "/" + h
	}
	return source.ParseAddress(h)
}

// serves says whether a machine is a helper.
func (in *instance) serves(a source.Address, vm *armcompute.VirtualMachine) bool {
	for _, h := range in.helpers {
		if tag, ok := strings.CutPrefix(h, tagPrefix); ok {
			name, value, valued := strings.Cut(tag, "=")
			if source.HasTag(vm.Tags, name, value, valued) {
				return true
			}
		} else if at, err := helperAt(h, in.at); err == nil && at.String() == a.String() {
			return true
		}
	}
	return false
}

// named returns the addresses of the helpers, in order and each once.
func (in *instance) named(ctx context.Context) (all []source.Address, err error) {
	seen := map[string]bool{in.at.String(): true}
	add := func(a source.Address) {
		if !seen[a.String()] {
			seen[a.String()] = true
			all = append(all, a)
		}
	}
	for _, h := range in.helpers {
		tag, ok := strings.CutPrefix(h, tagPrefix)
		if !ok {
			if a, err := helperAt(h, in.at); err == nil {
				add(a)
			}
			continue
		}
		name, value, valued := strings.Cut(tag, "=")
		if name == "" {
			continue
		}
		quoted := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
		filter := "tagName eq " + quoted(name)
		if valued {
			filter += " and tagValue eq " + quoted(value)
		}
		found, err := source.List[struct {
			ID string `json:"id"`
		}](ctx, in.client, "/subscriptions/"+in.at.Subscription+"/resources", url.Values{"api-version": {"2021-04-01"}, "$filter": {filter}})
		if err != nil {
			return nil, say(ctx, "cannot look for helpers with the tag "+tag, err)
		}
		for _, r := range found {
			if a, err := source.ParseAddress(r.ID); err == nil {
				add(a)
			}
		}
	}
	return all, nil
}

// Helpers implements swap.Instance. If none fits, its error says why for each.
func (in *instance) Helpers(ctx context.Context) (all []swap.Helper, err error) {
	addresses, err := in.named(ctx)
	if err != nil {
		return nil, err
	}
	held, err := in.locksOf(ctx, in.at.Subscription)
	if err != nil {
		return nil, err
	}
	why := []string{}
	if len(addresses) == 0 {
		why = append(why, fmt.Sprintf("none of the helpers (%s) is a virtual machine of Azure", strings.Join(in.helpers, ", ")))
	}
	for _, a := range addresses {
		if !strings.EqualFold(a.Subscription, in.at.Subscription) {
			why = append(why, a.String()+" is in another subscription")
			continue
		}
		vm, err := in.machine(ctx, a)
		if errors.Is(err, errNoMachine) {
			why = append(why, a.String()+" is not there")
			continue
		}
		if err != nil {
			return nil, err
		}
		if reason := unfit(vm, in.last); reason != "" {
			why = append(why, a.String()+" "+reason)
			continue
		}
		if i := slices.IndexFunc(held, func(l lock) bool { return l.readOnly() && l.covers(a.ID()) }); i >= 0 {
			why = append(why, a.String()+" is read-only by the lock "+held[i].Name)
			continue
		}
		lent := 0
		for _, d := range vm.Properties.StorageProfile.DataDisks {
			if val(d.Lun) >= firstLUN {
				lent++
			}
		}
		all = append(all, swap.Helper{Name: a.String(), Lent: lent})
	}
	if len(all) == 0 && len(why) > 0 {
		return nil, fmt.Errorf("no helper can take the disk of %s: %s\nstart one beside it (volume swap in the README)", in.at, strings.Join(why, "; "))
	}
	return all, nil
}

// unfit says why a machine cannot be the helper of a host. A disk can be attached in its own
// region and zone alone.
func unfit(h, host *armcompute.VirtualMachine) string {
	zone := func(vm *armcompute.VirtualMachine) string {
		if len(vm.Zones) == 0 {
			return "no zone"
		}
		return "zone " + val(vm.Zones[0])
	}
	place := h.Properties.StorageProfile
	switch {
	case !strings.EqualFold(val(h.Location), val(host.Location)):
		return "is in " + val(h.Location) + " and the host in " + val(host.Location)
	case zone(h) != zone(host):
		return "is in " + zone(h) + " and the host in " + zone(host)
	case val(place.OSDisk.OSType) != armcompute.OperatingSystemTypesLinux:
		return "does not run Linux: Windows may have the same faulty sensor"
	case val(place.DiskControllerType) == armcompute.DiskControllerTypesNVMe:
		return "has its disks on NVMe, where the agent cannot tell them apart: use a size that has SCSI"
	case power(h) != swap.On:
		return "does not run"
	}
	return ""
}

// firstLUN is the first of those for hosts: below are the helper's own disks, its temporary disk
// and its DVD drive. Azure has LUNs up to lastLUN.
const (
	firstLUN = 10
	lastLUN  = 63
)

// freeLUN returns one that no disk of a helper has. It begins to look at a place that the mark
// says: processes that know nothing of each other rarely want the same one.
func freeLUN(h *armcompute.VirtualMachine, mark string) (int32, error) {
	const n = lastLUN - firstLUN + 1
	sum := 0
	for _, c := range mark {
		sum = sum*31%n + int(c)
	}
	for i := range n {
		lun := int32(firstLUN + (sum+i)%n)
		if !slices.ContainsFunc(h.Properties.StorageProfile.DataDisks, func(d *armcompute.DataDisk) bool { return val(d.Lun) == lun }) {
			return lun, nil
		}
	}
	return 0, errors.New("the helper has no place for another disk")
}
