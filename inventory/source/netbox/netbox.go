// Package netbox reads devices and virtual machines from NetBox: with their sites and time
// zones, the addresses of their BMCs, and the MAC addresses of their own interfaces but not of
// the BMCs'.
//
// Only the link to the next page says where one is: some versions of 4.4 give more or fewer rows
// than asked for, and an operator may cap pages. Least right: "view" on sites, devices,
// interfaces and IP addresses (and virtual machines and their interfaces). Facts are those of
// NetBox's REST API documentation; no server was at hand to prove them.
package netbox

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
)

// A Config says which NetBox to ask, for what, and with which token.
type Config struct {
	URL   string // https://netbox.corp.example
	CA    string
	Token secret.Ref // "Token" of old, or "Bearer nbt_…" from 4.5: its beginning tells

	Query  string            // picks devices, as the list's filters do: "role=workstation&status=active"
	VMs    bool              // virtual machines too
	Fields map[string]string // custom field for a field: {"tier": "tier", "redfish": "bmc_url"}
	BMC    string            // the way in that a BMC's address stands for; redfish if empty
	Page   int               // rows in one answer; 1,000, NetBox's own limit, if 0
}

// A Source is the hosts of one NetBox.
type Source struct {
	cfg    Config
	client *rest.Client
	cal    *calendar.Calendar
}

// New checks the configuration. It does not reach NetBox.
func New(cfg Config) (*Source, error) {
	cfg.Page, cfg.BMC = cmp.Or(cfg.Page, 1000), cmp.Or(cfg.BMC, "redfish")
	if _, err := url.ParseQuery(cfg.Query); err != nil || cfg.Page < 1 {
		return nil, errors.New("cannot use NetBox: the query is not as in an address, role=workstation&status=active, or the page is too small")
	}
	if err := inventory.CheckFields(cfg.Fields); err != nil {
		return nil, fmt.Errorf("cannot use NetBox: %w", err)
	}
	client, err := rest.New(rest.Options{Name: "NetBox", Base: cfg.URL, CA: cfg.CA,
		Auth: rest.Token{Word: "Token", Token: cfg.Token, Words: map[string]string{"nbt_": "Bearer"}}})
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, client: client, cal: calendar.New()}, nil
}

// ref is an object inside another.
type ref struct {
	ID      int    `json:"id"`
	Name    string `json:"name"`
	Slug    string `json:"slug"`
	Model   string `json:"model"`
	Address string `json:"address"` // with the length of the prefix: "10.0.0.5/24"
	Value   string `json:"value"`
}

type site struct {
	ref
	TimeZone string `json:"time_zone"`
	Region   *ref   `json:"region"`
}

type netInterface struct {
	ID       int    `json:"id"`
	MAC      string `json:"mac_address"`
	MgmtOnly bool   `json:"mgmt_only"`
	Device   *ref   `json:"device"`
	VM       *ref   `json:"virtual_machine"`
}

// A device is a device or a virtual machine.
type device struct {
	ref
	Serial   string                     `json:"serial"`
	Site     *ref                       `json:"site"`
	Status   *ref                       `json:"status"`
	Type     *ref                       `json:"device_type"`
	Role     *ref                       `json:"role"`
	Platform *ref                       `json:"platform"`
	Cluster  *ref                       `json:"cluster"`
	Primary  *ref                       `json:"primary_ip"`
	OOB      *ref                       `json:"oob_ip"`
	Custom   map[string]json.RawMessage `json:"custom_fields"`
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "NetBox "+s.client.Host(), func(emit func(*inventory.Draft) error) error {
		b := book{sites: map[int]site{}}
		err := pages(ctx, s, "dcim/sites", "", "id,name,slug,time_zone,region", func(v site) error { b.sites[v.ID] = v; return nil })
		if err != nil {
			return err
		}
		if err := s.list(ctx, &b, "dcim/devices", "dcim/interfaces", "dcim.interface", emit); err != nil || !s.cfg.VMs {
			return err
		}
		return s.list(ctx, &b, "virtualization/virtual-machines", "virtualization/interfaces", "", emit)
	})
}

// A book is what the lists beside the hosts say, by id.
type book struct {
	sites map[int]site
	macs  map[int][]string // by device
	bmcs  map[int]string   // by device: an address of an interface that is for management only
}

