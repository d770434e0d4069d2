package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "all that is known of a host, and who said it", ArgsUsage: "HOST", Action: inventoryShow,
		Flags: []cli.Flag{inventoryFlag(), configFlag(), mapFlag(), refreshFlag(), jsonFlag()},
		Description: `The value in use stands first; in brackets who said it. Where sources do not agree the others
follow: wins: in unbrick.yaml says who is believed.

   unbrick inventory show SYD-00012`,
	}
}

// A hostReport is what unbrick inventory show --json prints. Scripts rely on its names.
type hostReport struct {
	Host   inventory.Host       `json:"host"`
	Fields []fieldReport        `json:"fields"`
	Likely inventory.Likelihood `json:"affected,omitempty"` // with incident: in unbrick.yaml
	Why    string               `json:"affected_why,omitempty"`
	Out    bool                 `json:"out"` // not in use: never touched
}

// A fieldReport is one field, and what each source says.
type fieldReport struct {
	Field string           `json:"field"`
	Value string           `json:"value"` // in use
	Says  []inventory.Said `json:"says"`
}

func inventoryShow(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if !cfg.hasFleet() {
		return usage("give the fleet with -i fleet.csv, or sources: in unbrick.yaml", "no inventory")
	}
	if err := cfg.readPlaces(time.Now()); err != nil {
		return err
	}
	r, err := whatOf(c, cfg, args[0])
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, r)
	}
	return r.print(c.App.Writer)
}

// whatOf reads the fleet and what a host of that name, in any case, was made of.
func whatOf(c *cli.Context, cfg *config, name string) (*hostReport, error) {
	sources, release, err := fleetSources(c, cfg, false)
	if err != nil {
		return nil, err
	}
	defer release()
	said := map[string][]inventory.Said{}
	o := cfg.options()
	o.SkipBad = true // what is wrong with other hosts is not asked
	o.Rows = func(h *inventory.Host, rows []*inventory.Host) {
		if !inventory.SameName(h.Name, name) {
			return
		}
		for _, row := range rows {
			at := row.From[0]
			for f, v := range row.Values() {
				said[f] = append(said[f], inventory.Said{Value: v, Source: at.Source, Place: at.Place})
			}
		}
	}
	fleet, err := inventory.Load(c.Context, o, sources...)
	if fleet == nil {
		return nil, hinted(err, "unbrick inventory check FILE says more")
	}
	h, err := hostNamed(fleet, name)
	if err != nil {
		return nil, usage("names are those of unbrick inventory list; of a host that sources do not agree on, unbrick inventory import says why it is left out", "no host %q in the inventory", name)
	}
	cfg.places.sites.Fill(&h)
	r := &hostReport{Host: h, Out: h.State != ""}
	for f, v := range h.Values() {
		r.Fields = append(r.Fields, fieldReport{f, v, inUseFirst(said[f], v)})
	}
	for f := range said { // a value that only sources have which are not believed
		if h.Value(f) == "" {
			r.Fields = append(r.Fields, fieldReport{f, "", said[f]})
		}
	}
	if i := cfg.incident(); i != nil {
		r.Likely, r.Why = i.Judge(&h)
	}
	return r, nil
}

// inUseFirst puts what is in use before the rest.
func inUseFirst(said []inventory.Said, v string) []inventory.Said {
	slices.SortStableFunc(said, func(a, b inventory.Said) int {
		return map[bool]int{true: 0, false: 1}[a.Value == v] - map[bool]int{true: 0, false: 1}[b.Value == v]
	})
	return said
}

func (r *hostReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range r.Fields {
		who, others := f.split()
		fmt.Fprintf(w, "%s\t%s\t(%s)%s\n", f.Field, orDash(f.Value), who, others)
	}
	for _, cf := range r.Host.Conflicts {
		fmt.Fprintf(w, "conflict\t%s\n", cf)
	}
	seen := map[string]inventory.Origin{}
	for _, o := range r.Host.From {
		seen[o.Source+" "+o.Place] = o
	}
	for _, k := range slices.Sorted(maps.Keys(seen)) {
		last := ""
		if at := seen[k].Seen; !at.IsZero() {
			last = "last seen " + at.UTC().Format("2006-01-02 15:04 UTC")
			if lag := seen[k].Lag; lag > 0 {
				last += fmt.Sprintf(", give or take %s", lag)
			}
		}
		fmt.Fprintf(w, "known to\t%s\t%s\n", k, last)
	}
	if r.Likely != "" {
		fmt.Fprintf(w, "affected\t%s\t%s\n", r.Likely, r.Why)
	}
	if r.Out {
		fmt.Fprintf(w, "not in use\t%s\tit is never touched\n", r.Host.State)
	}
	return w.Flush()
}

// split says who said the value in use, and what others say.
func (f *fieldReport) split() (who, others string) {
	var in, out []string
	for _, s := range f.Says {
		if s.Value == f.Value {
			in = append(in, s.Source)
		} else {
			out = append(out, fmt.Sprintf("; %s says %q", s.Source, s.Value))
		}
	}
	if in == nil && f.Value != "" {
		in = []string{"by several, or by its site"} // MAC addresses are put together, sites fill in time zones
	}
	if in == nil {
		in = []string{"not used"}
	}
	return strings.Join(in, ", "), strings.Join(out, "")
}
