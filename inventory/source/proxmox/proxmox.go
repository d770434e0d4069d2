// Package proxmox lists the virtual machines of a Proxmox VE cluster, as virtual hosts with the
// way in by which their disks can be swapped; and it is the client of the API that the driver
// of that name uses too.
//
// The client is our own: go-proxmox (v0.8.1) keeps of a refusal neither the path nor the
// privilege that is missing, and of a configuration only the keys that it knows.
//
// A host has an address where cloud-init's part of its configuration gives it a fixed one
// (ipconfigN). Else it has none, and is looked for by its name: only the agent in the guest could
// say, and in one that does not boot it does not run.
//
// Least right: VM.Audit on the guests or on /vms. A cluster shows only what the token may see,
// and says nothing of the rest. It was tried against the server of proxmoxtest, not against a
// real cluster.
package proxmox

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/secret"
)

// A Config says which cluster to ask, and which of its guests are hosts.
type Config struct {
	Name  string // as Access has it, and the next three too
	URL   string
	Token secret.Ref
	CA    string

	Site    string   // of all of them
	Guests  []int    // only these ids
	Tags    []string // only guests with one of these
	Pool    string   // only guests of this pool
	Nodes   []string // only guests on these nodes
	Windows bool     // only guests whose ostype is Windows
	Running bool     // only guests that run: a host that loops does

	Transport http.RoundTripper // as Access has it, and the next too
	Pause     time.Duration
}

// A Source is the virtual machines of one cluster.
type Source struct {
	cfg    Config
	client *Client
}

// New checks the configuration. It does not reach the cluster.
func New(cfg Config) (*Source, error) {
	c, err := Connect(Access{Name: cfg.Name, URL: cfg.URL, Token: cfg.Token, CA: cfg.CA, Transport: cfg.Transport, Pause: cfg.Pause})
	if err != nil {
		return nil, err
	}
	return &Source{cfg, c}, nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Proxmox VE "+s.client.Name(), func(emit func(*inventory.Draft) error) error {
		all, err := s.guests(ctx)
		if err != nil {
			return err
		}
		dark := map[string]bool{}
		for _, r := range all {
			var d *inventory.Draft
			var err error
			var said *Error
			if node := "node " + r.Node; !dark[node] { // each is tried once
				d, err = s.draft(ctx, r)
				dark[node] = errors.As(err, &said) && said.Away()
			}
			switch {
			case dark["node "+r.Node] && s.cfg.Windows:
				continue // what it runs is in its configuration alone
			case dark["node "+r.Node]:
				d, err = s.plain(r), nil
			case said != nil && said.Gone():
				continue // it went, or moved, just now
			}
			if err == nil && d != nil {
				err = emit(d)
			}
			if err != nil {
				return err
			}
		}
		maps.DeleteFunc(dark, func(_ string, away bool) bool { return !away })
		if len(dark) > 0 {
			return &inventory.PartialError{Missing: strings.Join(slices.Sorted(maps.Keys(dark)), " and ") + " does not answer", Want: "another try when it does; nodes: names those that do"}
		}
		return nil
	})
}

// guests returns the virtual machines that are asked for, as far as the list of all tells.
func (s *Source) guests(ctx context.Context) (all []Resource, err error) {
	rows, err := s.client.Resources(ctx)
	if err != nil {
		return nil, lacks(fmt.Errorf("cannot list the guests: %w", err))
	}
	for _, r := range rows {
		switch {
		case r.Type != "qemu" || r.Template != 0:
		case s.cfg.Running && r.Status != "running" && r.Status != "unknown": // unknown: its node does not answer
		case len(s.cfg.Guests) > 0 && !slices.Contains(s.cfg.Guests, r.VMID):
		case len(s.cfg.Tags) > 0 && !slices.ContainsFunc(s.cfg.Tags, r.Tagged):
		case s.cfg.Pool != "" && r.Pool != s.cfg.Pool:
		case len(s.cfg.Nodes) > 0 && !slices.Contains(s.cfg.Nodes, r.Node):
		default:
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Resource) int { return a.VMID - b.VMID })
	return all, nil
}

// windows are the ostypes of Windows: wxp, w2k, w2k3, w2k8, wvista, win7, win8, win10, win11.
func windows(ostype string) bool { return strings.HasPrefix(ostype, "w") }

// draft makes a host of a guest, or nothing if it is none that is asked for.
func (s *Source) draft(ctx context.Context, r Resource) (*inventory.Draft, error) {
	var config map[string]any
	if err := s.client.Get(ctx, r.Path()+"/config", &config); err != nil {
		return nil, lacks(fmt.Errorf("cannot read the configuration of %d: %w", r.VMID, err))
	}
	text := func(key string) string { v, _ := config[key].(string); return v }
	if s.cfg.Windows && !windows(text("ostype")) {
		return nil, nil
	}
	d := s.plain(r)
	uuid, serial := SMBIOS(text("smbios1"))
	d.UUID("smbios1 uuid", uuid)
	d.Serial("smbios1 serial", serial)
	for i := range 32 {
		d.MAC("net", mac(text("net"+strconv.Itoa(i))))
	}
	key, address := fixed(text)
	d.Text(&d.Host.Address, key, address)
	return d, nil
}

// plain makes a host of what the list of all guests tells, which is there for those too whose
// node does not answer.
func (s *Source) plain(r Resource) *inventory.Draft {
	id := strconv.Itoa(r.VMID)
	d := inventory.NewDraft(inventory.Origin{Source: "proxmox", Place: s.client.Name()}, id)
	d.Name("name", r.Name) // guests may share one
	d.Twin(id)
	d.Text(&d.Host.Site, "site", s.cfg.Site)
	d.Label("node", r.Node)
	d.Label("pool", r.Pool)
	d.Label("tags", strings.ReplaceAll(r.Tags, ";", " "))
	d.Label("power", r.Status)
	d.Route("proxmox", "address", s.client.Name()+"/"+id)
	return d
}

// fixed returns the first address that cloud-init gives the guest, and the key that has it:
// "ip=10.1.2.3/24,gw=10.1.2.1". One that it gets by DHCP or by itself is not known.
func fixed(text func(key string) string) (key, address string) {
	for _, of := range []string{"ip", "ip6"} {
		for i := range 32 {
			key := "ipconfig" + strconv.Itoa(i)
			_, p := Properties(text(key))
			if at, err := netip.ParsePrefix(p[of]); err == nil {
				return key, at.Addr().String()
			}
		}
	}
	return "", ""
}

// mac returns the address of a network device: "virtio=BC:24:11:00:00:01,bridge=vmbr0".
func mac(net string) string {
	_, p := Properties(net)
	for _, model := range []string{"virtio", "e1000", "e1000e", "rtl8139", "vmxnet3", "macaddr"} {
		if p[model] != "" {
			return p[model]
		}
	}
	return ""
}
