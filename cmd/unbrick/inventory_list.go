package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/inventory/source/csv"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "the hosts of the fleet, those that are not in use too", Action: inventoryList,
		Flags: append(fleetFlags(), jsonFlag(),
			&cli.StringFlag{Name: "columns", Usage: "`FIELDS` to show, as name,site,redfish,label:model", Value: "name,site,tier,state,ways,affected,sources"}),
		Description: `Fields are those of fleet.csv, the ways in, label:NAME, and ways, sources, seen, affected, why and conflicts.

   unbrick inventory list --only 'site == "SYD"'
   unbrick inventory list --columns name,serial,redfish,label:model`,
	}
}

func inventoryList(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	columns, err := listColumns(c.String("columns"))
	if err != nil {
		return err
	}
	fleet, err := readFleet(c, cfg, false)
	if err != nil {
		return err
	}
	if _, err := only(fleet, c.String("only")); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, fleet.Hosts)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(columns, "\t")))
	for i := range fleet.Hosts {
		for k, col := range columns {
			if k > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, orDash(columnOf(&fleet.Hosts[i], col)))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	say(c, "%d hosts", len(fleet.Hosts))
	return nil
}

// shownFields are what list shows beside the fields of a host.
func shownFields() []string {
	return []string{"ways", "sources", "seen", "affected", "why", "conflicts"}
}

// listColumns reads --columns.
func listColumns(text string) (columns []string, err error) {
	known := append(inventory.DraftFields(), shownFields()...)
	for col := range strings.SplitSeq(text, ",") {
		col = strings.TrimSpace(col)
		if !slices.Contains(known, col) && !strings.HasPrefix(col, inventory.LabelPrefix) {
			return nil, usage("fields are "+strings.Join(known, ", ")+" and label:NAME", "no field %q", col)
		}
		columns = append(columns, col)
	}
	return columns, nil
}

// columnOf is what is shown of a host under a column.
func columnOf(h *inventory.Host, column string) string {
	var names []string
	switch column {
	case "ways":
		for _, r := range h.Routes {
			names = append(names, r.Driver)
		}
	case "sources":
		for _, o := range h.From {
			names = append(names, o.Source)
		}
	case "conflicts":
		for _, f := range h.Conflicts {
			names = append(names, f.Field)
		}
	case "seen":
		if at := h.Seen(); !at.IsZero() {
			return at.UTC().Format("2006-01-02 15:04")
		}
		return ""
	case "affected":
		return h.Labels[inventory.AffectedLabel]
	case "why":
		return h.Labels[inventory.AffectedWhyLabel]
	case "tier":
		return h.Tier.String()
	default:
		return h.Value(column)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write the fleet as fleet.csv: reading that gives the same hosts", Action: inventoryExport,
		Flags: append(fleetFlags(), jsonFlag(),
			&cli.StringFlag{Name: "csv", Usage: "write `FILE`; - is standard output", Value: "-"}),
		Description: `For a machine without the sources, a colleague, or to correct by hand. What sources did not agree
on and when hosts were seen is not in it.

   unbrick inventory export --csv fleet.csv
   unbrick inventory export --only 'site == "SYD"' > syd.csv`,
	}
}

// An exportReport is what unbrick inventory export --json prints.
type exportReport struct {
	File   string `json:"file"`
	Hosts  int    `json:"hosts"`
	Routes int    `json:"routes_left"` // hosts of which a way in is not in the file
	Labels int    `json:"labels_left"` // hosts of which a label is not in the file, because it looks like a secret
}

func inventoryExport(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	name := c.String("csv")
	if name == "-" && c.Bool("json") {
		return usage("give --csv FILE", "--json and the hosts cannot both go to standard output")
	}
	fleet, err := readFleet(c, cfg, false)
	if err != nil {
		return err
	}
	if _, err := only(fleet, c.String("only")); err != nil {
		return err
	}
	r := exportReport{File: name, Hosts: len(fleet.Hosts)}
	left, err := export(c, name, fleet.Hosts)
	if err != nil {
		return usage("--csv names a file in a folder that can be written", "cannot export: %v", err)
	}
	r.Routes, r.Labels = left.Routes, left.Labels
	if c.Bool("json") {
		return printJSON(c, r)
	}
	if left.Routes > 0 {
		say(c, "warning: %d hosts have two ways in by one driver, or one that no column is for: it is not in the file", left.Routes)
	}
	if left.Labels > 0 {
		say(c, "warning: %d hosts have labels that look like secrets: they are not in the file", left.Labels)
	}
	say(c, "%d hosts", r.Hosts)
	return nil
}

// export writes the hosts: a file as a whole, or not at all.
func export(c *cli.Context, name string, hosts []inventory.Host) (left csv.Left, err error) {
	if name == "-" {
		return csv.Write(c.App.Writer, hosts)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".unbrick-export-*")
	if err != nil {
		return left, err
	}
	left, err = csv.Write(f, hosts)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return left, err
}
