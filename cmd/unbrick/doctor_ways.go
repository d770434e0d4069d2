package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"unbrick/inventory"
	"unbrick/inventory/rest"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// A checker is a way into virtual hosts that says, before a run takes it, what would be missing.
type checker interface {
	Check(ctx context.Context, t remediate.Target) swap.Checkup
}

// checkWay asks by way of one host whether the platform answers, which rights the account lacks
// there, and for the helpers.
func checkWay(ctx context.Context, way checker, t remediate.Target, fleet []inventory.Host) []diagnosis {
	ctx, cancel := context.WithTimeout(rest.Briefly(ctx), checkLimit)
	defer cancel()
	c := way.Check(ctx, t)
	name := fmt.Sprintf("%s by %s", t.Host.Name, t.Route.Driver)
	var all []diagnosis
	say := func(state, hint, format string, args ...any) *diagnosis {
		all = append(all, diagnosis{Check: named(t.Host.Site), State: state, Hint: hint, Found: name + ": " + fmt.Sprintf(format, args...)})
		return &all[len(all)-1]
	}
	if c.Platform != nil {
		say("missing", "one host of the site was asked: is it the host alone, or its platform? swap: of the configuration, and the login, are described in the README", "%v", c.Platform)
		return all
	}
	var lacks *inventory.RightError
	var unasked *swap.UnaskedError
	switch {
	case errors.As(c.Rights, &lacks):
		say("missing", "grant it: "+lacks.Where, "%v", c.Rights).Right = lacks.Right
	case errors.As(c.Rights, &unasked):
		say("warning", "grant the right to ask for rights, or compare with the README", "%v", c.Rights).Right = unasked.Right
	}
	if c.Refused != nil && lacks == nil { // it may be for want of the right
		say("warning", "one host of the site was asked; others may be taken", "%v", c.Refused)
	}
	if c.Helper != nil {
		say("missing", "the README describes how one is made (volume swap)", "%v", c.Helper)
	}
	helpers := helperNames(c.Helpers)
	for _, h := range helpers {
		if host := among(fleet, t.Route.Driver, h); host != "" {
			say("missing", "leave it out of the fleet, by what its source is asked for: stopped for its own repair, it could repair no other", "the helper %s is the host %s of the fleet, and would be repaired as one", h, host)
		}
	}
	if len(all) == 0 {
		say("ok", "", "%s", goodWay(t.Route.Driver, helpers))
	}
	return all
}

func goodWay(way string, helpers []string) string {
	if len(helpers) == 0 { // a way that needs none
		return "the platform answers, and nothing is missing that can be asked for"
	}
	return fmt.Sprintf("the platform answers, nothing is missing that can be asked for, and %s takes its disk", strings.Join(helpers, " or "))
}

func helperNames(helpers []swap.Helper) (names []string) {
	for _, h := range helpers {
		if !slices.Contains(names, h.Name) {
			names = append(names, h.Name)
		}
	}
	return names
}

// among returns the host of a fleet that is the helper of that name, which a platform may call by
// its address; empty if there is none.
func among(fleet []inventory.Host, way, helper string) string {
	for _, h := range fleet {
		for _, r := range h.Routes {
			if r.Driver == way && (strings.EqualFold(h.Name, helper) || strings.EqualFold(r.Address, helper)) {
				return h.Name
			}
		}
	}
	return ""
}

// unused says which platforms are configured that no host has as a way in: they were not asked.
func (p *patient) unused(samples []remediate.Target) {
	s := p.cfg.Swap
	for _, one := range []struct {
		way string
		set bool
	}{
		{"ec2", s.EC2 != ec2Config{}}, {"azure", s.Azure != azureConfig{}}, {"gce", s.GCE != gceConfig{}},
		{"vsphere", len(s.VSphere) > 0}, {"proxmox", len(s.Proxmox) > 0}, {"openstack", s.OpenStack != openstackConfig{}},
	} {
		has := slices.ContainsFunc(samples, func(t remediate.Target) bool { return strings.HasPrefix(t.Route.Driver, one.way) })
		if one.set && !has {
			p.warn("swap."+one.way, "a source of hosts of that kind, or a column "+one.way+", gives hosts that way in", "it is configured, and no host of the fleet has it as a way in: it was not asked")
		}
	}
}

// backWays are the ways back to a snapshot that a run would take.
func (c *config) backWays() (ways []string) {
	for _, way := range rollbackWays() {
		if c.Allow.Rollback && slices.ContainsFunc(c.Ladder, func(r rung) bool { return r.Way == way }) {
			ways = append(ways, way)
		}
	}
	return ways
}
