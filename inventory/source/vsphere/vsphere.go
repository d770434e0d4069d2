// Package vsphere lists the virtual machines of a vCenter or of one ESXi host, with the ways in
// by which their disks can be swapped or a rescue image booted.
//
// A host's name is that of the virtual machine, which need not be that of Windows; its serial
// number is the one that Windows shows, made from the BIOS UUID. The UUID itself is a label and
// not the host's: the guest shows its bytes in another order, which depends on the version of
// the virtual hardware. Templates are no hosts.
//
// Least rights: System.Read, which the role "Read-only" has, on the data center with propagation;
// for Tag also vSphere Tagging, which that role reads.
package vsphere

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"unbrick/inventory"
)

// A Config says which of a server's virtual machines are hosts.
type Config struct {
	Path    string   // only below this: /DC1/vm/Finance, /DC1/host/Cluster1; all if empty
	Names   []string // only these, by name or instance UUID
	Windows bool     // only those that are set up for Windows
	Running bool     // only those that are on: a host that loops is
	Site    string   // of all of them; the data center's name if empty
	Page    int      // objects in one answer; 500 if 0
}

// A Source is the virtual machines of one server.
type Source struct {
	cfg  Config
	conn *Conn
}

// New returns a source. The connection stays the caller's.
func New(conn *Conn, cfg Config) *Source {
	cfg.Page = cmp.Or(max(cfg.Page, 0), page)
	return &Source{cfg, conn}
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "vSphere "+s.conn.Host(), func(emit func(*inventory.Draft) error) error {
		c, err := s.conn.Client(ctx)
		if err != nil {
			return err
		}
		t, err := s.tree(ctx, c)
		if err != nil {
			return err
		}
		for _, vm := range t.vms {
			if !s.wanted(vm) {
				continue
			}
			if err := emit(s.draft(t, vm)); err != nil {
				return err
			}
		}
		return nil
	})
}

var vmProperties = []string{"name", "parent", "runtime.host", "runtime.powerState", "runtime.connectionState",
	"summary.config.guestId", "summary.config.uuid", "summary.config.instanceUuid", "summary.config.template", "guest.hostName"}

// A tree is what lies below a root, and the way up from there.
type tree struct {
	vms   []mo.VirtualMachine // by name
	nodes map[types.ManagedObjectReference]node
}

type node struct {
	name   string
	parent *types.ManagedObjectReference
}

// tree reads all in as many requests as there are pages; the folders above the root are read
// with those below the server's own root.
func (s *Source) tree(ctx context.Context, c *vim25.Client) (*tree, error) {
	root := c.ServiceContent.RootFolder
	all, err := collect(ctx, c, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{Below(root)},
		PropSet: append([]types.PropertySpec{{Type: "VirtualMachine", PathSet: vmProperties}},
			names("Folder", "Datacenter", "ComputeResource", "HostSystem")...),
	}, s.cfg.Page)
	if err != nil {
		return nil, fmt.Errorf("cannot list virtual machines: %w", err)
	}
	t := &tree{nodes: map[types.ManagedObjectReference]node{}}
	for _, o := range all {
		if o.Obj.Type == "VirtualMachine" {
			var vm mo.VirtualMachine
			if err := mo.LoadObjectContent([]types.ObjectContent{o}, &vm); err != nil {
				return nil, fmt.Errorf("cannot read virtual machine %s: %w", o.Obj.Value, err)
			}
			t.vms = append(t.vms, vm)
			continue
		}
		t.nodes[o.Obj] = nodeOf(o)
	}
	if s.cfg.Path != "" {
		if err := s.narrow(ctx, c, t); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(t.vms, func(a, b mo.VirtualMachine) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Self.Value, b.Self.Value))
	})
	return t, nil
}

func names(kinds ...string) (all []types.PropertySpec) {
	for _, k := range kinds {
		all = append(all, types.PropertySpec{Type: k, PathSet: []string{"name", "parent"}})
	}
	return all
}

func nodeOf(o types.ObjectContent) (n node) {
	for _, p := range o.PropSet {
		switch v := p.Val.(type) {
		case string:
			n.name = v
		case types.ManagedObjectReference:
			n.parent = &v
		}
	}
	return n
}

