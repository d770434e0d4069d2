package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/inventory/saved"
)

func diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "what has changed between the saved fleet and what the sources say now", ArgsUsage: "[OLD [NEW]]", Action: inventoryDiff,
		Flags: []cli.Flag{configFlag(), mapFlag(), jsonFlag()},
		Description: `Or between another saved fleet and now, or between two. Nothing is saved.

   unbrick inventory diff
   unbrick inventory diff monday.fleet unbrick.fleet --json`,
	}
}

func inventoryDiff(c *cli.Context) error {
	args, err := arguments(c, 0, 2)
	if err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if err := cfg.readPlaces(time.Now()); err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{cfg.fleetFile()}
	}
	was, err := savedHosts(c, cfg, args[0])
	if err != nil {
		return err
	}
	var now []inventory.Host
	if len(args) == 2 {
		now, err = savedHosts(c, cfg, args[1])
	} else {
		now, err = hostsNow(c, cfg)
	}
	if err != nil {
		return err
	}
	d := inventory.Diff(was, now)
	if c.Bool("json") {
		return printJSON(c, d)
	}
	printChanges(c.App.Writer, d)
	return nil
}

// savedHosts returns the hosts of a saved fleet.
func savedHosts(c *cli.Context, cfg *config, file string) ([]inventory.Host, error) {
	f, err := saved.Open(file)
	if err != nil {
		return nil, hinted(err, "unbrick inventory import makes one")
	}
	defer f.Close()
	return mergeSaved(c, cfg, f)
}

// hostsNow asks the sources. One that fails counts as what was saved of it: its hosts are not
// gone because it is down.
func hostsNow(c *cli.Context, cfg *config) ([]inventory.Host, error) {
	if !cfg.hasFleet() {
		return nil, usage("give two saved fleets, or sources: in unbrick.yaml", "no inventory to compare with")
	}
	order, err := openSources(cfg)
	if err != nil {
		return nil, err
	}
	old, err := openSaved(cfg)
	if err != nil {
		return nil, err
	}
	if old != nil {
		defer old.Close()
	}
	g, err := gather(c, os.TempDir(), order, old, func(namedSource) bool { return true })
	if err != nil {
		return nil, err
	}
	defer g.Close()
	g.sayFailed(c)
	return mergeSaved(c, cfg, g.Fleet)
}

func printChanges(w io.Writer, d inventory.Changes) {
	for _, n := range d.Added {
		fmt.Fprintf(w, "+ %s\n", n)
	}
	for _, n := range d.Gone {
		fmt.Fprintf(w, "- %s\n", n)
	}
	for _, ch := range d.Changed {
		fmt.Fprintf(w, "~ %s\n", ch.Host)
		for _, f := range ch.Fields {
			fmt.Fprintf(w, "    %s: %s -> %s\n", f.Field, orDash(f.Old), orDash(f.New))
		}
	}
	fmt.Fprintf(w, "%d added, %d gone, %d changed\n", len(d.Added), len(d.Gone), len(d.Changed))
}
