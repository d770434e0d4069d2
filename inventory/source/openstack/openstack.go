// Package openstack lists the servers of an OpenStack cloud, as virtual hosts with the way in
// by rescue mode. Its [Client] is what that driver asks too.
//
// Least right: to list the servers of the project (role reader where the cloud has it, else
// member), and with Windows to see images and volumes; with AllProjects an administrator's. Nova gives a server's UUID to its guest as SMBIOS
// UUID and, as it comes, as serial number (libvirt.sysinfo_serial = unique), so that hosts are
// known by the UUID. Facts are those of the API reference (docs.openstack.org/api-ref/compute);
// no cloud was at hand to prove them.
package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"unbrick/inventory"
)

// A Config says which servers of a cloud are hosts. Those that fit all of it are.
type Config struct {
	Cloud       string // in clouds.yaml; what OS_CLOUD or OS_AUTH_URL say if empty
	AllProjects bool   // of every project: for administrators

	Names    []string          // names or UUIDs; all if empty
	Metadata map[string]string // servers that have all of these
	Tag      string
	Zone     string // an availability zone
	Windows  bool   // only servers whose image says os_type=windows, or os_distro; servers that start from volumes do not tell
	Running  bool   // only those that run: a host that loops does

	Fields map[string]string // metadata for a field: {"tier": "criticality", "site": "office"}
}

// A Source is the servers of one cloud.
type Source struct {
	cfg    Config
	client *Client
	bad    error // credentials that are not found: whoever asks is told
}

// tries of a request that only reads.
const tries = 5

// New checks the configuration. It does not reach the cloud, and whoever never asks it needs no
// credentials.
func New(cfg Config) (*Source, error) {
	client, bad := Dial(Connection{Cloud: cfg.Cloud, Tries: tries})
	s, err := NewWith(cfg, client)
	if err == nil {
		s.bad = bad
	}
	return s, err
}

// NewWith is New with a client that is there already.
func NewWith(cfg Config, client *Client) (*Source, error) {
	if err := inventory.CheckFields(cfg.Fields); err != nil {
		return nil, fmt.Errorf("cannot use OpenStack: %w", err)
	}
	return &Source{cfg: cfg, client: client}, nil
}

// A Server is what is read of one.
type Server struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Status   string            `json:"status"`
	Task     string            `json:"OS-EXT-STS:task_state"` // empty: nothing is being done to it
	Zone     string            `json:"OS-EXT-AZ:availability_zone"`
	Locked   bool              `json:"locked"`
	Metadata map[string]string `json:"metadata"`
	Image    json.RawMessage   `json:"image"` // "" if it starts from a volume
	Volumes  []struct {
		ID string `json:"id"`
	} `json:"os-extended-volumes:volumes_attached"`
	Flavor struct {
		Name  string            `json:"original_name"`
		Specs map[string]string `json:"extra_specs"` // if the policy shows them
	} `json:"flavor"`
	Fault struct {
		Message string `json:"message"`
	} `json:"fault"`
	Addresses map[string][]struct {
		MAC  string `json:"OS-EXT-IPS-MAC:mac_addr"`
		Addr string `json:"addr"`
		Type string `json:"OS-EXT-IPS:type"` // fixed, floating
	} `json:"addresses"`
}

// ImageID returns the image that the server starts from, empty if it starts from a volume.
func (s *Server) ImageID() string {
	var image struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(s.Image, &image) // a text says that there is none
	return image.ID
}

// Check makes sure that the first row can be read.
func (s *Source) Check(ctx context.Context) error {
	if s.bad != nil {
		return s.bad
	}
	cloud, err := s.client.Open(ctx)
	if err != nil {
		return err
	}
	err = servers.List(cloud.Compute, servers.ListOpts{Limit: 1, AllTenants: s.cfg.AllProjects}).EachPage(ctx,
		func(context.Context, pagination.Page) (bool, error) { return false, nil })
	if err != nil {
		return fmt.Errorf("cannot list the servers of %s: %w", s.client.Place(), Explain(ctx, err))
	}
	return nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	if s.bad != nil {
		return func(yield func(inventory.Host, error) bool) { yield(inventory.Host{}, s.bad) }
	}
	return inventory.Read(ctx, "OpenStack "+s.client.Place(), func(emit func(*inventory.Draft) error) error {
		cloud, err := s.client.Open(ctx)
		if err != nil {
			return err
		}
		r := reading{s, cloud, map[string]bool{}, map[string]bool{}}
		for _, n := range s.cfg.Names {
			r.missing[n] = true
		}
		if err := r.list(ctx, emit); err != nil {
			return err
		}
		for _, n := range slices.Sorted(maps.Keys(r.missing)) {
			note := inventory.Note(s.client.Place(), fmt.Sprintf("no server %q", n), "a name or a UUID of a server that is there, and that the rest of the configuration lets through")
			if err := emit(note); err != nil {
				return err
			}
		}
		return nil
	})
}

