package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/source/keyfile"
	"unbrick/inventory"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "BitLocker recovery keys: which are on record, and who got which",
		Subcommands: append([]*cli.Command{
			{Name: "check", Usage: "which hosts have a key on record, several, or none; shows no key", Action: keysCheck,
				Flags: append(fleetFlags(), keysFlag(), jsonFlag(),
					&cli.DurationFlag{Name: "max-age", Value: 3 * 365 * 24 * time.Hour, Usage: "a key that was escrowed `LONGER` ago is called stale"}),
				Description: `Reads no key out and writes no ledger. Exit code 1 if a host has no usable key. A key is called
stale if it is older than the host's Windows (a column "installed" or "imaged" in the inventory) or
than --max-age, where the escrow says when it got the key.

   unbrick keys check -i fleet.csv --keys keys.csv`},
			keysAuditCommand(), keysRotateCommand(),
		}, personCommands()...),
	}
}

type keysReport struct {
	Hosts    int                 `json:"hosts"`
	OnRecord int                 `json:"on_record"`
	Several  int                 `json:"several"`
	Stale    int                 `json:"stale"` // the newest key is older than the installation, or than --max-age
	None     int                 `json:"none"`
	Unknown  int                 `json:"unknown"` // an escrow could not be asked
	Holdings []bitlocker.Holding `json:"holdings"`
	StaleOf  map[string]string   `json:"stale_hosts,omitempty"` // why, by host
	Problems []keyfile.Problem   `json:"problems,omitempty"`
}

func keysCheck(c *cli.Context) error {
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if !cfg.hasKeys() {
		return usage("give a key file with --keys FILE, or keys: or escrows: in unbrick.yaml", "no escrow of keys")
	}
	fleet, err := loadFleet(c, cfg)
	if err != nil {
		return err
	}
	sources, err := openKeys(c, cfg)
	if err != nil {
		return err
	}
	names := make([]string, len(fleet.Hosts))
	for i, h := range fleet.Hosts {
		names[i] = h.Name
	}
	holdings, err := (&bitlocker.Broker{Sources: sources}).Check(c.Context, names)
	if err != nil {
		return err
	}
	r := countKeys(holdings)
	r.findStale(fleet.Hosts, time.Now().Add(-c.Duration("max-age")))
	for _, s := range sources {
		if f, ok := s.(*keyfile.File); ok {
			r.Problems = append(r.Problems, f.Problems()...)
		}
	}
	if c.Bool("json") {
		if err := printJSON(c, r); err != nil {
			return err
		}
	} else {
		printKeys(c, r, fleet.Hosts)
	}
	if r.OnRecord < r.Hosts {
		return exitWith(exitNotAll)
	}
	return nil
}

func countKeys(holdings []bitlocker.Holding) keysReport {
	r := keysReport{Hosts: len(holdings), Holdings: holdings, StaleOf: map[string]string{}}
	for _, h := range holdings {
		switch {
		case h.OnRecord():
			r.OnRecord++
			if len(h.Entries) > 1 {
				r.Several++
			}
		case len(h.Unknown) > 0:
			r.Unknown++
		default:
			r.None++
		}
	}
	return r
}

// installed are the labels of a host that say when its Windows was set up: whoever sets it up
// anew encrypts it anew, with another key.
var installed = [...]string{"installed", "imaged", "os_installed", "install_date", "installdate"}

// findStale marks the hosts whose newest key is older than their Windows, or than oldest.
// Holdings are in the order of hosts. An escrow that does not say when it got a key proves nothing.
func (r *keysReport) findStale(hosts []inventory.Host, oldest time.Time) {
	for i, held := range r.Holdings {
		var newest time.Time
		known := held.OnRecord()
		for _, e := range held.Entries {
			known = known && !e.Created.IsZero()
			if e.Created.After(newest) {
				newest = e.Created
			}
		}
		set := installedAt(hosts[i])
		switch {
		case !known:
		case newest.Before(set):
			r.StaleOf[held.Host] = fmt.Sprintf("escrowed %s, Windows installed %s", newest.Format(time.DateOnly), set.Format(time.DateOnly))
		case newest.Before(oldest):
			r.StaleOf[held.Host] = "escrowed " + newest.Format(time.DateOnly)
		}
	}
	r.Stale = len(r.StaleOf)
}

func installedAt(h inventory.Host) time.Time {
	for name, v := range h.Labels {
		if !slices.Contains(installed[:], strings.ToLower(strings.ReplaceAll(name, " ", "_"))) {
			continue
		}
		for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
			if at, err := time.Parse(layout, v); err == nil {
				return at
			}
		}
	}
	return time.Time{}
}

// printKeys lists, by site, the hosts that somebody has to see to before they are treated.
func printKeys(c *cli.Context, r keysReport, hosts []inventory.Host) {
	lists := map[string][]string{} // by site and trouble
	note := func(i int, trouble, why string) {
		name := r.Holdings[i].Host
		if why != "" {
			name += " (" + why + ")"
		}
		key := hosts[i].Site + ": " + trouble
		lists[key] = append(lists[key], name)
	}
	for i, h := range r.Holdings {
		switch {
		case !h.OnRecord() && len(h.Entries) > 0:
			note(i, "no usable key", h.Entries[0].Reason)
		case !h.OnRecord():
			note(i, "no usable key", "")
		case len(h.Entries) > 1:
			note(i, "several keys", fmt.Sprint(len(h.Entries)))
		}
		if why := r.StaleOf[h.Host]; why != "" {
			note(i, "stale key", why)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(lists)) {
		fmt.Fprintf(c.App.Writer, "%s: %s\n", key, strings.Join(lists[key], ", "))
	}
	fmt.Fprintf(c.App.Writer, "%d hosts: %d with a key on record (%d with several, %d stale), %d without, %d not known\n",
		r.Hosts, r.OnRecord, r.Several, r.Stale, r.None, r.Unknown)
	if r.None > 0 {
		say(c, "a host whose disk is not encrypted needs none; an encrypted one without a key cannot be repaired")
	}
}
