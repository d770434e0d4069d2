package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/schedule/simulate"
)

//go:embed simulate.html.tmpl
var simulatePage string

func simulateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "simulate", Usage: "compare rules for who goes first, on a fleet that is made up; reads no inventory"},
		&cli.IntFlag{Name: "hosts", Value: 200_000, Usage: "with --simulate: `N` hosts, at a hundredth as many sites"},
		&cli.IntFlag{Name: "seeds", Value: 1, Usage: "with --simulate: the mean of `N` fleets"},
		&cli.StringFlag{Name: "loads", Usage: "with --simulate: `LOADS` of the places, as 0.8,1.0,1.6"},
	}
}

// A simulation is what unbrick plan --simulate --json prints.
type simulation struct {
	Hosts int            `json:"hosts"`
	Seeds int            `json:"seeds"`
	Loads []float64      `json:"loads"`
	Rows  []simulate.Row `json:"rows"`
}

// simulated compares the rules and prints what came of them.
func simulated(c *cli.Context) error {
	s := simulation{Hosts: c.Int("hosts"), Seeds: c.Int("seeds"), Loads: simulate.Loads()}
	if s.Hosts < 1 || s.Hosts > 10_000_000 || s.Seeds < 1 || s.Seeds > 100 {
		return usage("write --simulate --hosts 200000 --seeds 5", "--hosts must be 1 to 10000000, --seeds 1 to 100")
	}
	if text := c.String("loads"); text != "" {
		var err error
		if s.Loads, err = parseLoads(text); err != nil {
			return err
		}
	}
	rows, err := simulate.Table(simulate.Options{World: simulate.World{Hosts: s.Hosts, Seed: c.Uint64("seed") + 1}, Seeds: s.Seeds, Loads: s.Loads, Bound: true})
	if err != nil {
		return err
	}
	s.Rows = rows
	if file := c.String("html"); file != "" {
		if err := writePage(file, simulatePage, template.FuncMap{}, s.drawn()); err != nil {
			return err
		}
		say(c, "drawn into %s", file)
	}
	if c.Bool("json") {
		return printJSON(c, s)
	}
	s.print(c.App.Writer)
	return nil
}

// parseLoads reads "0.8,1.0,2.5".
func parseLoads(text string) (loads []float64, err error) {
	column := 1
	for part := range strings.SplitSeq(text, ",") {
		load, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || !(load >= 0.1 && load <= 100) {
			return nil, usage("write --loads 0.8,1.0,1.6: 1.0 is just enough places", "cannot read --loads %q: column %d: %q is not a load from 0.1 to 100", text, column, part)
		}
		loads = append(loads, load)
		column += len(part) + 1
	}
	return loads, nil
}

// rules returns the names of the rules, in the order of the table.
func (s simulation) rules() (names []string) {
	for _, r := range s.Rows {
		if !slices.Contains(names, r.Rule) {
			names = append(names, r.Rule)
		}
	}
	return names
}

func (s simulation) row(rule string, load float64) simulate.Row {
	i := slices.IndexFunc(s.Rows, func(r simulate.Row) bool { return r.Rule == rule && r.Load == load })
	return s.Rows[i]
}

// cell writes what came of a rule at a load.
func (s simulation) cell(rule string, load float64) string {
	r := s.row(rule, load)
	if rule == simulate.Bound {
		return fmt.Sprintf("%.1f / %.1f / %.0f / –", r.OnTime, r.Weighted, r.Core)
	}
	return fmt.Sprintf("%.1f / %.1f / %.0f / %.0f", r.OnTime, r.Weighted, r.Core, r.Tardiness)
}

func (s simulation) print(w io.Writer) {
	fmt.Fprintf(w, "%d hosts that are made up, from %s UTC on; the mean of %d\n", s.Hosts, simulate.Start().Format("Mon 2 Jan 2006 15:04"), s.Seeds)
	fmt.Fprintln(w, "on time / weighted by tier / sites with 95 % of all but the low tier in time, in %; weighted tardiness in thousand host-hours")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\nrule")
	for _, load := range s.Loads {
		fmt.Fprintf(tw, "\tload %g", load)
	}
	fmt.Fprintln(tw)
	for _, rule := range s.rules() {
		fmt.Fprint(tw, rule)
		for _, load := range s.Loads {
			fmt.Fprintf(tw, "\t%s", s.cell(rule, load))
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
	fmt.Fprintln(w, "\nshares, times and failures of this fleet are assumptions: read how the rules differ, not how many hosts they save")
}