// A reading is one way through the list.
type reading struct {
	*Source
	cloud   *Services
	missing map[string]bool // names that nobody had so far
	windows map[string]bool // images, and whether they are of Windows
}

// list reads the servers, in the pages that the cloud makes.
func (r *reading) list(ctx context.Context, emit func(*inventory.Draft) error) error {
	var stop error
	opts := servers.ListOpts{AllTenants: r.cfg.AllProjects, Tags: r.cfg.Tag, AvailabilityZone: r.cfg.Zone}
	err := servers.List(r.cloud.Compute, opts).EachPage(ctx, func(ctx context.Context, page pagination.Page) (bool, error) {
		var all []Server
		if stop = servers.ExtractServersInto(page, &all); stop != nil {
			stop = fmt.Errorf("its answer is no list of servers: %w", stop)
			return false, nil
		}
		for i := range all {
			var wanted bool
			if wanted, stop = r.wants(ctx, &all[i]); stop == nil && wanted {
				stop = emit(r.draft(&all[i]))
			}
			if stop != nil {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("cannot list the servers: %w", Explain(ctx, err))
	}
	return stop
}

// wants says whether a server is one that is asked for. A server that is deleted is no host.
func (r *reading) wants(ctx context.Context, s *Server) (bool, error) {
	named := slices.Contains(r.cfg.Names, s.Name) || slices.Contains(r.cfg.Names, s.ID)
	switch {
	case s.Status == "DELETED" || s.Status == "SOFT_DELETED",
		len(r.cfg.Names) > 0 && !named,
		r.cfg.Running && s.Status != "ACTIVE":
		return false, nil
	}
	for k, v := range r.cfg.Metadata {
		if s.Metadata[k] != v {
			return false, nil
		}
	}
	if r.cfg.Windows {
		if windows, err := r.isWindows(ctx, s); err != nil || !windows {
			return false, err
		}
	}
	delete(r.missing, s.Name)
	delete(r.missing, s.ID)
	return true, nil
}

// isWindows says whether a server starts from an image of Windows, or from a volume that was made
// from one.
func (r *reading) isWindows(ctx context.Context, s *Server) (bool, error) {
	if id := s.ImageID(); id != "" {
		return r.ofWindows(ctx, id)
	}
	for _, v := range s.Volumes {
		if r.cloud.Volume == nil {
			break
		}
		volume, err := volumes.Get(ctx, r.cloud.Volume, v.ID).Extract()
		if err = Explain(ctx, err); Is(err, http.StatusNotFound) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("cannot read volume %s: %w", v.ID, err)
		}
		if m := volume.VolumeImageMetadata; volume.Bootable == "true" && (m["os_type"] == windows || m["os_distro"] == windows) {
			return true, nil
		}
	}
	return false, nil
}

// windows is the value that images of Windows have (Glance's "useful image properties").
const windows = "windows"

// ofWindows says whether an image is of Windows. One that is gone does not tell.
func (r *reading) ofWindows(ctx context.Context, id string) (bool, error) {
	if known, ok := r.windows[id]; ok {
		return known, nil
	}
	image, err := images.Get(ctx, r.cloud.Image, id).Extract()
	if err = Explain(ctx, err); Is(err, http.StatusNotFound) {
		r.windows[id] = false
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read image %s: %w", id, err)
	}
	r.windows[id] = image.Properties["os_type"] == windows || image.Properties["os_distro"] == windows
	return r.windows[id], nil
}

// draft makes a host of a server.
func (r *reading) draft(s *Server) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "openstack", Place: r.client.Place()}, "server "+s.ID)
	for ours, key := range r.cfg.Fields {
		d.Set(ours, "metadata "+key, s.Metadata[key])
	}
	d.Name("name", s.Name) // of its own nowhere
	d.Twin(s.ID)
	d.UUID("id", s.ID)
	for _, network := range slices.Sorted(maps.Keys(s.Addresses)) {
		for _, a := range s.Addresses[network] {
			d.MAC("mac_addr", a.MAC)
			if a.Type != "floating" {
				d.Text(&d.Host.Address, "addr", a.Addr)
			}
		}
	}
	d.Text(&d.Host.Site, "availability_zone", s.Zone)
	d.Text(&d.Host.Region, "region", r.cloud.Region)
	for _, key := range slices.Sorted(maps.Keys(s.Metadata)) {
		d.Label(key, s.Metadata[key])
	}
	d.Label("model", s.Flavor.Name)
	d.Label("power", strings.ToLower(s.Status))
	address := s.ID
	if r.cfg.Cloud != "" {
		address = r.cfg.Cloud + "/" + s.ID
	}
	d.Route("openstack", "id", address)
	return d
}
