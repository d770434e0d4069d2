// Package libvirt swaps the disks of libvirt's domains: see package swap for the order of
// things.
//
// # How a disk is taken off and put back
//
// Not by detaching and attaching it: libvirt would put it at another place among the disks, and
// where a disk's own XML says that it boots first, libvirt gives the domain without it a
// <boot dev> that then forbids its return (seen with 9.0.0). Instead the domain is defined anew
// from its own XML, with passwords, without that one element, and later with that very element
// in its old place. The helper, which runs, is changed live alone: what it is defined as stays
// as it was.
//
// Two things outside libvirt's sight are not seen here: a domain on another hypervisor that
// shares the storage, and one that names the same disk by another path.
package libvirt

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	lib "github.com/digitalocean/go-libvirt"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// Options say where helpers are.
type Options struct {
	// Helpers are the names of the domains that disks are hung on: those of them that run on
	// the hypervisor of a host serve it. "unbrick-helper" if empty.
	Helpers []string
}

// New returns the platform.
func New(o Options) swap.Platform {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	return platform{o}
}

type platform struct{ opt Options }

// Reach implements swap.Platform.
func (p platform) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) {
	a, err := parseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	l, err := connect(ctx, a)
	if err != nil {
		return nil, err
	}
	in := &instance{link: l, at: a, helpers: p.opt.Helpers}
	if in.dom, err = in.lookup(a.domain); err != nil {
		l.Close()
		return nil, err
	}
	return in, nil
}

// An instance is a domain during one call.
type instance struct {
	*link
	at      address
	dom     lib.Domain
	helpers []string
}

// ID implements swap.Instance.
func (in *instance) ID() string {
	u := hex.EncodeToString(in.dom.UUID[:])
	return fmt.Sprintf("libvirt %s-%s-%s-%s-%s", u[:8], u[8:12], u[12:16], u[16:20], u[20:])
}

// lookup finds a domain by name or UUID.
func (in *instance) lookup(name string) (lib.Domain, error) {
	dom, err := in.DomainLookupByName(name)
	if id, bad := hex.DecodeString(strings.ReplaceAll(name, "-", "")); is(err, lib.ErrNoDomain) && bad == nil && len(id) == lib.UUIDBuflen {
		dom, err = in.DomainLookupByUUID(lib.UUID(id))
	}
	if is(err, lib.ErrNoDomain) {
		return dom, fmt.Errorf("%s has no domain %q: was it moved to another hypervisor? correct the address of the route", in.where(), name)
	}
	return dom, in.say("cannot look for domain "+name, err)
}

func (in *instance) where() string {
	if in.at.host == "" {
		return "libvirt on this machine"
	}
	return "libvirt on " + in.at.host
}

// power says whether a domain runs. One that is paused, or crashed and kept, still has its disks.
func (in *instance) power(dom lib.Domain) (swap.Power, error) {
	state, _, err := in.DomainGetState(dom, 0)
	if err != nil {
		return "", in.say("cannot ask how domain "+dom.Name+" stands", err)
	}
	if lib.DomainState(state) == lib.DomainShutoff {
		return swap.Off, nil
	}
	return swap.On, nil
}

// defined returns what a domain will be started as; running what it runs as.
func (in *instance) defined(dom lib.Domain) (domain, error) {
	return in.xml(dom, lib.DomainXMLInactive)
}

func (in *instance) running(dom lib.Domain) (domain, error) { return in.xml(dom, 0) }

func (in *instance) xml(dom lib.Domain, flags lib.DomainXMLFlags) (domain, error) {
	text, err := in.DomainGetXMLDesc(dom, flags)
	if err != nil {
		return domain{}, in.say("cannot read the XML of domain "+dom.Name, err)
	}
	return parseDomain(text)
}

// Look implements swap.Instance.
func (in *instance) Look(_ context.Context, e swap.Entry) (swap.State, error) {
	power, err := in.power(in.dom)
	own := swap.State{Power: power, Volume: swap.Own}
	if err != nil || e.Slot.Volume == "" {
		return own, err
	}
	has, err := in.has(power, e.Slot.Volume)
	if err == nil && has && e.Snapshot {
		own.Snapshot, err = in.hasSnapshot(e.Mark)
	}
	if err != nil || has {
		return own, err
	}
	helpers, err := in.up()
	if err != nil {
		return swap.State{}, err
	}
	for _, h := range helpers {
		if k, i := h.xml.find(e.Slot.Volume); i >= 0 && strings.HasPrefix(k.serial, markPrefix) {
			return swap.State{Power: power, Volume: swap.Lent, On: h.dom.Name}, nil
		} else if i >= 0 {
			return swap.State{Power: power, Volume: swap.Elsewhere, On: h.dom.Name}, nil
		}
	}
	return swap.State{Power: power, Volume: swap.Free}, nil
}

// has says whether the domain has the disk, in its definition or in what runs of it.
func (in *instance) has(power swap.Power, source string) (bool, error) {
	d, err := in.defined(in.dom)
	if err != nil {
		return false, err
	}
	if _, i := d.find(source); i >= 0 || power == swap.Off {
		return i >= 0, nil
	}
	d, err = in.running(in.dom)
	if is(err, lib.ErrOperationInvalid) {
		err = nil // it ended just now
	}
	_, i := d.find(source)
	return i >= 0, err
}

// markPrefix begins the serial numbers of disks that swap hung on a helper.
const markPrefix = "unbrick-"

// A helper is one that runs.
type helper struct {
	dom lib.Domain
	xml domain
}

// up returns the helpers that run on this hypervisor.
func (in *instance) up() (all []helper, err error) {
	for _, name := range in.helpers {
		dom, err := in.DomainLookupByName(name)
		if is(err, lib.ErrNoDomain) || err == nil && dom.UUID == in.dom.UUID {
			continue
		}
		if err != nil {
			return nil, in.say("cannot look for the helper "+name, err)
		}
		power, err := in.power(dom)
		if err != nil {
			return nil, err
		}
		if power == swap.Off {
			continue
		}
		d, err := in.running(dom)
		if err != nil {
			return nil, err
		}
		all = append(all, helper{dom, d})
	}
	return all, nil
}

// Helpers implements swap.Instance.
func (in *instance) Helpers(context.Context) ([]swap.Helper, error) {
	helpers, err := in.up()
	if err != nil {
		return nil, err
	}
	var all []swap.Helper
	for _, h := range helpers {
		n := 0
		for _, k := range h.xml.disks {
			if strings.HasPrefix(k.serial, markPrefix) {
				n++
			}
		}
		all = append(all, swap.Helper{Name: h.dom.Name, Lent: n})
	}
	return all, nil
}

// A detail is how a disk hangs in its domain.
type detail struct {
	Disk     string `json:"disk"`     // its element, to the letter
	Place    int    `json:"place"`    // among the disks
	Bootless bool   `json:"bootless"` // <os> names no device to boot
	Domain   string `json:"domain"`   // all of it, without passwords: for a person, if all else fails
}

func readDetail(s swap.Slot) (d detail, err error) {
	if err = json.Unmarshal(s.Detail, &d); err != nil {
		err = fmt.Errorf("the journal does not say how %s hung: %w", s.Volume, err)
	}
	return d, err
}
