package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/policy"
	"unbrick/inventory"
)

// A desk is where a person comes for keys: all that is needed to give one out, and no more.
type desk struct {
	broker *bitlocker.Broker
	guard  *policy.Guard
	ledger *bitlocker.Ledger
	person person
	fleet  *inventory.Fleet // nil without an inventory
	cfg    *config
	reason string
	ids    []string // first digits of the ids that are wanted; empty: whatever is the only one
}

// openDesk reads the flags of personFlags. The mistakes of the command line come first: they
// cost nothing.
func openDesk(c *cli.Context) (*desk, error) {
	d := &desk{reason: strings.TrimSpace(c.String("reason"))}
	if err := policy.CheckReason(d.reason); err != nil {
		return nil, hinted(err, "write --reason 'INC0012345, Ann is at the desk'")
	}
	for _, id := range c.StringSlice("id") {
		digits, err := idDigits(id)
		if err != nil {
			return nil, err
		}
		d.ids = append(d.ids, digits)
	}
	var err error
	if d.cfg, err = settings(c); err != nil {
		return nil, err
	}
	if d.person, err = currentPerson(); err != nil {
		return nil, err
	}
	sources, err := openKeys(c, d.cfg)
	if err != nil {
		return nil, err
	}
	if len(sources) == 0 {
		return nil, usage("give a key file with --keys FILE, or keys: in unbrick.yaml", "no escrow of keys")
	}
	if d.cfg.hasFleet() {
		d.fleet, err = readFleet(c, d.cfg, false)
		if err != nil && len(d.cfg.Sources) == 0 {
			return nil, err
		}
		if err != nil { // a CMDB that is down takes nobody's key away: it takes two persons
			say(c, "warning: the inventory is not known: %v", err)
			d.fleet = nil
		}
	}
	if d.ledger, err = bitlocker.OpenLedger(d.cfg.Ledger); err != nil {
		return nil, hinted(err, "no key leaves without a ledger; unbrick keys audit says what is wrong with it")
	}
	d.guard = newGuard(d.cfg, d.ledger, d.special)
	d.broker = &bitlocker.Broker{Sources: sources, Ledger: d.guard}
	return d, nil
}

// closeLedger signs what was written and lets go of the ledger. What was done is done: that it
// could not be signed is said and is no failure of the command.
func closeLedger(c *cli.Context, l *bitlocker.Ledger) {
	if err := l.Close(); err != nil {
		say(c, "warning: %v", err)
	}
}

func newGuard(cfg *config, l *bitlocker.Ledger, special func(string) string) *policy.Guard {
	limits := policy.Default()
	for given, field := range map[*int]*int{&cfg.Persons.Hour: &limits.Hour, &cfg.Persons.Day: &limits.Day, &cfg.Persons.AtOnce: &limits.AtOnce} {
		if *given > 0 {
			*field = *given
		}
	}
	return &policy.Guard{Ledger: l, Limits: limits, Special: special, Now: time.Now}
}

// special says why the keys of a host always need two persons. What is not known of a host is
// no reason to hand out its key.
func (d *desk) special(host string) string {
	if d.fleet == nil {
		return "without an inventory nobody knows whether " + host + " is of the dependency tier"
	}
	found := false
	for _, h := range d.fleet.Hosts {
		if !bitlocker.SameHost(h.Name, host) {
			continue
		}
		if found = true; h.Tier == inventory.Dependency {
			return h.Name + " is of the dependency tier"
		}
		if sites := d.cfg.Persons.Sites; len(sites) > 0 && !slices.ContainsFunc(sites[d.person.account], func(s string) bool { return inventory.SameName(s, h.Site) }) {
			return fmt.Sprintf("%s is at %s, which is not among the sites of %s", h.Name, named(h.Site), d.person.account)
		}
	}
	if !found {
		return host + " is not in the inventory, so nobody knows whether it is of the dependency tier"
	}
	return ""
}

// admit asks the rules, and returns what goes on the ledger with each of the keys.
func (d *desk) admit(ctx context.Context, purpose string, wanted []bitlocker.Query) (bitlocker.Recipient, error) {
	to := bitlocker.Recipient{Actor: d.person.account, Claims: d.person.claims, Purpose: purpose, Person: true, Reason: d.reason}
	hash, err := d.guard.Admit(ctx, bitlocker.Request{
		Actor: to.Actor, Claims: to.Claims, Purpose: purpose, Reason: d.reason, Keys: wanted,
	})
	to.Request = hash
	var wait *policy.WaitError
	if errors.As(err, &wait) {
		return to, &failure{exitNotAll, err, fmt.Sprintf("somebody with another login runs: unbrick keys approve %.12s\n        then, within %d minutes of that, run this command again",
			wait.Hash, int(d.guard.Limits.Approval.Minutes()))}
	}
	return to, err
}

