package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/inventory/saved"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "read all sources and save what they say, for when they are down", Action: inventoryImport,
		Flags: []cli.Flag{configFlag(), mapFlag(), skipBadFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "fewer", Usage: "believe a source that has less than half of the hosts that it had"},
			&cli.StringFlag{Name: "run", Usage: "take the hosts that are new into `RUN` (or 'latest'), which may be going on"},
			&cli.StringFlag{Name: "state", Usage: "of that run: a `FILE`, or postgres://… (default: unbrick.db)"}},
		Description: `Replaces the saved fleet (unbrick.fleet, or fleet: in unbrick.yaml) as a whole, or not at all. Of a
source that cannot be read it keeps what was saved the last time, says so, and exits with 1. Hosts
that were read with another url:, filter or the like than it has now are kept and not used.
plan, run, fix and the others go by the saved fleet until the next import, or --refresh.

   unbrick inventory import
   unbrick inventory import --run latest     take hosts that are new into the run that goes on`,
	}
}

// An importReport is what unbrick inventory import --json prints. Scripts rely on its names.
type importReport struct {
	File    string            `json:"file"`
	Sources []saved.Section   `json:"sources"`
	Fleet   inventory.Summary `json:"fleet"`
	// States counts the hosts that are not in use, Affected all hosts by how likely the incident
	// has hit them.
	States   map[inventory.State]int      `json:"states,omitempty"`
	Affected map[inventory.Likelihood]int `json:"affected,omitempty"`
	Changes  *changeCount                 `json:"changes,omitempty"` // since the last import
	Run      *refreshReport               `json:"run,omitempty"`
}

// A changeCount says how much an import changed.
type changeCount struct {
	Since   time.Time `json:"since"`
	Added   int       `json:"added"`
	Gone    int       `json:"gone"`
	Changed int       `json:"changed"`
}

func inventoryImport(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if !cfg.hasFleet() {
		return usage("unbrick init writes one; the README describes sources:", "no sources: and no inventory: in the configuration")
	}
	if c.String("run") != "" {
		if err := stateExists(cfg.State); err != nil {
			return err
		}
	}
	if err := cfg.readPlaces(time.Now()); err != nil {
		return err
	}
	old, err := openSaved(cfg)
	if err != nil {
		say(c, "warning: %v", err) // it is about to be made anew
	}
	if old != nil {
		defer old.Close()
	}
	g, fleet, err := importAll(c, cfg, old)
	if err != nil {
		return err
	}
	defer g.Close()
	r := importReport{File: cfg.fleetFile(), Sources: g.Sections, Fleet: fleet.Summary, States: map[inventory.State]int{}}
	r.Changes = since(c, cfg, old, g.Fleet, fleet.Hosts)
	if i := cfg.incident(); i != nil {
		r.Affected = fleet.Mark(*i)
	}
	for i := range fleet.Hosts {
		if s := fleet.Hosts[i].State; s != "" {
			r.States[s]++
		}
	}
	if err := g.Publish(cfg.fleetFile()); err != nil {
		return err
	}
	if c.String("run") != "" {
		if r.Run, err = refreshRun(c, cfg, fleet, c.String("run")); err != nil {
			return err
		}
	}
	if err := r.print(c, cfg); err != nil {
		return err
	}
	if len(g.failed) > 0 || !c.Bool("fewer") && slices.ContainsFunc(g.Sections, func(s saved.Section) bool { return s.Partial }) {
		return exitWith(exitNotAll)
	}
	return nil
}

// importAll asks every source and merges what they say. Nothing is saved yet: a fleet that a run
// would refuse does not take the place of one that it would take.
func importAll(c *cli.Context, cfg *config, old *saved.Fleet) (*gathering, *inventory.Fleet, error) {
	order, err := openSources(cfg)
	if err != nil {
		return nil, nil, err
	}
	g, err := gather(c, filepath.Dir(cfg.fleetFile()), order, old, func(namedSource) bool { return true })
	if err != nil {
		return nil, nil, err
	}
	g.sayFailed(c)
	fleet, err := inventory.Load(c.Context, cfg.options(), sourcesOf(g.Fleet)...)
	if err := loaded(c, fleet, err); err != nil {
		g.Close()
		if old != nil {
			say(c, "the saved fleet stays as it was %s", ago(old.Saved))
		}
		return nil, nil, err
	}
	for i := range fleet.Hosts {
		cfg.places.sites.Fill(&fleet.Hosts[i])
	}
	return g, fleet, nil
}

// since counts what has changed; nil if nothing was saved, or it cannot be read any more.
func since(c *cli.Context, cfg *config, old, rows *saved.Fleet, now []inventory.Host) *changeCount {
	if old == nil {
		return nil
	}
	if sameRows(old, rows) { // merging a large fleet takes as long as all the rest
		return &changeCount{Since: old.Saved}
	}
	was, err := mergeSaved(c, cfg, old)
	if err != nil {
		say(c, "warning: what has changed since the last import is not known: %v", err)
		return nil
	}
	d := inventory.Diff(was, now)
	return &changeCount{Since: old.Saved, Added: len(d.Added), Gone: len(d.Gone), Changed: len(d.Changed)}
}

// sameRows says that every source says what it said, to the byte.
func sameRows(a, b *saved.Fleet) bool {
	return slices.EqualFunc(a.Sections, b.Sections, func(x, y saved.Section) bool {
		return x.Name == y.Name && x.Missing == y.Missing && x.SHA256 == y.SHA256
	})
}

// mergeSaved makes hosts of the rows of a saved fleet, without those that cannot be used.
func mergeSaved(c *cli.Context, cfg *config, f *saved.Fleet) ([]inventory.Host, error) {
	o := cfg.options()
	o.SkipBad, o.Keep = true, 1
	fleet, err := inventory.Load(c.Context, o, sourcesOf(f)...)
	if fleet == nil {
		return nil, err
	}
	for i := range fleet.Hosts {
		cfg.places.sites.Fill(&fleet.Hosts[i])
	}
	return fleet.Hosts, nil // that none is left is no error here
}

func (r *importReport) print(c *cli.Context, cfg *config) error {
	if c.Bool("json") {
		return printJSON(c, r)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SOURCE\tKIND\tHOSTS\tREAD")
	for _, s := range r.Sources {
		read := ago(s.Read)
		switch {
		case s.Parked():
			read += ", not used"
		case s.Missing:
			read = "never"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", s.Name, s.Kind, s.Hosts, read)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	out := c.App.Writer
	fmt.Fprintf(out, "%d hosts in %s", r.Fleet.Usable, r.File)
	if r.Fleet.Merged > 0 {
		fmt.Fprintf(out, "; %d rows say more of hosts that another source has", r.Fleet.Merged)
	}
	fmt.Fprintln(out)
	if ch := r.Changes; ch != nil {
		fmt.Fprintf(out, "since the import of %s: %d added, %d gone, %d changed\n", ago(ch.Since), ch.Added, ch.Gone, ch.Changed)
	}
	for _, s := range slices.Sorted(maps.Keys(r.States)) {
		fmt.Fprintf(out, "%d are %s and never touched\n", r.States[s], s)
	}
	if a := r.Affected; a != nil {
		fmt.Fprintf(out, "hit by the incident: %d likely, %d possible, %d unlikely\n", a[inventory.Likely], a[inventory.Possible], a[inventory.Unlikely])
	}
	if len(cfg.Sources) == 0 {
		say(c, "run and plan read %s itself, as long as there is no sources: in the configuration", cfg.Inventory)
	}
	return r.Run.print(c)
}
