// Package vsphere swaps the disks of virtual machines on vCenter and on single ESXi hosts: see
// package swap for the order of things. Beside it is the way vsphere-iso, [ISO], which leaves the
// disk where it is and boots the rescue image.
//
// # How a disk is taken off and put back
//
// By ReconfigVM_Task: the device is removed and its files stay (no file operation), and later it
// is added at the same controller and unit, with the same mode, sharing and storage policy. The
// order in which the machine boots is put back before it is started, in case vCenter struck the
// disk out of it. On the helper the disk is independent, so that snapshots of the helper leave it
// alone. vSphere itself keeps two running machines from one disk: it locks the files.
//
// # What the helper's agent knows a disk by
//
// Its VMDK's UUID as SCSI serial number, 32 hexadecimal digits, which a guest sees when its
// machine has disk.EnableUUID=TRUE. A helper without that is not used.
//
// # Snapshots
//
// vSphere's own would put a chain below the disk that must not be moved. So what is made, on
// vCenter alone, is a full clone of the machine with that one disk and no network, called as the
// mark: it takes the room and the time of a copy.
//
// # Rights
//
// On hosts' and helpers' machines, with propagation: those of [Privileges]. It was proved on
// vcsim, with the strictness of package vspheretest in front; a real vCenter was not at hand.
package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Privileges returns what the account needs, by VMware's names; with snapshots also what a clone
// needs.
func Privileges(snapshots bool) []string {
	all := []string{"VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn", "VirtualMachine.Config.AddExistingDisk",
		"VirtualMachine.Config.RemoveDisk", "VirtualMachine.Config.Settings", "Datastore.Browse", "Datastore.FileManagement", "StorageProfile.View"}
	if snapshots {
		all = append(all, "VirtualMachine.Provisioning.Clone", "VirtualMachine.Inventory.CreateFromExisting", "Datastore.AllocateSpace", "Resource.AssignVMToPool")
	}
	return all
}

// Options say which servers there are, and where helpers are.
type Options struct {
	// Conns are the servers, each with its session. Addresses that name none mean the first.
	Conns []*source.Conn
	// Helpers are the virtual machines that disks are hung on, by name, instance UUID or
	// inventory path: those that run where the datastore of a host's disk is seen serve it.
	// "unbrick-helper" if empty.
	Helpers []string
	Poll    time.Duration // between two looks at a task; 1 s if 0
}

// New returns the platform.
func New(o Options) swap.Platform {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	o.Poll = cmp.Or(o.Poll, time.Second)
	p := &platform{}
	for _, c := range o.Conns {
		p.sites = append(p.sites, &site{conn: c, opt: o})
	}
	return p
}

type platform struct{ sites []*site }

// An address names a virtual machine:
//
//	vc1.corp.example/503c0a5e-…    by its instance UUID, or its BIOS UUID
//	vc1.corp.example/DC1/vm/WS-1   by its inventory path, as govc find shows it
//	503c0a5e-… or /DC1/vm/WS-1     on the first server
//
// ?disk=disk-1000-1 says which disk Windows starts from, by the name that govc device.ls shows,
// where it is not the first.
type address struct{ server, uuid, path, disk string }

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

func parseAddress(text string) (a address, err error) {
	text, query, _ := strings.Cut(strings.TrimSpace(text), "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return a, fmt.Errorf("%q is no address of a virtual machine: %v", text, err)
	}
	a.disk = q.Get("disk")
	rest := text
	if !uuid.MatchString(text) && !strings.HasPrefix(text, "/") {
		a.server, rest, _ = strings.Cut(text, "/")
	}
	rest = strings.Trim(rest, "/")
	switch {
	case uuid.MatchString(rest):
		a.uuid = strings.ToLower(rest)
	case strings.Contains(rest, "/"):
		a.path = "/" + rest
	default:
		return a, fmt.Errorf("%q is no address of a virtual machine\nwrite VCENTER/INSTANCE-UUID or VCENTER/DATACENTER/vm/FOLDER/NAME (govc find shows it)", text)
	}
	return a, nil
}

// Reach implements swap.Platform.
func (p *platform) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) {
	a, err := parseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.sites, func(s *site) bool { return a.server == "" || strings.EqualFold(a.server, s.conn.Host()) })
	if i < 0 {
		return nil, fmt.Errorf("%s is no vCenter or ESXi host that the configuration names: add it, or correct the address of the route", cmp.Or(a.server, "nothing"))
	}
	in := &instance{site: p.sites[i], at: a}
	if in.Client, err = in.conn.Client(ctx); err != nil {
		return nil, say(ctx, "cannot log in", err)
	}
	if in.ref, err = in.find(ctx, a.uuid, a.path); err != nil {
		return nil, err
	}
	if in.uuid == "" {
		v, err := in.see(ctx, []string{"summary.config.instanceUuid"})
		if err != nil {
			return nil, err
		}
		if in.uuid = v.vm.Summary.Config.InstanceUuid; in.uuid == "" {
			return nil, errors.New("it has no instance UUID: look at it with govc vm.info, it may be inaccessible")
		}
	}
	return in, nil
}

// find returns the virtual machine of a UUID or a path, and remembers the instance UUID.
func (in *instance) find(ctx context.Context, id, path string) (ref types.ManagedObjectReference, err error) {
	if id == "" {
		ref, err = source.Find(ctx, in.Client, path)
		if err == nil && ref.Type != "VirtualMachine" {
			err = fmt.Errorf("%s is a %s, and no virtual machine", path, ref.Type)
		}
		return ref, say(ctx, "cannot find the virtual machine", err)
	}
	for _, instance := range []bool{true, false} {
		res, err := byUUID(ctx, in.Client, id, instance)
		if err != nil {
			return ref, say(ctx, "cannot look for virtual machine "+id, err)
		}
		if res != nil {
			if instance {
				in.uuid = id
			}
			return *res, nil
		}
	}
	return ref, fmt.Errorf("%s has no virtual machine %s, or the account does not see it: was it deleted, or moved to another vCenter? correct the address of the route", in.conn.Host(), id)
}

func byUUID(ctx context.Context, c *vim25.Client, id string, instance bool) (*types.ManagedObjectReference, error) {
	res, err := methods.FindByUuid(ctx, c, &types.FindByUuid{This: *c.ServiceContent.SearchIndex, Uuid: id, VmSearch: true, InstanceUuid: &instance})
	if err != nil {
		return nil, err
	}
	return res.Returnval, nil
}
