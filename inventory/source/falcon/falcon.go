// Package falcon reads hosts from the console of CrowdStrike's sensor, which knows best when a
// host was last alive: of the hosts that an incident has hit it is the last thing known.
//
// All ids are listed first, by scrolling, and details are asked for in batches after that: a
// scroll goes stale within two minutes, and whoever takes the hosts may be slower. Least right:
// an API client with the scope Hosts: Read. Facts are those of the collection "Hosts" at
// developer.crowdstrike.com/api-reference; no tenant was at hand to prove them.
package falcon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
)

// A Config says which console to ask, and as which API client.
type Config struct {
	URL      string // https://api.crowdstrike.com if empty; that of the region otherwise
	CA       string
	ClientID string
	Secret   secret.Ref

	// Filter picks hosts in Falcon's query language, beside platform_name:'Windows'.
	Filter string
	// Affected lists only the hosts that were last seen while the incident's window was open,
	// and not since; nil lists all, for [inventory.Incident.Judge] to decide.
	Affected *inventory.Incident
	Page     int // ids in one answer and details in one question; 5,000 if 0
}

// A Source is the hosts of one tenant.
type Source struct {
	cfg    Config
	filter string
	client *rest.Client
	cal    *calendar.Calendar
}

// most is what a page of ids and a question for details may have (reference of
// QueryDevicesByFilterScroll and PostDeviceDetailsV2).
const most = 5000

// New checks the configuration. It does not reach the console.
func New(cfg Config) (*Source, error) {
	cfg.Page = cmp.Or(cfg.Page, most)
	if cfg.Page < 1 || cfg.Page > most {
		return nil, fmt.Errorf("cannot use Falcon: a page has 1 to %d hosts", most)
	}
	if cfg.ClientID == "" || cfg.Secret == "" {
		return nil, errors.New("cannot use Falcon: give the client id and the secret of an API client with the scope Hosts: Read")
	}
	client, err := rest.New(rest.Options{Name: "the Falcon console", Base: cmp.Or(cfg.URL, "https://api.crowdstrike.com"), CA: cfg.CA,
		Auth: &rest.OAuth{Path: "/oauth2/token", ClientID: cfg.ClientID, Secret: cfg.Secret}})
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, client: client, filter: "platform_name:'Windows'", cal: calendar.New()}
	if i := cfg.Affected; i != nil {
		s.filter += fmt.Sprintf("+last_seen:>='%s'+last_seen:<='%s'", i.From.UTC().Format(time.RFC3339), i.Until.UTC().Add(5*time.Minute).Format(time.RFC3339))
	}
	if cfg.Filter != "" {
		s.filter += "+(" + cfg.Filter + ")"
	}
	return s, nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "Falcon "+s.client.Host(), func(emit func(*inventory.Draft) error) error {
		ids, err := s.ids(ctx)
		if err != nil {
			return err
		}
		missing := 0
		for len(ids) > 0 {
			n := min(s.cfg.Page, len(ids))
			devices, err := s.details(ctx, ids[:n])
			if err != nil {
				return err
			}
			missing += n - len(devices)
			for i := range devices {
				if err := emit(s.draft(&devices[i])); err != nil {
					return err
				}
			}
			ids = ids[n:]
		}
		if missing > 0 {
			return emit(inventory.Note(s.client.Host(), fmt.Sprintf("%d hosts are listed and have no details", missing), "hosts that were not deleted meanwhile"))
		}
		return nil
	})
}

// failures are what Falcon may say beside an answer with status 200.
type failures []struct {
	Code int `json:"code"`
}

func (f failures) err() error {
	if len(f) == 0 {
		return nil
	}
	return fmt.Errorf("the Falcon console answers with error %d", f[0].Code)
}

// ids lists the hosts.
func (s *Source) ids(ctx context.Context) (ids []string, err error) {
	seen := map[string]bool{}
	for offset := ""; ; {
		v := url.Values{"filter": {s.filter}, "limit": {strconv.Itoa(s.cfg.Page)}, "sort": {"device_id.asc"}}
		if offset != "" {
			v.Set("offset", offset)
		}
		var page struct {
			Meta struct {
				Pagination struct {
					Total  int    `json:"total"`
					Offset string `json:"offset"`
				} `json:"pagination"`
			} `json:"meta"`
			Errors    failures `json:"errors"`
			Resources []string `json:"resources"`
		}
		if _, err := s.client.Get(ctx, "/devices/queries/devices-scroll/v1?"+v.Encode(), &page); err != nil {
			return nil, lacks(err)
		}
		if err := page.Errors.err(); err != nil {
			return nil, err
		}
		for _, id := range page.Resources {
			if !seen[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
		offset = page.Meta.Pagination.Offset
		if offset == "" || len(page.Resources) == 0 {
			if total := page.Meta.Pagination.Total; len(ids) < total*99/100 { // hosts come and go while one reads
				return nil, fmt.Errorf("it has %d hosts and lists %d: read it again", total, len(ids))
			}
			return ids, nil
		}
	}
}

// A device is what the console says of a host, as much of it as matters here.
type device struct {
	ID           string    `json:"device_id"`
	Hostname     string    `json:"hostname"`
	Serial       string    `json:"serial_number"`
	MAC          string    `json:"mac_address"`
	LocalIP      string    `json:"local_ip"`
	Domain       string    `json:"machine_domain"`
	Site         string    `json:"site_name"`
	LastSeen     time.Time `json:"last_seen"`
	Model        string    `json:"system_product_name"`
	OS           string    `json:"os_version"`
	Product      string    `json:"product_type_desc"`
	Reduced      string    `json:"reduced_functionality_mode"`
	InstanceID   string    `json:"instance_id"`
	ProviderName string    `json:"service_provider"`
}

// details asks for what is known of some hosts.
func (s *Source) details(ctx context.Context, ids []string) ([]device, error) {
	var answer struct {
		Errors    failures `json:"errors"`
		Resources []device `json:"resources"`
	}
	if _, err := s.client.Query(ctx, "/devices/entities/devices/v2", map[string]any{"ids": ids}, &answer); err != nil {
		return nil, lacks(err)
	}
	// A host that was deleted meanwhile is an error 404 beside the others' details.
	if len(answer.Resources) == 0 {
		return nil, answer.Errors.err()
	}
	return answer.Resources, nil
}

// draft makes a host of a device.
func (s *Source) draft(dev *device) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "falcon", Place: s.client.Host()}, dev.ID)
	d.Check = s.cal.Check
	d.Seen(dev.LastSeen, 0)
	d.Set("name", "hostname", dev.Hostname)
	d.Set("serial", "serial_number", dev.Serial)
	d.Set("mac", "mac_address", dev.MAC)
	if name := d.Host.Name; name != "" && strings.Contains(dev.Domain, ".") && !strings.Contains(name, ".") {
		d.Set("address", "machine_domain", strings.ToLower(name+"."+dev.Domain))
	}
	d.Set("address", "local_ip", dev.LocalIP)
	d.Set("site", "site_name", dev.Site)
	if dev.Product == "Domain Controller" { // the others cannot log on without it
		d.Host.Tier = inventory.Dependency
	}
	d.Label("model", dev.Model)
	d.Label("os", dev.OS)
	d.Label("product", dev.Product)
	d.Label("instance", dev.InstanceID)
	d.Label("cloud", dev.ProviderName)
	if dev.Reduced == "yes" {
		d.Label("sensor", "reduced functionality")
	}
	return d
}