// list reads hosts of one kind, after their interfaces. Addresses of management interfaces are
// looked for where NetBox has any, since oob_ip is young and often empty.
func (s *Source) list(ctx context.Context, b *book, hosts, interfaces, object string, emit func(*inventory.Draft) error) error {
	b.macs, b.bmcs = map[int][]string{}, map[int]string{}
	mgmt := map[int]int{}
	err := pages(ctx, s, interfaces, "", "id,mac_address,mgmt_only,device,virtual_machine", func(v netInterface) error {
		owner := v.Device
		if owner == nil {
			owner = v.VM
		}
		switch {
		case owner == nil:
		case v.MgmtOnly:
			mgmt[v.ID] = owner.ID
		case v.MAC != "":
			b.macs[owner.ID] = append(b.macs[owner.ID], v.MAC)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(mgmt) > 0 && object != "" {
		type address struct {
			Address string `json:"address"`
			Type    string `json:"assigned_object_type"`
			ID      int    `json:"assigned_object_id"`
		}
		err := pages(ctx, s, "ipam/ip-addresses", "assigned_to_interface=true", "id,address,assigned_object_type,assigned_object_id", func(v address) error {
			if owner, ok := mgmt[v.ID]; ok && v.Type == object && b.bmcs[owner] == "" {
				b.bmcs[owner] = v.Address
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return pages(ctx, s, hosts, s.cfg.Query, "", func(v device) error { return emit(s.draft(b, &v, hosts)) })
}

// pages reads a list to its end.
func pages[T any](ctx context.Context, s *Source, list, query, fields string, each func(T) error) error {
	v, _ := url.ParseQuery(query)
	v.Set("limit", strconv.Itoa(s.cfg.Page))
	if fields != "" {
		v.Set("fields", fields)
	}
	next := "/api/" + list + "/?" + v.Encode()
	for seen := map[string]bool{}; next != ""; {
		if seen[next] {
			return fmt.Errorf("the pages of %s go round in a circle", list)
		}
		seen[next] = true
		var page struct {
			Next    string `json:"next"`
			Results *[]T   `json:"results"`
		}
		if _, err := s.client.Get(ctx, next, &page); err != nil {
			return lacks(list, fmt.Errorf("cannot list %s: %w", list, err))
		}
		if page.Results == nil {
			return fmt.Errorf("its answer for %s is no list", list)
		}
		for _, one := range *page.Results {
			if err := each(one); err != nil {
				return err
			}
		}
		next = page.Next
	}
	return nil
}

// draft makes a host of a device or a virtual machine.
func (s *Source) draft(b *book, dev *device, list string) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "netbox", Place: s.client.Host()}, list+" "+strconv.Itoa(dev.ID))
	d.Check = s.cal.Check
	for ours, custom := range s.cfg.Fields {
		d.Set(ours, custom, text(dev.Custom[custom]))
	}
	d.Set("name", "name", dev.Name)
	d.Set("serial", "serial", dev.Serial)
	for _, mac := range b.macs[dev.ID] {
		d.Set("mac", "mac_address", mac)
	}
	d.Set("address", "primary_ip", bare(of(dev.Primary).Address))
	if where, ok := b.sites[of(dev.Site).ID]; ok {
		d.Set("site", "site", where.Name)
		d.Set("timezone", "time_zone", where.TimeZone)
		d.Set("region", "region", of(where.Region).Name)
	}
	d.Set("group", "cluster", of(dev.Cluster).Name)
	if bmc := bare(cmp.Or(of(dev.OOB).Address, b.bmcs[dev.ID])); bmc != "" && s.cfg.Fields[s.cfg.BMC] == "" {
		d.Set(s.cfg.BMC, "oob_ip", bmc)
	}
	d.Set("state", "status", of(dev.Status).Value)
	d.Label("model", of(dev.Type).Model)
	d.Label("role", of(dev.Role).Name)
	d.Label("os", of(dev.Platform).Name)
	return d
}

func of(r *ref) ref {
	if r == nil {
		return ref{}
	}
	return *r
}

// bare returns an address without the length of its prefix; an IPv6 address gets its brackets
// from whoever makes a URL of it.
func bare(address string) string {
	a, _, _ := strings.Cut(address, "/")
	return a
}

// text returns a custom field's value: a text, a number, or an object with a name.
func text(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case map[string]any:
		for _, key := range []string{"address", "name", "label", "value"} {
			if s, ok := v[key].(string); ok {
				return s
			}
		}
		return ""
	}
	return strings.Trim(string(raw), `"`)
}
