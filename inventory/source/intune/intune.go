// Package intune reads hosts from Microsoft Graph: the managed devices of Intune, or the devices
// of Entra ID for those that Intune does not manage.
//
// Least right: the application permission DeviceManagementManagedDevices.Read.All for Intune,
// Device.Read.All for Entra. Intune's devices have no time zone and no SMBIOS UUID; Entra's have
// no serial number either, and are recognised by name. Facts are those of the Graph reference
// (managedDevice, device, throttling); no tenant was at hand to prove them.
package intune

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/url"
	"strings"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/calendar"
	"unbrick/inventory/rest"
	"unbrick/inventory/secret"
)

// A Config says which tenant to ask, and as whom: as an application by ClientID and Secret, or
// with a Token that something else obtains.
type Config struct {
	Tenant   string // id or domain
	ClientID string
	Secret   secret.Ref
	Token    secret.Ref

	Entra bool // the devices of Entra ID instead of Intune's

	Graph     string // empty is "https://graph.microsoft.com"; other clouds have others
	Authority string // empty is "https://login.microsoftonline.com"
	CA        string
}

// A Source is the hosts of one tenant.
type Source struct {
	cfg    Config
	client *rest.Client
	cal    *calendar.Calendar
}

// New checks the configuration. It does not reach the tenant.
func New(cfg Config) (*Source, error) {
	cfg.Graph = strings.TrimSuffix(cmp.Or(cfg.Graph, "https://graph.microsoft.com"), "/")
	cfg.Authority = strings.TrimSuffix(cmp.Or(cfg.Authority, "https://login.microsoftonline.com"), "/")
	var auth rest.Auth = rest.Token{Token: cfg.Token}
	switch {
	case (cfg.Token == "") == (cfg.Secret == ""):
		return nil, errors.New("cannot use Graph: give the secret of an application or a token, and not both")
	case cfg.Secret != "" && (cfg.Tenant == "" || cfg.ClientID == ""):
		return nil, errors.New("cannot use Graph: an application needs its tenant and its client id")
	case cfg.Secret != "":
		auth = &rest.OAuth{Path: cfg.Authority + "/" + url.PathEscape(cfg.Tenant) + "/oauth2/v2.0/token", ClientID: cfg.ClientID, Secret: cfg.Secret, Scope: cfg.Graph + "/.default"}
	}
	client, err := rest.New(rest.Options{Name: "Graph", Base: cfg.Graph, CA: cfg.CA, Auth: auth})
	if err != nil {
		return nil, err
	}
	return &Source{cfg: cfg, client: client, cal: calendar.New()}, nil
}

// A device is a managedDevice or a device; the two share few properties.
type device struct {
	ID string `json:"id"`

	// of Intune
	Name         string    `json:"deviceName"`
	Serial       string    `json:"serialNumber"`
	Ethernet     string    `json:"ethernetMacAddress"`
	WiFi         string    `json:"wiFiMacAddress"`
	LastSync     time.Time `json:"lastSyncDateTime"`
	OS           string    `json:"osVersion"`
	Model        string    `json:"model"`
	User         string    `json:"userPrincipalName"`
	Registration string    `json:"deviceRegistrationState"`
	AzureID      string    `json:"azureADDeviceId"`

	// of Entra
	DisplayName string     `json:"displayName"`
	DeviceID    string     `json:"deviceId"`
	SignIn      *time.Time `json:"approximateLastSignInDateTime"`
	Version     string     `json:"operatingSystemVersion"`
	Enabled     *bool      `json:"accountEnabled"`
}

// What is asked for. The smallest answer is the quickest, and wiFiMacAddress comes only if it
// is named.
const (
	managed = "/v1.0/deviceManagement/managedDevices?$filter=operatingSystem%20eq%20'Windows'&$select=" +
		"id,deviceName,serialNumber,ethernetMacAddress,wiFiMacAddress,lastSyncDateTime,osVersion,model,userPrincipalName,deviceRegistrationState,azureADDeviceId&$top=1000"
	devices = "/v1.0/devices?$filter=operatingSystem%20eq%20'Windows'&$select=" +
		"id,displayName,deviceId,approximateLastSignInDateTime,operatingSystemVersion,accountEnabled,model&$top=999"
)

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	what, path := "Intune", managed
	if s.cfg.Entra {
		what, path = "Entra ID", devices
	}
	return inventory.Read(ctx, strings.TrimSpace(what+" "+s.cfg.Tenant), func(emit func(*inventory.Draft) error) error {
		return s.pages(ctx, path, emit)
	})
}

// pages follows the links to the next page, whose form is Graph's own business.
func (s *Source) pages(ctx context.Context, path string, emit func(*inventory.Draft) error) error {
	for seen := map[string]bool{}; path != ""; {
		if seen[path] {
			return errors.New("its pages go round in a circle")
		}
		seen[path] = true
		var page struct {
			Value *[]device `json:"value"`
			Next  string    `json:"@odata.nextLink"`
		}
		if _, err := s.client.Get(ctx, path, &page); err != nil {
			return s.explain(err)
		}
		if page.Value == nil {
			return errors.New("its answer is no list")
		}
		for i := range *page.Value {
			draft := s.managed
			if s.cfg.Entra {
				draft = s.device
			}
			if err := emit(draft(&(*page.Value)[i])); err != nil {
				return err
			}
		}
		path = page.Next
	}
	return nil
}

// managed makes a host of a device that Intune manages. Windows looks in every eight hours.
func (s *Source) managed(dev *device) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "intune", Place: cmp.Or(s.cfg.Tenant, s.client.Host())}, dev.ID)
	d.Check = s.cal.Check
	d.Set("name", "deviceName", dev.Name)
	d.Set("serial", "serialNumber", dev.Serial)
	d.Set("mac", "ethernetMacAddress", dev.Ethernet)
	d.Set("mac", "wiFiMacAddress", dev.WiFi)
	if dev.LastSync.Year() > 1 { // 0001-01-01 is never
		d.Seen(dev.LastSync, 8*time.Hour)
	} else {
		d.Host.State = inventory.NeverOnline
	}
	d.Label("os", dev.OS)
	d.Label("model", dev.Model)
	d.Label("user", dev.User)
	d.Label("entra_device", dev.AzureID)
	return d
}

// device makes a host of one that Entra ID knows. Its time of last sign-in is written at most
// every fourteen days.
func (s *Source) device(dev *device) *inventory.Draft {
	d := inventory.NewDraft(inventory.Origin{Source: "entra", Place: cmp.Or(s.cfg.Tenant, s.client.Host())}, dev.ID)
	d.Set("name", "displayName", dev.DisplayName)
	switch {
	case dev.SignIn != nil && dev.SignIn.Year() > 1:
		d.Seen(*dev.SignIn, 14*24*time.Hour)
	case dev.Enabled != nil: // the time is empty for a host that never signed in
		d.Host.State = inventory.NeverOnline
	}
	if dev.Enabled != nil && !*dev.Enabled {
		d.Host.State = inventory.Retired
	}
	d.Label("os", dev.Version)
	d.Label("model", dev.Model)
	d.Label("entra_device", dev.DeviceID)
	return d
}
