package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate/schedule"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "who first and why, and what will be late; nothing is touched", Action: plan,
		Flags: append(fleetFlags(), playbookFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "all", Usage: "list every host, not the first 20"},
			&cli.TimestampFlag{Name: "at", Layout: time.RFC3339, Usage: "plan as if it were `TIME`, as 2024-07-19T06:00:00Z"}),
		Description: "   unbrick plan -i fleet.csv\n   unbrick plan -i fleet.csv --only 'site=SYD' --all",
	}
}

// planned is how long the treatment of a host takes, by its first way in that is known:
// estimates, until a run has outcomes to learn from.
func planned(hosts []inventory.Host) func(schedule.Item) time.Duration {
	const otherwise = 15 * time.Minute
	minutes := map[string]time.Duration{"winrm": 4 * time.Minute, "redfish": 14 * time.Minute, "amt": 16 * time.Minute}
	return func(it schedule.Item) time.Duration {
		for _, r := range hosts[it.Index].Routes {
			if d, ok := minutes[r.Driver]; ok {
				return d
			}
		}
		return otherwise
	}
}

type planReport struct {
	At       time.Time         `json:"at"`
	Playbook string            `json:"playbook"`
	Order    []planLine        `json:"order"`
	Forecast schedule.Forecast `json:"forecast"`
}

type planLine struct {
	schedule.Item
	Routes []inventory.Route `json:"routes"`
}

func plan(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	pb, err := openPlaybook(cfg.Playbook)
	if err != nil {
		return err
	}
	fleet, err := loadFleet(c, cfg)
	if err != nil {
		return err
	}
	now := time.Now()
	if t := c.Timestamp("at"); t != nil {
		now = *t
	}
	p := makePlan(cfg, fleet, now, pb.Name)
	if c.Bool("json") {
		return printJSON(c, p)
	}
	printPlan(c.App.Writer, p, c.Bool("all"))
	return nil
}

func makePlan(cfg *config, fleet *inventory.Fleet, now time.Time, playbook string) planReport {
	items := schedule.Order(fleet.Hosts, now)
	p := planReport{At: now.UTC(), Playbook: playbook}
	p.Forecast = schedule.Late(items, now, schedule.Capacity{Slots: cfg.Limits.Hosts, Planned: planned(fleet.Hosts)})
	for _, it := range items {
		p.Order = append(p.Order, planLine{it, fleet.Hosts[it.Index].Routes})
	}
	return p
}

func printPlan(w io.Writer, p planReport, all bool) {
	fmt.Fprintf(w, "%d hosts, playbook %s, %d at once\n\n", len(p.Order), p.Playbook, p.Forecast.Slots)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "site\thosts\topens there\tready about\tlate")
	for _, s := range p.Forecast.Sites {
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%d\n", named(s.Site), s.Hosts, s.Due.Format("Mon 2 Jan 15:04 MST"), s.Ready.In(s.Due.Location()).Format("Mon 2 Jan 15:04"), s.Late)
	}
	tw.Flush()
	fmt.Fprintln(w)
	shown := len(p.Order)
	if !all {
		shown = min(shown, 20)
	}
	for i, it := range p.Order[:shown] {
		fmt.Fprintf(w, "%4d  %s  %s  %s: %s\n", i+1, it.Name, named(it.Site), routeNames(it.Routes), it.Why)
	}
	if rest := len(p.Order) - shown; rest > 0 {
		fmt.Fprintf(w, "      and %d more; --all lists them\n", rest)
	}
	fmt.Fprintf(w, "\nall done about %s", p.Forecast.End.UTC().Format("Mon 2 Jan 15:04 MST"))
	if f := p.Forecast; f.Late > 0 {
		fmt.Fprintf(w, "; %d hosts late (%d of them whatever is done); %d slots would save the others", f.Late, f.Hopeless, f.Needed)
	}
	fmt.Fprintln(w, "\nan estimate: nothing fails, and every way in takes as long as it usually does")
	for _, n := range notes(p.Order) {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

func named(site string) string {
	if site == "" {
		return "(none)"
	}
	return site
}

func routeNames(routes []inventory.Route) string {
	var names []string
	for _, r := range routes {
		names = append(names, r.Driver)
	}
	if names == nil {
		return "no way in"
	}
	return strings.Join(names, ", ")
}

// notes returns what was assumed, each once, with how many hosts it is about.
func notes(order []planLine) []string {
	hosts := map[string]int{}
	for _, it := range order {
		for _, n := range it.Notes {
			hosts[n]++
		}
	}
	var lines []string
	for n, k := range hosts {
		lines = append(lines, fmt.Sprintf("%s (%d hosts)", n, k))
	}
	slices.Sort(lines)
	return lines
}
