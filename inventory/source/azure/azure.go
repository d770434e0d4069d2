// Package azure lists the virtual machines of Azure that run Windows, with the way in by which
// their disks can be swapped.
//
// Least rights: Microsoft.Compute/virtualMachines/read, and for addresses
// Microsoft.Network/networkInterfaces/read, on the subscriptions or the resource groups that are
// asked for; with public addresses Microsoft.Network/publicIPAddresses/read; the built-in role
// Reader has all. Without the right to read network cards hosts have no address, and are looked
// for by name. Where resource groups are asked for, cards are those in the same groups.
//
// Facts are those of the reference of the Compute and Virtual Network REST APIs ("Virtual Machines -
// List All", "- List", "Network Interfaces - List All", "- List", power states in "States and
// billing status of Azure Virtual Machines"). No subscription was at hand to prove them: the
// tests' server is written from those pages.
package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
)

// A Config says which virtual machines are hosts. What is empty leaves out none.
type Config struct {
	Cloud    string // as of a Connection
	Endpoint string

	Subscriptions []string // ids; needed, unless IDs has all that is asked for
	Groups        []string // resource groups in these subscriptions
	Tag           string   // NAME, or NAME=VALUE
	IDs           []string // SUBSCRIPTION/GROUP/NAME or resource ids: these alone
	Running       bool     // only those that run: a host that loops does
	Public        bool     // a host's address is the public one, where it has one

	// Fields says which tag is which field: {"tier": "Criticality", "site": "Office"}.
	Fields map[string]string
}

// A Source is the virtual machines of some subscriptions.
type Source struct {
	cfg    Config
	ids    []Address
	client *Client
	cal    *calendar.Calendar
}

// New checks the configuration. It does not reach Azure.
func New(cfg Config) (*Source, error) {
	return Open(cfg, Connection{Cloud: cfg.Cloud, Endpoint: cfg.Endpoint})
}

// Open is New for who has a connection of their own.
func Open(cfg Config, to Connection) (*Source, error) {
	s := &Source{cfg: cfg, cal: calendar.New()}
	for _, text := range cfg.IDs {
		a, err := ParseAddress(text)
		if err != nil {
			return nil, fmt.Errorf("cannot use Azure: %w", err)
		}
		s.ids = append(s.ids, a)
	}
	for _, id := range cfg.Subscriptions {
		if !subscriptionID.MatchString(id) {
			return nil, fmt.Errorf("cannot use Azure: %q is no id of a subscription\naz account list shows them", id)
		}
	}
	for _, name := range cfg.Groups {
		if !groupName.MatchString(name) {
			return nil, fmt.Errorf("cannot use Azure: %q is no name of a resource group", name)
		}
	}
	if len(cfg.Subscriptions) == 0 && len(s.ids) == 0 {
		return nil, errors.New("cannot use Azure: no subscription is named\naz account list shows their ids")
	}
	if err := inventory.CheckFields(cfg.Fields); err != nil {
		return nil, fmt.Errorf("cannot use Azure: %w", err)
	}
	var err error
	if s.client, err = to.Dial(); err != nil {
		return nil, fmt.Errorf("cannot use Azure: %w", err)
	}
	return s, nil
}

// Check reads one page of what Hosts reads. Its error names the right that is missing, as an
// *inventory.RightError where only addresses are missing without it.
func (s *Source) Check(ctx context.Context) error {
	for vm, err := range s.all(ctx) {
		if err != nil {
			return explain(ctx, err)
		}
		return s.checkNetwork(ctx, vm)
	}
	return nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Azure", func(emit func(*inventory.Draft) error) error {
		known := map[string]addresses{} // by subscription
		for vm, err := range s.all(ctx) {
			if err != nil {
				return explain(ctx, err)
			}
			if !s.picks(vm) {
				continue
			}
			at, err := s.reached(ctx, vm, known, emit)
			if err != nil {
				return err
			}
			d := s.draft(vm)
			at.put(d, vm)
			if err := emit(d); err != nil {
				return err
			}
		}
		return nil
	})
}

// explain is Explain where it was not the caller who ended it.
func explain(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return Explain(err)
}

// all yields the virtual machines of the subscriptions and groups, and those that ids name.
func (s *Source) all(ctx context.Context) iter.Seq2[*armcompute.VirtualMachine, error] {
	return func(yield func(*armcompute.VirtualMachine, error) bool) {
		if len(s.ids) > 0 {
			s.named(ctx, yield)
			return
		}
		for _, subscription := range s.cfg.Subscriptions {
			f, err := s.client.Compute(subscription)
			if err != nil {
				yield(nil, err)
				return
			}
			if !s.listed(ctx, f.NewVirtualMachinesClient(), yield) {
				return
			}
		}
	}
}

