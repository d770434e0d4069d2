package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate/engine"
)

// runOptions is what a run remembers of how its hosts were picked, so that a fleet which is read
// again is picked from in the same way.
type runOptions struct {
	Only    *string `json:"only,omitempty"` // nil: a host was named, or it is not known
	Sources bool    `json:"sources,omitempty"`
}

func (o runOptions) json() json.RawMessage {
	b, _ := json.Marshal(o) // a text and a bool always have a JSON
	return b
}

// begin begins the run, or goes on with it. If the sources say something else than when it was
// begun, it takes that in.
func (k *kit) begin(ctx context.Context, c *cli.Context, fleet *inventory.Fleet, id string) (engine.Run, error) {
	only := c.String("only")
	r := engine.Run{ID: id, Playbook: k.playbook.Name, Source: k.playbook.Source(), FleetDigest: digest(fleet, only), Ladder: k.ladder()}
	if id == "" {
		r.Options = runOptions{Only: &only, Sources: len(k.cfg.Sources) > 0}.json()
	}
	got, err := k.store.Begin(ctx, r, order(fleet, time.Now()))
	var other *engine.OtherRunError
	if !errors.As(err, &other) || id != "" || !bytes.Equal(other.Have.Source, r.Source) || !bytes.Equal(other.Have.Options, r.Options) || len(k.cfg.Sources) == 0 {
		return got, hinted(err, "--state names another place for another run")
	}
	done, err := k.store.Refresh(ctx, other.Have.ID, r.FleetDigest, both(order(fleet, time.Now()), unused(k.cfg.unused)), slices.Values(k.cfg.unpicked))
	if err != nil {
		return got, err
	}
	refreshReport{Run: other.Have.ID, Refreshed: done}.say(c)
	return k.store.Begin(ctx, r, order(fleet, time.Now()))
}

// unused yields hosts that are not in use.
func unused(hosts []inventory.Host) iter.Seq[engine.Planned] {
	return func(yield func(engine.Planned) bool) {
		for _, h := range hosts {
			if !yield(engine.Planned{Host: h}) {
				return
			}
		}
	}
}

