// Package gce lists the instances of Google Compute Engine, as virtual hosts with the way in by
// which their disks can be swapped. Its [Client] is what that driver asks too.
//
// Credentials are found where Google's own tools look for them: GOOGLE_APPLICATION_CREDENTIALS,
// gcloud auth application-default login, workload identity, the account of the instance that
// this runs on. Least rights: compute.instances.list (role Compute Viewer has it), and
// compute.instanceGroups.get and .list where a group is named.
//
// The API knows neither the SMBIOS UUID nor the serial number that Windows sees, so a host is
// known by its name, and is merged with what other sources say of that name. Facts are those of
// the API's reference (cloud.google.com/compute/docs/reference/rest/v1); no project was at hand
// to prove them.
package gce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"unbrick/inventory"
)

// A Config says which instances of which projects are hosts. Those that fit all of it are.
type Config struct {
	// Projects are ids of projects; GOOGLE_CLOUD_PROJECT's if empty.
	Projects []string
	Zones    []string // all if empty
	Names    []string // names or numeric ids; all if empty
	Tag      string   // a network tag
	Filter   string   // an expression of the API's, as gcloud's --filter: "labels.os=windows"
	Group    string   // ZONE/NAME of an instance group: only its members

	Windows bool // only instances whose boot disk tells that it is Windows
	Running bool // only those that run: a host that loops does

	Fields   map[string]string // label for a field: {"tier": "criticality", "site": "office"}
	Endpoint string            // [Endpoint] if empty
}

// A Source is the instances of some projects.
type Source struct {
	cfg    Config
	client *Client
}

// tries of a request that only reads.
const tries = 5

// New checks the configuration. It does not reach the API.
func New(cfg Config) (*Source, error) {
	client, err := Dial(Connection{Endpoint: cfg.Endpoint, Tries: tries})
	if err != nil {
		return nil, err
	}
	return NewWith(cfg, client)
}

// NewWith is New with a client that is there already.
func NewWith(cfg Config, client *Client) (*Source, error) {
	if len(cfg.Projects) == 0 {
		if p := cmp.Or(os.Getenv("GOOGLE_CLOUD_PROJECT"), os.Getenv("CLOUDSDK_CORE_PROJECT")); p != "" {
			cfg.Projects = []string{p}
		}
	}
	for _, p := range cfg.Projects {
		if !project.MatchString(p) {
			return nil, fmt.Errorf("cannot use Compute Engine: %q is no id of a project", p)
		}
	}
	if len(cfg.Projects) == 0 {
		return nil, errors.New("cannot use Compute Engine: no project\nname one in projects: or GOOGLE_CLOUD_PROJECT")
	}
	if zone, name, ok := strings.Cut(cfg.Group, "/"); cfg.Group != "" && (!ok || zone == "" || name == "") {
		return nil, fmt.Errorf("cannot use Compute Engine: group %q is not ZONE/NAME", cfg.Group)
	}
	if err := inventory.CheckFields(cfg.Fields); err != nil {
		return nil, fmt.Errorf("cannot use Compute Engine: %w", err)
	}
	return &Source{cfg, client}, nil
}

// project is an id, with the domain of old ones (example.com:p).
var project = regexp.MustCompile(`^([a-z0-9.-]+:)?[a-z][a-z0-9-]{2,61}[a-z0-9]$`)

// Check makes sure that the first row can be read.
func (s *Source) Check(ctx context.Context) error {
	for _, p := range s.cfg.Projects {
		var page struct{}
		err := s.client.Get(ctx, "projects/"+p+"/aggregated/instances", url.Values{"maxResults": {"1"}}, &page)
		if err != nil {
			return fmt.Errorf("cannot list the instances of project %s: %w", p, err)
		}
	}
	return nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Compute Engine", func(emit func(*inventory.Draft) error) error {
		missing := map[string]bool{}
		var dark []string
		for _, n := range s.cfg.Names {
			missing[n] = true
		}
		for _, p := range s.cfg.Projects {
			if err := s.list(ctx, p, missing, &dark, emit); err != nil {
				return err
			}
		}
		if len(dark) > 0 {
			return &inventory.PartialError{Missing: strings.Join(dark, " and ") + " does not answer", Want: "another try when it does; zones: names those that do"}
		}
		for _, n := range slices.Sorted(maps.Keys(missing)) {
			note := inventory.Note("Compute Engine", fmt.Sprintf("no instance %q", n), "a name or an id of an instance that is there, and that the filter lets through")
			if err := emit(note); err != nil {
				return err
			}
		}
		return nil
	})
}