// listed yields what one subscription lists, and says whether to go on.
func (s *Source) listed(ctx context.Context, c *armcompute.VirtualMachinesClient, yield func(*armcompute.VirtualMachine, error) bool) bool {
	view := to.Ptr(armcompute.ExpandTypesForListVMsInstanceView)
	each := func(page []*armcompute.VirtualMachine, err error) bool {
		if err != nil {
			yield(nil, err)
			return false
		}
		for _, vm := range page {
			if !yield(vm, nil) {
				return false
			}
		}
		return true
	}
	if len(s.cfg.Groups) == 0 {
		for p := c.NewListAllPager(&armcompute.VirtualMachinesClientListAllOptions{Expand: view}); p.More(); {
			page, err := p.NextPage(ctx)
			if !each(page.Value, err) {
				return false
			}
		}
	}
	for _, group := range s.cfg.Groups {
		for p := c.NewListPager(group, &armcompute.VirtualMachinesClientListOptions{Expand: to.Ptr(armcompute.ExpandTypeForListVMsInstanceView)}); p.More(); {
			page, err := p.NextPage(ctx)
			if !each(page.Value, err) {
				return false
			}
		}
	}
	return true
}

// named yields the virtual machines that ids name.
func (s *Source) named(ctx context.Context, yield func(*armcompute.VirtualMachine, error) bool) {
	for _, a := range s.ids {
		f, err := s.client.Compute(a.Subscription)
		if err != nil {
			yield(nil, err)
			return
		}
		got, err := f.NewVirtualMachinesClient().Get(ctx, a.Group, a.Name, &armcompute.VirtualMachinesClientGetOptions{Expand: to.Ptr(armcompute.InstanceViewTypesInstanceView)})
		if err != nil {
			err = fmt.Errorf("cannot read %s: %w", a, explain(ctx, err))
		}
		if !yield(&got.VirtualMachine, err) || err != nil {
			return
		}
	}
}

// picks says whether a virtual machine is a host that is asked for.
func (s *Source) picks(vm *armcompute.VirtualMachine) bool {
	if p := vm.Properties; p == nil || p.StorageProfile == nil || p.StorageProfile.OSDisk == nil ||
		val(p.StorageProfile.OSDisk.OSType) != armcompute.OperatingSystemTypesWindows {
		return false
	}
	if s.cfg.Running && Power(vm) != "running" {
		return false
	}
	name, value, valued := strings.Cut(s.cfg.Tag, "=")
	return s.cfg.Tag == "" || HasTag(vm.Tags, name, value, valued)
}

// HasTag says whether there is a tag, with that value if it counts. Names of tags are the same in
// upper and lower case, their values are not.
func HasTag(tags map[string]*string, name, value string, valued bool) bool {
	for k, v := range tags {
		if strings.EqualFold(k, name) && (!valued || val(v) == value) {
			return true
		}
	}
	return false
}

// Power returns the power state without its prefix: running, stopped, deallocated, …; empty if
// Azure does not say.
func Power(vm *armcompute.VirtualMachine) string {
	if vm.Properties == nil || vm.Properties.InstanceView == nil {
		return ""
	}
	for _, s := range vm.Properties.InstanceView.Statuses {
		if state, ok := strings.CutPrefix(val(s.Code), "PowerState/"); ok {
			return strings.ToLower(state)
		}
	}
	return ""
}

// draft makes a host of a virtual machine. Its name is Windows's, where it is known.
func (s *Source) draft(vm *armcompute.VirtualMachine) *inventory.Draft {
	id := val(vm.ID)
	d := inventory.NewDraft(inventory.Origin{Source: "azure", Place: "Azure"}, id)
	d.Check = s.cal.Check
	p := vm.Properties
	for ours, tag := range s.cfg.Fields {
		for k, v := range vm.Tags {
			if strings.EqualFold(k, tag) {
				d.Set(ours, "tag "+k, val(v))
			}
		}
	}
	if p.OSProfile != nil {
		d.Name("osProfile.computerName", val(p.OSProfile.ComputerName))
	}
	d.Name("name", val(vm.Name))
	d.Twin(cmp.Or(val(p.VMID), val(vm.Name))) // computer names repeat
	d.UUID("vmId", val(p.VMID))               // SMBIOS shows it
	d.Set("region", "location", val(vm.Location))
	d.Set("site", "location", val(vm.Location))
	if p.AvailabilitySet != nil {
		d.Set("group", "availabilitySet", last(val(p.AvailabilitySet.ID)))
	}
	if p.VirtualMachineScaleSet != nil {
		d.Label("scaleset", last(val(p.VirtualMachineScaleSet.ID)))
	}
	if d.Host.Name != val(vm.Name) {
		d.Label("vm", val(vm.Name))
	}
	if len(vm.Zones) > 0 {
		d.Label("zone", val(vm.Zones[0]))
	}
	if p.HardwareProfile != nil {
		d.Label("model", string(val(p.HardwareProfile.VMSize)))
	}
	d.Label("power", cmp.Or(Power(vm), "unknown"))
	if a, err := ParseAddress(id); err == nil {
		d.Label("resourcegroup", a.Group)
		d.Route("azure", "id", a.String())
	}
	return d
}

func last(id string) string { return id[strings.LastIndex(id, "/")+1:] }

func val[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