// narrow leaves those below the path: a pool or a host has machines that its folder does not say.
func (s *Source) narrow(ctx context.Context, c *vim25.Client, t *tree) error {
	root, err := Find(ctx, c, s.cfg.Path)
	if err != nil {
		return err
	}
	below, err := Collect(ctx, c, types.PropertyFilterSpec{ObjectSet: []types.ObjectSpec{Below(root)},
		PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name"}}}})
	if err != nil {
		return fmt.Errorf("cannot list what is below %s: %w", s.cfg.Path, err)
	}
	in := map[types.ManagedObjectReference]bool{}
	for _, o := range below {
		in[o.Obj] = true
	}
	t.vms = slices.DeleteFunc(t.vms, func(vm mo.VirtualMachine) bool { return !in[vm.Self] })
	return nil
}

// up returns the name of the nearest thing of a kind above an object.
func (t *tree) up(from *types.ManagedObjectReference, kinds ...string) string {
	for from != nil {
		n, ok := t.nodes[*from]
		if !ok || slices.Contains(kinds, from.Type) {
			return n.name
		}
		from = n.parent
	}
	return ""
}

func (s *Source) wanted(vm mo.VirtualMachine) bool {
	c := vm.Summary.Config
	switch {
	case c.Template:
		return false
	case s.cfg.Windows && !strings.HasPrefix(c.GuestId, "win"): // windows2019srv_64Guest, winNetStandardGuest
		return false
	case s.cfg.Running && vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn:
		return false
	}
	return len(s.cfg.Names) == 0 || slices.Contains(s.cfg.Names, vm.Name) || slices.Contains(s.cfg.Names, c.InstanceUuid)
}

func (s *Source) draft(t *tree, vm mo.VirtualMachine) *inventory.Draft {
	c := vm.Summary.Config
	d := inventory.NewDraft(inventory.Origin{Source: "vsphere", Place: s.conn.Host()}, vm.Self.Value)
	d.Name("name", vm.Name)
	d.Serial("uuid", Serial(c.Uuid))
	if vm.Guest != nil {
		d.Text(&d.Host.Address, "hostName", vm.Guest.HostName)
	}
	d.Text(&d.Host.Site, "datacenter", cmp.Or(s.cfg.Site, t.up(vm.Parent, "Datacenter"), t.up(vm.Runtime.Host, "Datacenter")))
	d.Label("cluster", t.up(vm.Runtime.Host, "ClusterComputeResource", "ComputeResource"))
	d.Label("os", c.GuestId)
	d.Label("power", strings.ToLower(strings.TrimPrefix(string(vm.Runtime.PowerState), "powered")))
	d.Label("bios_uuid", c.Uuid)
	if state := vm.Runtime.ConnectionState; state != types.VirtualMachineConnectionStateConnected {
		d.Label("connection", string(state)) // disconnected, inaccessible, orphaned
	}
	if c.InstanceUuid != "" {
		for _, way := range []string{"vsphere", "vsphere-iso"} { // the second where the disk must not leave
			d.Route(way, "instanceUuid", s.conn.Host()+"/"+c.InstanceUuid)
		}
	}
	return d
}

// Serial returns the serial number that the BIOS of a virtual machine shows: "VMware-", eight
// bytes of its UUID, and eight more. It is empty if that is none.
func Serial(uuid string) string {
	b, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil || len(b) != 16 {
		return ""
	}
	return fmt.Sprintf("VMware-% x-% x", b[:8], b[8:])
}

// Check makes sure that the server can be reached and read, and that the account has the given
// privileges, by VMware's names, on the path or on everything. Where it lacks some, the error is
// an *inventory.RightError.
func (s *Source) Check(ctx context.Context, privileges ...string) error {
	c, err := s.conn.Client(ctx)
	if err != nil {
		return err
	}
	root := c.ServiceContent.RootFolder
	if s.cfg.Path != "" {
		if root, err = Find(ctx, c, s.cfg.Path); err != nil {
			return err
		}
	}
	return s.conn.Granted(ctx, Need{root, cmp.Or(s.cfg.Path, "the root folder"), append([]string{"System.View", "System.Read"}, privileges...)})
}
