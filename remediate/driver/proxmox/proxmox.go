// Package proxmox swaps the disks of virtual machines of Proxmox VE: see package swap for the
// order of things.
//
// # How a disk is taken off and put back
//
// Not by the API's own move between guests (move_disk with target-vmid): that renames the
// volume for its new owner, and back to whatever number is free then. Instead its key is
// deleted from the guest's configuration, while the guest is stopped and keeps owning the
// volume as unusedN; the same volume is given to the helper under a SCSI key of its own, with
// the mark as serial number, and neither backed up nor replicated there; and later the key is
// written again to the letter, with the boot order, from which Proxmox strikes a disk that is
// deleted. Every change names the digest of the configuration that it was made from, so that
// nobody else's change is undone. EFI disk and TPM state stay where they are. Meanwhile, whoever
// removes the guest, or unusedN from it, removes the volume, as always on Proxmox.
//
// # Rights
//
// An API token with these privileges, by a role on the paths (the token's own, where its
// privileges are separated):
//
//	/vms/VMID or a pool  VM.Audit, VM.PowerMgmt, VM.Config.Disk, and VM.Snapshot for snapshots
//	/vms/HELPER          VM.Audit, VM.Config.Disk
//	/storage/ID          Datastore.Audit
//
// That VM.Config.Disk on the owner and Datastore.Audit are enough to give a guest the volume of
// another was read in Proxmox's own check (PVE::Storage::check_volume_access, 7.4 and newer);
// older releases want Datastore.Allocate on the storage. Nothing here needs root@pam.
//
// # What was proved, and what was not
//
// All of it against the server of proxmoxtest, none of it against a real cluster. Not seen are
// a third guest that somebody gave the same volume, beyond the guest, its owner and the helpers
// (Proxmox has no call that tells), and a disk signature equal to the helper's own: the agent on
// the helper refuses that one. A replication job of the guest that runs meanwhile drops its copy of
// the disk, and makes it anew afterwards.
package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Options say which clusters there are, and which guests are helpers.
type Options struct {
	// Clusters are those that addresses may name, by names of their own. Where there is one, they
	// need not.
	Clusters []*api.Client
	// Helpers are names, ids or tags of the guests that disks are hung on; "unbrick-helper" if
	// empty. A helper takes disks of its own node, and those on shared storage.
	Helpers []string

	Every time.Duration // how often a task is looked at; 1 s if 0
}

// Connect returns clients of clusters, each with a pace of its own for all that use it: so many
// requests a second, to begin with and at most; 20 if 0. It does not reach the clusters.
func Connect(perSecond float64, clusters ...api.Access) (all []*api.Client, err error) {
	for _, a := range clusters {
		c, err := api.Connect(a, func(next http.RoundTripper) http.RoundTripper {
			return &swap.Pace{Next: next, PerSecond: perSecond}
		})
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(b *api.Client) bool { return b.Name() == c.Name() }) {
			return nil, fmt.Errorf("two clusters of Proxmox VE are called %s: give each a name of its own", c.Name())
		}
		all = append(all, c)
	}
	return all, nil
}

// New returns the platform. It does not reach the clusters.
func New(o Options) swap.Platform {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	if o.Every <= 0 {
		o.Every = time.Second
	}
	return &platform{opt: o}
}

type platform struct{ opt Options }

// Reach implements swap.Platform.
func (p *platform) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) {
	a, err := parseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	c, err := p.cluster(a)
	if err != nil {
		return nil, err
	}
	in := &instance{Client: c, opt: p.opt, at: a}
	rows, err := c.Resources(ctx)
	if err != nil {
		return nil, in.say("cannot list the guests", err)
	}
	in.rows = rows
	i := slices.IndexFunc(rows, func(r api.Resource) bool { return r.VMID == a.vmid && (r.Type == "qemu" || r.Type == "lxc") })
	switch {
	case i < 0:
		return nil, fmt.Errorf("cluster %s shows no virtual machine %d: correct the address of the route, or give the token VM.Audit on /vms/%d", c.Name(), a.vmid, a.vmid)
	case rows[i].Type != "qemu":
		return nil, fmt.Errorf("%d on cluster %s is a container, and no Windows: correct the address of the route", a.vmid, c.Name())
	}
	g, err := in.read(ctx, rows[i])
	if err != nil {
		return nil, err
	}
	in.row = rows[i]
	in.uuid, _ = api.SMBIOS(g.keys["smbios1"].value)
	in.uuid = strings.ToLower(in.uuid)
	if known := t.Host.UUID; known != "" && in.uuid != "" && known != in.uuid {
		return nil, fmt.Errorf("virtual machine %d on cluster %s is not %s: its UUID is %s and the host's %s\nan id is used again when a guest is removed: correct the address of the route", a.vmid, c.Name(), t.Host.Name, in.uuid, known)
	}
	return in, nil
}

func (p *platform) cluster(a address) (*api.Client, error) {
	var names []string
	for _, c := range p.opt.Clusters {
		if a.cluster == c.Name() || a.cluster == "" && len(p.opt.Clusters) == 1 {
			return c, nil
		}
		names = append(names, c.Name())
	}
	return nil, fmt.Errorf("no cluster %q of Proxmox VE is configured; there are: %s", a.cluster, strings.Join(names, ", "))
}

// An instance is a guest during one call.
type instance struct {
	*api.Client
	opt  Options
	at   address
	rows []api.Resource // of the whole cluster
	row  api.Resource   // the guest's own
	uuid string

	volume string // the one that is spoken of; Describe and Look know
}

// ID implements swap.Instance. The id of a guest is used again after it; its UUID is not.
func (in *instance) ID() string {
	return strings.TrimSpace(fmt.Sprintf("proxmox %s/%d %s", in.Name(), in.row.VMID, in.uuid))
}

// Close implements swap.Instance.
func (in *instance) Close() error { return nil }

// name names a guest for people.
func name(r api.Resource) string { return fmt.Sprintf("%d (%s)", r.VMID, r.Name) }

// say wraps an error of the API. What may pass by itself is a *remediate.RetryError.
func (in *instance) say(what string, err error) error {
	return swap.Say(what+" on cluster "+in.Name(), err)
}

// isHelper says whether a guest is one that disks are hung on.
func (o Options) isHelper(r api.Resource) bool {
	return r.Type == "qemu" && r.Template == 0 && slices.ContainsFunc(o.Helpers, func(h string) bool {
		return h == r.Name || h == strconv.Itoa(r.VMID) || r.Tagged(h)
	})
}
