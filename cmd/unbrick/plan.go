package main

import (
	"cmp"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

func planCommand() *cli.Command {
	return &cli.Command{
		Name: "plan", Usage: "who first and why, who is back when their site opens, and what would save the others; nothing is touched", Action: plan,
		Flags: append(append(fleetFlags(), simulateFlags()...), playbookFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "all", Usage: "list every site and host, not the first"},
			&cli.TimestampFlag{Name: "at", Layout: time.RFC3339, Usage: "plan as if it were `TIME`, as 2024-07-19T06:00:00Z"},
			&cli.StringFlag{Name: "what-if", Usage: "show what `CHANGES` would do, as slots=60,technicians.SYD=8"},
			&cli.StringFlag{Name: "html", Usage: "draw the plan into `FILE`, a page that needs nothing else"},
			&cli.Uint64Flag{Name: "seed", Usage: "another `NUMBER` draws other times and failures"}),
		Description: `   unbrick plan -i fleet.csv
   unbrick plan -i fleet.csv --only 'site=SYD' --all
   unbrick plan -i fleet.csv --what-if slots=60,technicians.SYD=8
   unbrick plan -i fleet.csv --html plan.html
   unbrick plan --simulate --seeds 5 --html rules.html`,
	}
}

// planTime is the moment that a command plans for.
func planTime(c *cli.Context) time.Time {
	if t := c.Timestamp("at"); t != nil {
		return *t
	}
	return time.Now()
}

// A planReport is what unbrick plan --json prints. Scripts rely on its names.
type planReport struct {
	At       time.Time    `json:"at"`
	Playbook string       `json:"playbook"`
	Hosts    int          `json:"hosts"`
	Counted  bool         `json:"counted,omitempty"` // too many to be held: there is no order
	Order    []planLine   `json:"order"`
	Forecast planForecast `json:"forecast"`
	WhatIf   *whatIf      `json:"what_if,omitempty"`
	Notes    []string     `json:"notes"`
}

// A planForecast is a forecast with what a person looks for first.
type planForecast struct {
	forecast.Forecast
	Slots  int          `json:"slots"`           // hosts at once
	Needed int          `json:"needed"`          // slots that would do; 0 if no host has a due time
	Late   int          `json:"late"`            // hosts, half of the time
	End    time.Time    `json:"end"`             // of the last host, half of the time
	Ends   [3]time.Time `json:"end_p10_p50_p90"` // of the last host
	Sites  []planSite   `json:"sites"`           // who needs attention first
}

// A planSite is a site of the forecast.
type planSite struct {
	forecast.Line
	Site   string `json:"site"`
	Zone   string `json:"zone,omitempty"`
	Late   int    `json:"late"`
	Always bool   `json:"always,omitempty"` // open round the clock: due is a target
}

func plan(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	if c.Bool("simulate") {
		return simulated(c)
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	changes, err := parseWhatIf(c.String("what-if"))
	if err != nil {
		return err
	}
	pb, err := openPlaybook(cfg.Playbook)
	if err != nil {
		return err
	}
	now := planTime(c)
	if err := cfg.readPlaces(now); err != nil {
		return err
	}
	n, err := takeCensus(c, cfg, planVariants(cfg, now, changes)...)
	if err != nil {
		return err
	}
	p := n.plan(now, planWish{seed: c.Uint64("seed"), order: shownHosts, changes: changes, all: c.Bool("all") || c.Bool("json")})
	p.Playbook, p.Notes = pb.Name, append(p.Notes, cfg.left()...)
	if p.WhatIf != nil && p.WhatIf.err != nil {
		return hinted(p.WhatIf.err, whatIfHint)
	}
	if file := c.String("html"); file != "" {
		if err := drawPlan(file, p, n, c.Uint64("seed")); err != nil {
			return err
		}
		say(c, "drawn into %s", file)
	}
	if c.Bool("json") {
		return printJSON(c, p)
	}
	printPlan(c.App.Writer, p, c.Bool("all"))
	return nil
}

// makePlan returns the plan of a fleet that loadFleet read.
func makePlan(cfg *config, fleet *inventory.Fleet, now time.Time, playbook string) planReport {
	p := held(fleet.Hosts, cfg.planOptions(now)).plan(now, planWish{all: true})
	p.Playbook, p.Notes = playbook, append(p.Notes, cfg.left()...)
	return p
}

// A planWish is what is asked of a plan.
type planWish struct {
	seed    uint64
	order   int  // so many hosts
	all     bool // all of them
	changes []schedule.Change
}

// plan makes the report of a census.
func (n *census) plan(now time.Time, w planWish) planReport {
	p := planReport{At: now.UTC(), Hosts: n.total, Order: []planLine{}, Notes: append([]string{}, n.lines()...), Counted: n.hosts == nil}
	d := schedule.NewDispatcher(n.fleets[0], nil)
	p.Forecast = n.forecast(forecast.Look(d, forecast.Options{Now: now, Seed: w.seed}), d)
	if w.all {
		w.order = n.total
	}
	if n.hosts != nil {
		p.Order = n.order(w.order)
	}
	if w.changes != nil {
		p.WhatIf = n.whatIf(p.Forecast, now, w)
	}
	return p
}

// forecast sums a forecast up, sites that need attention first.
func (n *census) forecast(f forecast.Forecast, d *schedule.Dispatcher) planForecast {
	p := planForecast{Forecast: f, Slots: d.Caps()["slots"], Late: f.All.Hosts - f.All.OnTime.P50, End: f.End[1], Ends: f.End, Sites: []planSite{}}
	for _, need := range f.Needs {
		if need.Change.What == "slots" && need.Change.Name == "" {
			p.Needed = need.Least
		}
	}
	zones := map[string]string{}
	for _, place := range d.Places() {
		zones[place.Site] = place.Zone
	}
	for _, line := range f.Sites {
		p.Sites = append(p.Sites, planSite{Line: line, Site: line.Name, Zone: zones[line.Name],
			Late: line.Hosts - line.OnTime.P50, Always: n.always[line.Name]})
	}
	slices.SortStableFunc(p.Sites, byAttention)
	return p
}

// byAttention puts sites first that lose the most hosts, then those that may, then those of
// which nobody knows when they open, then by when their work has to begin.
func byAttention(a, b planSite) int {
	start := func(s planSite) int64 {
		if s.Latest.IsZero() {
			return 1 << 62
		}
		return s.Latest.Unix()
	}
	return cmp.Or(cmp.Compare(b.Late, a.Late), cmp.Compare(b.Hosts-b.OnTime.P10, a.Hosts-a.OnTime.P10),
		cmp.Compare(b.NoDue, a.NoDue), cmp.Compare(start(a), start(b)), cmp.Compare(a.Site, b.Site))
}
