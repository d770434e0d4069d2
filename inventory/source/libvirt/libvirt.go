// Package libvirt lists the domains of a hypervisor that libvirt manages, as virtual hosts with
// the way in by which their disks can be swapped.
//
// A hypervisor runs Linux too: Only picks domains by their state, their title or what
// virt-install and virt-manager write down of the operating system (libosinfo). The least right
// is that of libvirt's read-only socket.
package libvirt

import (
	"context"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/inventory"
)

// A Config says which hypervisor to ask, and which of its domains are hosts.
type Config struct {
	// URI is libvirt's own, without a domain: qemu+unix:///system, qemu://hv1/system.
	URI  string
	Site string // of all of them

	Windows bool   // only domains that say that they are Windows
	Title   string // only domains with this in their title or description, in any case
	Running bool   // only domains that run: a host that loops does
}

// A Source is the domains of one hypervisor.
type Source struct {
	cfg Config
	uri *url.URL
}

// New checks the configuration. It does not reach the hypervisor.
func New(cfg Config) (*Source, error) {
	u, err := url.Parse(cfg.URI)
	if err != nil || u.Scheme == "" || u.User != nil || u.Query().Has("name") {
		return nil, fmt.Errorf("%q is no address of a hypervisor\nwrite qemu+unix:///system or qemu://HYPERVISOR/system", cfg.URI)
	}
	if strings.HasSuffix(u.Scheme, "ssh") {
		return nil, fmt.Errorf("%q: unbrick does not reach libvirt by SSH\nforward its socket with ssh -L, and write qemu+unix:///system?socket=PATH", cfg.URI)
	}
	return &Source{cfg, u}, nil
}

// Hosts implements [inventory.Source].
func (s *Source) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "libvirt "+s.cfg.URI, func(emit func(*inventory.Draft) error) error {
		l, err := connect(ctx, s.uri)
		if err != nil {
			return lacks(err)
		}
		defer l.close()
		all, _, err := l.ConnectListAllDomains(1, 0)
		if err != nil {
			return l.because("cannot list the domains", err)
		}
		slices.SortFunc(all, func(a, b lib.Domain) int { return strings.Compare(a.Name, b.Name) })
		for _, dom := range all {
			if s.cfg.Running && dom.ID < 0 {
				continue
			}
			text, err := l.DomainGetXMLDesc(dom, lib.DomainXMLInactive)
			if is := (lib.Error{}); errors.As(err, &is) && lib.ErrorNumber(is.Code) == lib.ErrNoDomain {
				continue // it went just now
			}
			if err != nil {
				return l.because("cannot read domain "+dom.Name, err)
			}
			d, err := s.draft(dom, text)
			if err == nil && d != nil {
				err = emit(d)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// A domain is what is read of the XML of one.
type domain struct {
	Title       string `xml:"title"`
	Description string `xml:"description"`
	OS          []struct {
		ID string `xml:"id,attr"` // http://microsoft.com/win/10
	} `xml:"metadata>libosinfo>os"`
	SMBIOS []struct {
		Name  string `xml:"name,attr"`
		Value string `xml:",chardata"`
	} `xml:"sysinfo>system>entry"`
	Interfaces []struct {
		MAC struct {
			Address string `xml:"address,attr"`
		} `xml:"mac"`
	} `xml:"devices>interface"`
}

// draft makes a host of a domain, or nothing if it is none that is asked for.
func (s *Source) draft(dom lib.Domain, text string) (*inventory.Draft, error) {
	var x domain
	if err := xml.Unmarshal([]byte(text), &x); err != nil {
		return nil, fmt.Errorf("cannot read the XML of domain %s: %w", dom.Name, err)
	}
	windows := false
	for _, os := range x.OS {
		windows = windows || strings.Contains(strings.ToLower(os.ID), "microsoft.com/")
	}
	said := strings.ToLower(x.Title + "\n" + x.Description)
	if s.cfg.Windows && !windows || !strings.Contains(said, strings.ToLower(s.cfg.Title)) {
		return nil, nil
	}
	u := hex.EncodeToString(dom.UUID[:])
	uuid := strings.Join([]string{u[:8], u[8:12], u[12:16], u[16:20], u[20:]}, "-")
	d := inventory.NewDraft(inventory.Origin{Source: "libvirt", Place: s.cfg.URI}, dom.Name)
	d.Name("name", dom.Name)
	d.UUID("uuid", uuid) // SMBIOS shows it, unless sysinfo says another
	for _, e := range x.SMBIOS {
		if e.Name == "serial" {
			d.Serial("sysinfo serial", e.Value)
		}
	}
	for _, i := range x.Interfaces {
		d.MAC("mac", i.MAC.Address)
	}
	d.Text(&d.Host.Site, "site", s.cfg.Site)
	d.Label("title", x.Title)
	d.Route("libvirt", "address", s.address(uuid))
	return d, nil
}

// address is that of a domain, as the driver takes it: by UUID, since names change.
func (s *Source) address(uuid string) string {
	u := *s.uri
	q := u.Query()
	q.Set("name", uuid)
	u.RawQuery = q.Encode()
	return u.String()
}
