package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/inventory/saved"
)

// hasFleet says whether the configuration names any host.
func (c *config) hasFleet() bool { return c.Inventory != "" || len(c.Sources) > 0 }

// fleetFile is where the saved fleet is.
func (c *config) fleetFile() string {
	if c.Fleet == "" {
		return "unbrick.fleet"
	}
	return c.Fleet
}

// openSaved opens the saved fleet; nil if there is none.
func openSaved(cfg *config) (*saved.Fleet, error) {
	f, err := saved.Open(cfg.fleetFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return f, hinted(err, "unbrick inventory import makes it anew; fleet: in unbrick.yaml names another")
}

// A gathering is the rows of all sources in one place: what they say now and, of those that
// were not asked or do not answer, what they said when they were saved.
type gathering struct {
	*saved.Fleet
	order  []namedSource
	asked  map[string]bool // sources that were asked now
	failed map[string]error
}

// mostAtOnce is how many sources are read at once.
const mostAtOnce = 8

// gather asks the sources that ask picks, all at once, and takes the others from old, if it is
// there. A source that cannot be read is no error as long as one can be. What is to be published
// has to be gathered in the folder of its file.
func gather(c *cli.Context, dir string, order []namedSource, old *saved.Fleet, ask func(namedSource) bool) (*gathering, error) {
	w := saved.NewWriter(dir)
	defer w.Close()
	g := &gathering{order: order, asked: map[string]bool{}, failed: map[string]error{}}
	p := newReadings(c.App.ErrWriter)
	var all sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, mostAtOnce)
	for _, s := range order {
		if !ask(s) {
			if was := old.Section(s.Name); !w.Keep(old, s.Name, s.Config, was.Failed) {
				w.Miss(*was, was.Failed)
			}
			continue
		}
		g.asked[s.Name] = true
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := g.read(c.Context, w, s, old, c.Bool("fewer"), func(n int) { p.count(s.Name, n) })
			p.end(s.Name, err)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				g.failed[s.Name] = err
			}
		})
	}
	all.Wait()
	p.close()
	if err := c.Context.Err(); err != nil {
		return nil, err
	}
	if len(g.failed) == len(g.asked) && len(order) == len(g.asked) && old == nil {
		return nil, g.none()
	}
	var names []string
	for _, s := range order {
		names = append(names, s.Name)
	}
	var err error
	g.Fleet, err = w.Fleet(names)
	return g, hinted(err, "fleet: in unbrick.yaml names a file in a folder that can be written")
}

// none says why there is no fleet at all.
func (g *gathering) none() error {
	var lines []string
	for _, s := range g.order {
		lines = append(lines, fmt.Sprintf("%s: %v", s.Name, g.failed[s.Name]))
	}
	return usage("unbrick doctor says what each source needs; unbrick inventory import saves the fleet for when they are down",
		"no source of the inventory can be read, and none was saved:\n%s", strings.Join(lines, "\n"))
}

// read records one source. If that fails, what was saved of it stands in for it; what another
// question brought does not, and is kept all the same.
func (g *gathering) read(ctx context.Context, w *saved.Writer, s namedSource, old *saved.Fleet, fewer bool, count func(int)) error {
	section := saved.Section{Name: s.Name, Kind: s.Kind, Config: s.Config}
	var was *saved.Section
	if old != nil {
		was = old.Section(s.Name)
	}
	same := was != nil && s.asks(was.Config)
	n := 0
	err := w.Record(ctx, section, s.Source, func(hosts int) { n = hosts; count(hosts) })
	if err == nil && same && was.SHA256 != "" && !fewer && !s.Local && 2*n < was.Hosts {
		err = fmt.Errorf("it has %d hosts now and had %d %s: a right may have been taken away. If it is true: --fewer", n, was.Hosts, ago(was.Read))
	}
	var partial *inventory.PartialError
	if err == nil || errors.As(err, &partial) && (fewer || !same || was.Partial || was.SHA256 == "") {
		return nil // of a part it is said that it is one
	}
	kept := false
	switch {
	case same:
		kept = w.Keep(old, s.Name, s.Config, err.Error())
	case was != nil:
		kept = w.Park(old, s.Name, err.Error())
	}
	if !kept {
		w.Miss(section, err.Error())
	}
	return err
}

// sourcesOf returns the rows of a saved fleet as sources.
func sourcesOf(f *saved.Fleet) (all []inventory.Source) {
	for _, s := range f.Sections {
		if src := f.Source(s.Name); src != nil {
			all = append(all, src)
		}
	}
	return all
}

// ago says how long ago a time is, as a person does.
func ago(at time.Time) string {
	d := time.Since(at)
	switch {
	case d < 2*time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// stale says that a source has to be asked, because what was saved answers another question.
func stale(old *saved.Fleet, s namedSource) bool {
	was := old.Section(s.Name)
	return was == nil || !s.asks(was.Config)
}

// loadable gathers the rows that a command is to use: those that were saved, unless --refresh or
// keep says otherwise or there are none.
func loadable(c *cli.Context, cfg *config, keep bool) (*gathering, error) {
	order, err := openSources(cfg)
	if err != nil {
		return nil, err
	}
	old, err := openSaved(cfg)
	if err != nil && !c.Bool("refresh") {
		return nil, err
	}
	if err != nil {
		say(c, "warning: %v; it is made anew", err)
	}
	if old != nil {
		defer old.Close()
	}
	refresh := old == nil || c.Bool("refresh")
	dir := os.TempDir()
	publish := c.Bool("refresh") || keep && old == nil
	if publish {
		dir = filepath.Dir(cfg.fleetFile())
	}
	g, err := gather(c, dir, order, old, func(s namedSource) bool { return refresh || s.Local || stale(old, s) })
	if err != nil {
		return nil, err
	}
	if publish {
		if err := g.Publish(cfg.fleetFile()); err != nil {
			g.Close()
			return nil, err
		}
	}
	return g, nil
}

// sayAge says how old the rows are, and what is missing.
func (g *gathering) sayAge(c *cli.Context, cfg *config) {
	oldest := time.Now()
	for _, s := range g.Sections {
		if !s.Missing && s.Read.Before(oldest) && !g.asked[s.Name] {
			oldest = s.Read
		}
	}
	if len(g.asked) < len(g.order) {
		say(c, "fleet: %s, read %s; --refresh reads the sources anew", cfg.fleetFile(), ago(oldest))
	}
	for _, s := range g.order {
		if g.asked[s.Name] && !s.Local && len(g.asked) < len(g.order) {
			say(c, "%s was not saved as it is configured now: it was read anew; unbrick inventory import saves it", s.Name)
		}
	}
	g.sayFailed(c)
}

// sayFailed warns of sources that could not be read.
func (g *gathering) sayFailed(c *cli.Context) {
	for _, s := range g.Sections {
		switch {
		case s.Parked():
			say(c, "warning: %s could not be read, and is configured otherwise than %s: its %d hosts of then are kept, and none of them is used (%s)", s.Name, ago(s.Read), s.Hosts, s.Failed)
		case s.Missing:
			say(c, "warning: %s could not be read, and nothing of it was saved: what it alone knows is missing (%s)", s.Name, s.Failed)
		case s.Partial:
			say(c, "warning: %s could be read in part, %d hosts, and others are missing (%s)", s.Name, s.Hosts, oneLine(s.Failed))
		case s.Failed != "":
			say(c, "warning: %s could not be read: its %d hosts are those of %s (%s)", s.Name, s.Hosts, ago(s.Read), s.Failed)
		}
	}
}