func both(a, b iter.Seq[engine.Planned]) iter.Seq[engine.Planned] {
	return func(yield func(engine.Planned) bool) {
		for _, all := range []iter.Seq[engine.Planned]{a, b} {
			for p := range all {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// A refreshReport says what a run took in of a fleet that was read again.
type refreshReport struct {
	Run string `json:"run"`
	engine.Refreshed
}

// refreshRun takes a fleet into a run of the state.
func refreshRun(c *cli.Context, cfg *config, fleet *inventory.Fleet, run string) (*refreshReport, error) {
	store, err := openStore(c, cfg)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if run == "latest" {
		run = ""
	}
	r, err := refreshStore(c.Context, cfg, store, fleet, run)
	return r, noRunHint(err)
}

// refreshStore picks the run's hosts of a fleet, in use or not, and takes them into it.
func refreshStore(ctx context.Context, cfg *config, store *engine.Store, fleet *inventory.Fleet, id string) (*refreshReport, error) {
	run, err := store.Run(ctx, id)
	if err != nil {
		return nil, err
	}
	var o runOptions
	if err := json.Unmarshal(run.Options, &o); err != nil || o.Only == nil {
		return nil, usage("end it first: the same command goes on with it", "run %s cannot take in hosts: it is of one host, or was begun by an earlier unbrick", run.ID)
	}
	picked := &inventory.Fleet{Summary: fleet.Summary}
	var out []inventory.Host
	var others []string
	sel, err := parseOnly(*o.Only)
	if err != nil {
		return nil, err
	}
	for _, h := range fleet.Hosts {
		if i := cfg.incident(); i != nil {
			i.Mark(&h)
		}
		switch {
		case h.State != "":
			out = append(out, h)
		case sel == nil || sel.Match(h):
			picked.Hosts = append(picked.Hosts, h)
		default:
			others = append(others, h.Name)
		}
	}
	done, err := store.Refresh(ctx, run.ID, digest(picked, *o.Only), both(order(picked, time.Now()), unused(out)), slices.Values(others))
	return &refreshReport{Run: run.ID, Refreshed: done}, err
}

// lines says what became of the hosts. Those that a person may have to look at have names.
func (r refreshReport) lines() (lines []string) {
	say := func(names []string, most int, what string) {
		if len(names) == 0 {
			return
		}
		line := fmt.Sprintf("%d hosts %s", len(names), what)
		if most > 0 {
			line += ": " + strings.Join(names[:min(most, len(names))], ", ")
			if len(names) > most {
				line += fmt.Sprintf(" and %d more", len(names)-most)
			}
		}
		lines = append(lines, line)
	}
	say(r.Added, 5, "are new in run "+r.Run)
	say(r.Changed, 0, "have changed: what is known now is in force")
	say(r.Begun, shownProblems, "have changed and are in treatment: they go on as they were")
	say(r.Unused, shownProblems, "are no longer in use: they are skipped")
	say(r.Gone, shownProblems, "are gone from the inventory: they stay in the run")
	say(r.Unpicked, shownProblems, "no longer fit --only: they stay in the run")
	var renamed []string
	for old, now := range r.Renamed {
		renamed = append(renamed, old+" (now "+now+")")
	}
	slices.Sort(renamed)
	say(renamed, shownProblems, "have another name now: they stay under the one that they had")
	if lines == nil {
		lines = []string{"nothing that run " + r.Run + " goes by has changed"}
	}
	return lines
}

func (r refreshReport) say(c *cli.Context) {
	for _, line := range r.lines() {
		say(c, "%s", line)
	}
}

func (r *refreshReport) print(c *cli.Context) error {
	if r == nil {
		return nil
	}
	for _, line := range r.lines() {
		if _, err := fmt.Fprintln(c.App.Writer, line); err != nil {
			return err
		}
	}
	return nil
}

func refreshEveryFlag() cli.Flag {
	return &cli.DurationFlag{Name: "refresh-every", Usage: "read the sources anew every `DURATION`, as 15m (at least 1m), and take in what is new"}
}

// leastRefresh keeps a slip from asking a CMDB all the time.
const leastRefresh = time.Minute

// refreshEvery takes in what the sources say now and then, until ctx ends. What goes wrong is
// said and changes nothing.
func (k *kit) refreshEvery(ctx context.Context, c *cli.Context, run string, line func(string)) {
	every := c.Duration("refresh-every")
	if every <= 0 {
		return
	}
	tick := time.NewTicker(max(every, leastRefresh))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, l := range k.refreshOnce(ctx, c, run) {
				line(l)
			}
		}
	}
}

// refreshOnce reads the sources, saves what they say and takes it into the run. It returns what
// there is to say.
func (k *kit) refreshOnce(ctx context.Context, c *cli.Context, run string) []string {
	var said bytes.Buffer
	app, quiet := *c.App, *c // a picture of the run is on the screen
	app.ErrWriter, quiet.App, quiet.Context = &said, &app, ctx
	r, err := k.reread(&quiet, run)
	lines := strings.FieldsFunc(said.String(), func(r rune) bool { return r == '\n' })
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return append(lines, fmt.Sprintf("warning: the fleet could not be read again: %v; the run goes on as it is", err))
	}
	return append(lines, r.lines()...)
}

func (k *kit) reread(c *cli.Context, run string) (*refreshReport, error) {
	old, err := openSaved(k.cfg)
	if err != nil {
		return nil, err
	}
	if old != nil {
		defer old.Close()
	}
	g, fleet, err := importAll(c, k.cfg, old)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	if len(k.cfg.Sources) > 0 {
		if err := g.Publish(k.cfg.fleetFile()); err != nil {
			return nil, err
		}
	}
	return refreshStore(c.Context, k.cfg, k.store, fleet, run)
}