// idDigits returns the hex digits of an id or of its beginning. It does not repeat s, which
// may be a key in the wrong place.
func idDigits(s string) (string, error) {
	digits := strings.ToUpper(strings.Map(func(r rune) rune {
		if strings.ContainsRune("-{} ", r) {
			return -1
		}
		return r
	}, s))
	if len(digits) < 8 || len(digits) > 32 || strings.Trim(digits, "0123456789ABCDEF") != "" {
		return "", usage("the recovery screen shows it: Recovery key ID 4290B6C0-…", "--id takes the first 8 or more digits of a key id, which are 0 to 9 and A to F")
	}
	return digits, nil
}

// find returns the one protector of each host that is wanted. Among several hosts an id is for
// those that have it.
func (d *desk) find(ctx context.Context, hosts []string) ([]bitlocker.Query, error) {
	holdings, err := d.broker.Check(ctx, hosts)
	if err != nil {
		return nil, err
	}
	wanted := make([]bitlocker.Query, len(hosts))
	unused := slices.Clone(d.ids)
	for i, h := range holdings {
		ids := d.ids
		if len(hosts) > 1 {
			ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
				return !slices.ContainsFunc(h.Entries, func(e bitlocker.Entry) bool { return begins(e.ID, id) })
			})
		}
		if wanted[i], err = choose(h, ids); err != nil {
			return nil, err
		}
		unused = slices.DeleteFunc(unused, func(id string) bool { return begins(wanted[i].ID, id) })
	}
	if len(unused) > 0 {
		return nil, usage("compare it with the recovery screen", "no key of these hosts has an id that begins with %s", strings.Join(unused, " or "))
	}
	return wanted, nil
}

// begins says whether the hex digits of the id begin so.
func begins(id bitlocker.KeyID, digits string) bool {
	return strings.HasPrefix(strings.ReplaceAll(id.String(), "-", ""), digits)
}

// choose returns the usable key of a holding whose id begins so, or the only one. Its errors
// list ids and escrows, never keys.
func choose(h bitlocker.Holding, prefixes []string) (bitlocker.Query, error) {
	fit := map[bitlocker.KeyID]bitlocker.Entry{}
	var bad []string
	for _, e := range h.Entries {
		switch {
		case len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(p string) bool { return begins(e.ID, p) }):
		case !e.Valid && e.Reason != "":
			bad = append(bad, fmt.Sprintf("%s in %s: %s", e.ID, e.Source, e.Reason))
		default:
			if _, ok := fit[e.ID]; !ok {
				fit[e.ID] = e
			}
		}
	}
	switch {
	case len(fit) == 1:
		for id, e := range fit {
			return bitlocker.Query{ID: id, Host: e.Host}, nil
		}
	case len(fit) > 1:
		return bitlocker.Query{}, hinted(fmt.Errorf("host %s has %d keys that fit:\n%s", h.Host, len(fit), listed(fit)),
			"the recovery screen shows the id of the one it wants; give its first digits, 8 or more, with --id")
	case len(bad) > 0:
		return bitlocker.Query{}, hinted(fmt.Errorf("the key of host %s cannot be used: %s", h.Host, strings.Join(bad, "; ")), "correct the file it comes from, or ask another escrow")
	case len(h.Entries) > 0:
		return bitlocker.Query{}, hinted(fmt.Errorf("host %s has no key whose id begins so; it has:\n%s", h.Host, listed(byID(h.Entries))),
			"another id on the screen is another disk, or a key that was never escrowed")
	case len(h.Unknown) > 0:
		return bitlocker.Query{}, fmt.Errorf("not known whether there is a key of host %s: %s", h.Host, strings.Join(h.Unknown, "; "))
	}
	return bitlocker.Query{}, hinted(fmt.Errorf("no key of host %s on record", h.Host), "unbrick keys check lists the hosts without one")
}

func byID(entries []bitlocker.Entry) map[bitlocker.KeyID]bitlocker.Entry {
	m := map[bitlocker.KeyID]bitlocker.Entry{}
	for _, e := range entries {
		m[e.ID] = e
	}
	return m
}

// listed writes ids in order, a line each.
func listed(entries map[bitlocker.KeyID]bitlocker.Entry) string {
	var lines []string
	for id, e := range entries {
		line := fmt.Sprintf("  %s  %s", id, e.Source)
		if !e.Created.IsZero() {
			line += ", escrowed " + e.Created.Format(time.DateOnly)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
