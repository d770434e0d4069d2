package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/source/keyfile"
)

func keysCommand() *cli.Command {
	return &cli.Command{
		Name:  "keys",
		Usage: "BitLocker recovery keys: which are on record, and who got which",
		Subcommands: append([]*cli.Command{
			{Name: "check", Usage: "which hosts have a key on record, several, or none; shows no key", Action: keysCheck,
				Flags:       append(fleetFlags(), keysFlag(), jsonFlag()),
				Description: "Reads no key out and writes no ledger. Exit code 1 if a host has no usable key.\n\n   unbrick keys check -i fleet.csv --keys keys.csv"},
			keysAuditCommand(), keysRotateCommand(),
		}, personCommands()...),
	}
}

type keysReport struct {
	Hosts    int                 `json:"hosts"`
	OnRecord int                 `json:"on_record"`
	Several  int                 `json:"several"`
	None     int                 `json:"none"`
	Unknown  int                 `json:"unknown"` // an escrow could not be asked
	Holdings []bitlocker.Holding `json:"holdings"`
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
	siteOf := map[string]string{}
	for i, h := range fleet.Hosts {
		names[i], siteOf[h.Name] = h.Name, h.Site
	}
	holdings, err := (&bitlocker.Broker{Sources: sources}).Check(c.Context, names)
	if err != nil {
		return err
	}
	r := countKeys(holdings)
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
		printKeys(c, r, siteOf)
	}
	if r.OnRecord < r.Hosts {
		return exitWith(exitNotAll)
	}
	return nil
}

func countKeys(holdings []bitlocker.Holding) keysReport {
	r := keysReport{Hosts: len(holdings), Holdings: holdings}
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

// printKeys lists, by site, the hosts that somebody has to see to before they are treated.
func printKeys(c *cli.Context, r keysReport, siteOf map[string]string) {
	bySite := map[string][]string{}
	for _, h := range r.Holdings {
		if !h.OnRecord() {
			line := h.Host
			if len(h.Entries) > 0 {
				line += " (" + h.Entries[0].Reason + ")"
			}
			bySite[siteOf[h.Host]] = append(bySite[siteOf[h.Host]], line)
		}
	}
	sites := make([]string, 0, len(bySite))
	for s := range bySite {
		sites = append(sites, s)
	}
	slices.Sort(sites)
	for _, s := range sites {
		fmt.Fprintf(c.App.Writer, "%s: no usable key: %s\n", s, strings.Join(bySite[s], ", "))
	}
	fmt.Fprintf(c.App.Writer, "%d hosts: %d with a key on record (%d with several), %d without, %d not known\n",
		r.Hosts, r.OnRecord, r.Several, r.None, r.Unknown)
	if r.None > 0 {
		say(c, "a host whose disk is not encrypted needs none; an encrypted one without a key cannot be repaired")
	}
}
