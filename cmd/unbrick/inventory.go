package main

import (
	"errors"
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
)

func inventoryCommand() *cli.Command {
	return &cli.Command{
		Name:  "inventory",
		Usage: "the fleet: what is known of the hosts",
		Subcommands: []*cli.Command{importCommand(), listCommand(), showCommand(), diffCommand(), exportCommand(), {
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

// loadFleet reads the hosts that may be treated: those of the sources which the configuration
// names that are in use, of which it leaves what --only asks for. What a row leaves out is filled
// in from the table of sites.
func loadFleet(c *cli.Context, cfg *config) (*inventory.Fleet, error) {
	return load(c, cfg, false)
}

// loadFleetToRun is loadFleet for a run, which saves what it read: the same command has to be
// able to go on when the sources are down.
func loadFleetToRun(c *cli.Context, cfg *config) (*inventory.Fleet, error) {
	return load(c, cfg, true)
}

func load(c *cli.Context, cfg *config, keep bool) (*inventory.Fleet, error) {
	fleet, err := readFleet(c, cfg, keep)
	if err != nil {
		return nil, err
	}
	out := map[inventory.State]int{}
	cfg.unused = nil
	fleet.Hosts = slices.DeleteFunc(fleet.Hosts, func(h inventory.Host) bool {
		if h.State != "" {
			out[h.State]++
			cfg.unused = append(cfg.unused, h)
		}
		return h.State != ""
	})
	sayOut(c, out)
	if len(fleet.Hosts) == 0 {
		return nil, usage("unbrick inventory list shows them", "no host of the inventory is in use")
	}
	cfg.unpicked, err = only(fleet, c.String("only"))
	return fleet, err
}

// sayOut says how many hosts are never touched.
func sayOut(c *cli.Context, out map[inventory.State]int) {
	for _, s := range slices.Sorted(maps.Keys(out)) {
		say(c, "left out: %d hosts are %s; they are never touched", out[s], s)
	}
}

// readFleet reads all hosts of the sources, in use or not. Keep saves the rows if none were.
func readFleet(c *cli.Context, cfg *config, keep bool) (*inventory.Fleet, error) {
	if !cfg.hasFleet() {
		return nil, usage("give the fleet with -i fleet.csv, or sources: in unbrick.yaml", "no inventory")
	}
	if err := cfg.readPlaces(planTime(c)); err != nil {
		return nil, err
	}
	sources, release, err := fleetSources(c, cfg, keep)
	if err != nil {
		return nil, err
	}
	defer release()
	fleet, err := inventory.Load(c.Context, cfg.options(), sources...)
	if err := loaded(c, fleet, err); err != nil {
		return nil, err
	}
	for i := range fleet.Hosts {
		cfg.complete(&fleet.Hosts[i])
	}
	return fleet, nil
}

// fleetSources returns what the fleet is read from: the file itself where there is only one, what
// was saved or the sources otherwise. Release lets go of them.
func fleetSources(c *cli.Context, cfg *config, keep bool) (all []inventory.Source, release func(), err error) {
	if len(cfg.Sources) == 0 {
		src, err := csvSource(cfg, cfg.Inventory)
		return []inventory.Source{src}, func() {}, err
	}
	g, err := loadable(c, cfg, keep)
	if err != nil {
		return nil, nil, err
	}
	g.sayAge(c, cfg)
	return sourcesOf(g.Fleet), func() { g.Close() }, nil
}

// options are how the fleet is read.
func (c *config) options() inventory.Options {
	return inventory.Options{SkipBad: c.SkipBad, Wins: c.Wins}
}

// complete fills in what is known of the host's site, and judges whether the incident has hit it.
func (c *config) complete(h *inventory.Host) {
	c.places.sites.Fill(h)
	if i := c.incident(); i != nil {
		i.Mark(h)
	}
}

// loaded says what came to light when a fleet was read.
func loaded(c *cli.Context, fleet *inventory.Fleet, err error) error {
	var problems *inventory.Problems
	if errors.As(err, &problems) {
		return hinted(err, "nothing was touched; correct the rows, or leave them out with --skip-bad")
	}
	if err != nil {
		return hinted(err, "unbrick inventory check FILE says more")
	}
	for _, line := range fleet.Problems.Lines() {
		say(c, "left out: %s", line)
	}
	for i, line := range fleet.Warnings.Lines() {
		if i == shownProblems {
			say(c, "… and %d more warnings; unbrick inventory check --json has them", fleet.Warnings.Total-i)
			break
		}
		say(c, "warning: %s", line)
	}
	return nil
}

// only leaves the hosts that fit the selector, and returns the names of the others. The digest of the fleet stays that of the
// whole file: the same file with another selector is the same run with more hosts.
func only(fleet *inventory.Fleet, selector string) (others []string, err error) {
	sel, err := parseOnly(selector)
	if sel == nil {
		return nil, err
	}
	kept := fleet.Hosts[:0]
	for _, h := range fleet.Hosts {
		if sel.Match(h) {
			kept = append(kept, h)
		} else {
			others = append(others, h.Name)
		}
	}
	if len(kept) == 0 {
		return nil, usage("see the names and sites with unbrick plan", "no host fits --only %q", selector)
	}
	fleet.Hosts = kept
	return others, nil
}

// parseOnly reads --only; nil if it is empty.
func parseOnly(selector string) (*inventory.Selector, error) {
	if selector == "" {
		return nil, nil
	}
	sel, err := inventory.ParseSelector(selector)
	return sel, hinted(err, "write --only 'site == \"SYD\" && tier == \"critical\"', or --only 'site=SYD,AKL tier=critical'")
}

// notInUse says of a host that the inventory has and nobody uses that it is never touched.
func notInUse(cfg *config, name string) error {
	for _, h := range cfg.unused {
		if inventory.SameName(h.Name, name) {
			return usage("correct it where the host is listed if that is not so; unbrick inventory show says where", "%s is %s: it is never touched", h.Name, h.State)
		}
	}
	return nil
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
