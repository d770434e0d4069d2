// Package falcon asks the console of CrowdStrike's sensor when it last saw a host: proof of
// life also where a firewall hides the host from everything else.
//
// A sensor that looks in every few minutes proves nothing of a host that crashes in between; so
// only what was seen after a moment counts, and whoever asks takes the end of the repair.
package falcon

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
	"unbrick/remediate"
)

// A Config says which console to ask, and as which API client. It needs the scope Hosts: Read.
type Config struct {
	URL      string // https://api.crowdstrike.com, or that of the region
	CA       string
	ClientID string
	Secret   secret.Ref
	// Slack is how much later than ours the console's clock may be; 30 s if 0.
	Slack time.Duration
}

// A Console is one tenant.
type Console struct {
	client *rest.Client
	slack  time.Duration
}

var _ remediate.Witness = (*Console)(nil)

// New checks the configuration. It does not reach the console.
func New(cfg Config) (*Console, error) {
	client, err := rest.New(rest.Options{
		Name: "the Falcon console", Base: cmp.Or(cfg.URL, "https://api.crowdstrike.com"), CA: cfg.CA, MaxBody: 8 << 20,
		Auth: &rest.OAuth{Path: "/oauth2/token", ClientID: cfg.ClientID, Secret: cfg.Secret},
	})
	if err != nil {
		return nil, err
	}
	return &Console{client: client, slack: cmp.Or(cfg.Slack, 30*time.Second)}, nil
}

// A device is what the console says of a host, as much of it as matters here.
type device struct {
	ID       string    `json:"device_id"`
	Hostname string    `json:"hostname"`
	Serial   string    `json:"serial_number"`
	LastSeen time.Time `json:"last_seen"`
	Reduced  string    `json:"reduced_functionality_mode"` // "yes": the sensor runs without its driver
}

// SeenAfter implements remediate.Witness. Of several records under one name, as a host leaves
// behind that was installed anew, the serial decides, and else the one seen last.
func (c *Console) SeenAfter(ctx context.Context, h inventory.Host, since time.Time) (string, error) {
	name, _, _ := strings.Cut(h.Name, ".")
	if strings.ContainsAny(name, `'"\[]*`) {
		return "", fmt.Errorf("cannot ask the Falcon console for host %q: no such name can be asked for", h.Name)
	}
	var found struct {
		Resources []string `json:"resources"`
	}
	query := url.Values{"filter": {filter(name)}, "sort": {"last_seen.desc"}, "limit": {"100"}}
	if _, err := c.client.Get(ctx, "/devices/queries/devices/v1?"+query.Encode(), &found); err != nil {
		return "", err
	}
	if len(found.Resources) == 0 {
		return "", nil
	}
	var details struct {
		Resources []device `json:"resources"`
	}
	if _, err := c.client.Query(ctx, "/devices/entities/devices/v2", map[string]any{"ids": found.Resources}, &details); err != nil {
		return "", err
	}
	var best device
	for _, d := range details.Resources {
		if !inventory.SameName(d.Hostname, name) || h.Serial != "" && d.Serial != "" && !strings.EqualFold(d.Serial, h.Serial) {
			continue
		}
		if d.LastSeen.After(best.LastSeen) {
			best = d
		}
	}
	if !best.LastSeen.After(since.Add(c.slack)) {
		return "", nil
	}
	evidence := "its sensor was seen by the Falcon console at " + best.LastSeen.UTC().Format(time.RFC3339)
	if best.Reduced == "yes" {
		evidence += ", with reduced functionality"
	}
	return evidence, nil
}

// filter asks for a name in the console's query language, where values may or may not depend on
// case and match parts of names: what comes back is compared here.
func filter(name string) string {
	asked := []string{"hostname:'" + name + "'"}
	for _, other := range []string{strings.ToUpper(name), strings.ToLower(name)} {
		if other != name {
			asked = append(asked, "hostname:'"+other+"'")
		}
	}
	return strings.Join(asked, ",")
}