// A page is one of an aggregated list: by zone.
type page struct {
	Items map[string]struct {
		Instances []Instance `json:"instances"`
	} `json:"items"`
	Next        string   `json:"nextPageToken"`
	Unreachable []string `json:"unreachables"`
}

// list reads the instances of one project. A zone that is asked for and does not answer is added
// to dark, and does not keep the others from being read.
func (s *Source) list(ctx context.Context, project string, missing map[string]bool, dark *[]string, emit func(*inventory.Draft) error) error {
	members, err := s.members(ctx, project)
	if err != nil {
		return err
	}
	q := url.Values{"maxResults": {"500"}, "returnPartialSuccess": {"true"}}
	if s.cfg.Filter != "" {
		q.Set("filter", s.cfg.Filter)
	}
	for seen := map[string]bool{}; ; {
		var p page
		if err := s.client.Get(ctx, "projects/"+project+"/aggregated/instances", q, &p); err != nil {
			return fmt.Errorf("cannot list the instances of project %s: %w", project, err)
		}
		for _, where := range p.Unreachable {
			zone := Last(where)
			if name := "zone " + zone + " of project " + project; (len(s.cfg.Zones) == 0 || slices.Contains(s.cfg.Zones, zone)) && !slices.Contains(*dark, name) {
				*dark = append(*dark, name)
			}
		}
		for _, zone := range slices.Sorted(maps.Keys(p.Items)) {
			for _, i := range p.Items[zone].Instances {
				if !s.wants(&i, members, missing) {
					continue
				}
				if err := emit(s.draft(project, &i)); err != nil {
					return err
				}
			}
		}
		if p.Next == "" {
			return nil
		}
		if seen[p.Next] {
			return errors.New("the pages of its list go round in a circle")
		}
		seen[p.Next] = true
		q.Set("pageToken", p.Next)
	}
}

// members returns the links of the instances of the group; nil if none is named.
func (s *Source) members(ctx context.Context, project string) (map[string]bool, error) {
	if s.cfg.Group == "" {
		return nil, nil
	}
	zone, name, _ := strings.Cut(s.cfg.Group, "/")
	all, q := map[string]bool{}, url.Values{}
	for {
		var p struct {
			Items []struct {
				Instance string `json:"instance"`
			} `json:"items"`
			Next string `json:"nextPageToken"`
		}
		path := fmt.Sprintf("projects/%s/zones/%s/instanceGroups/%s/listInstances", project, url.PathEscape(zone), url.PathEscape(name))
		if err := s.client.Post(ctx, path, q, struct{}{}, &p); err != nil {
			return nil, fmt.Errorf("cannot list the members of group %s: %w", s.cfg.Group, err)
		}
		for _, i := range p.Items {
			all[Partial(i.Instance)] = true
		}
		if p.Next == "" || p.Next == q.Get("pageToken") {
			return all, nil
		}
		q.Set("pageToken", p.Next)
	}
}

// wants says whether an instance is one that is asked for.
func (s *Source) wants(i *Instance, members, missing map[string]bool) bool {
	c := s.cfg
	named := slices.Contains(c.Names, i.Name) || slices.Contains(c.Names, i.ID)
	boot := i.Boot()
	switch {
	case len(c.Names) > 0 && !named,
		len(c.Zones) > 0 && !slices.Contains(c.Zones, Last(i.Zone)),
		c.Tag != "" && !slices.Contains(i.Tags.Items, c.Tag),
		members != nil && !members[Partial(i.SelfLink)],
		c.Running && i.Status != "RUNNING",
		c.Windows && (boot == nil || !boot.Windows()):
		return false
	}
	delete(missing, i.Name)
	delete(missing, i.ID)
	return true
}

// draft makes a host of an instance.
func (s *Source) draft(project string, i *Instance) *inventory.Draft {
	zone := Last(i.Zone)
	d := inventory.NewDraft(inventory.Origin{Source: "gce", Place: project + "/" + zone}, "instance "+i.ID)
	for ours, label := range s.cfg.Fields {
		d.Set(ours, "label "+label, i.Labels[label])
	}
	d.Name("name", i.Name) // of its own in its zone alone
	d.Twin(i.ID)
	d.Text(&d.Host.Site, "zone", zone)
	d.Text(&d.Host.Region, "zone", Region(zone))
	if len(i.Interfaces) > 0 {
		d.Text(&d.Host.Address, "networkIP", i.Interfaces[0].IP)
	}
	for _, key := range slices.Sorted(maps.Keys(i.Labels)) {
		d.Label(key, i.Labels[key])
	}
	d.Label("instance", i.ID)
	d.Label("model", Last(i.MachineType))
	d.Label("power", strings.ToLower(i.Status))
	d.Route("gce", "selfLink", project+"/"+zone+"/"+i.Name)
	return d
}
