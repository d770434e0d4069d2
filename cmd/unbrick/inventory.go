package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
)

func inventoryCommand() *cli.Command {
	return &cli.Command{
		Name:  "inventory",
		Usage: "the fleet: what is known of the hosts",
		Subcommands: []*cli.Command{{
			Name: "check", Usage: "is a fleet file right? says every bad row with line, column, value and what would be right",
			ArgsUsage: "FILE", Action: inventoryCheck, Flags: []cli.Flag{configFlag(), mapFlag(), jsonFlag()},
			Description: "   unbrick inventory check fleet.csv\n   unbrick inventory check export.csv --map name=Hostname --map redfish='BMC IP'",
		}},
	}
}

func inventoryCheck(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	src, err := csvSource(cfg, args[0])
	if err != nil {
		return err
	}
	scan, err := inventory.NewScan(c.Context, inventory.Options{}, src)
	if scan == nil {
		return hinted(err, "give a CSV file with a header; the README lists its columns")
	}
	if c.Bool("json") {
		if e := printJSON(c, scan.Summary); e != nil {
			return e
		}
		if err != nil {
			return exitWith(exitUsage)
		}
		return nil
	}
	for _, line := range scan.Warnings.Lines() {
		say(c, "warning: %s", line)
	}
	if err != nil {
		return hinted(err, "correct the rows, or leave them out with --skip-bad when running")
	}
	say(c, "%s: %d hosts, all usable", args[0], scan.Usable)
	return nil
}

// loadFleet reads the inventory that the configuration names and leaves what --only asks for.
// What a row leaves out is filled in from the table of sites.
func loadFleet(c *cli.Context, cfg *config) (*inventory.Fleet, error) {
	if cfg.Inventory == "" {
		return nil, usage("give the fleet with -i fleet.csv", "no inventory")
	}
	if err := cfg.readPlaces(planTime(c)); err != nil {
		return nil, err
	}
	src, err := csvSource(cfg, cfg.Inventory)
	if err != nil {
		return nil, err
	}
	fleet, err := inventory.Load(c.Context, inventory.Options{SkipBad: cfg.SkipBad}, src)
	var problems *inventory.Problems
	if errors.As(err, &problems) {
		return nil, hinted(err, "nothing was touched; correct the rows, or leave them out with --skip-bad")
	}
	if err != nil {
		return nil, hinted(err, "unbrick inventory check FILE says more")
	}
	for _, line := range fleet.Problems.Lines() {
		say(c, "left out: %s", line)
	}
	for _, line := range fleet.Warnings.Lines() {
		say(c, "warning: %s", line)
	}
	for i := range fleet.Hosts {
		cfg.places.sites.Fill(&fleet.Hosts[i])
	}
	return fleet, only(fleet, c.String("only"))
}

// only leaves the hosts that fit the selector. The digest of the fleet stays that of the
// whole file: the same file with another selector is the same run with more hosts.
func only(fleet *inventory.Fleet, selector string) error {
	sel, err := parseOnly(selector)
	if sel == nil {
		return err
	}
	kept := fleet.Hosts[:0]
	for _, h := range fleet.Hosts {
		if sel.Match(h) {
			kept = append(kept, h)
		}
	}
	if len(kept) == 0 {
		return usage("see the names and sites with unbrick plan", "no host fits --only %q", selector)
	}
	fleet.Hosts = kept
	return nil
}

// parseOnly reads --only; nil if it is empty.
func parseOnly(selector string) (*inventory.Selector, error) {
	if selector == "" {
		return nil, nil
	}
	sel, err := inventory.ParseSelector(selector)
	return sel, hinted(err, "write --only 'site=SYD,AKL tier=critical'")
}

// hostNamed returns the host of that name, in any case.
func hostNamed(fleet *inventory.Fleet, name string) (inventory.Host, error) {
	for _, h := range fleet.Hosts {
		if inventory.SameName(h.Name, name) {
			return h, nil
		}
	}
	return inventory.Host{}, usage("names are those of the inventory; unbrick plan lists them", "no host %q in the inventory", name)
}
