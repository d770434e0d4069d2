package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/engine"
	"unbrick/remediate/schedule/forecast"
)

func pinCommand() *cli.Command {
	return &cli.Command{
		Name: "pin", Usage: "put a site before all others for a while, and say what that costs them", ArgsUsage: "SITE", Action: pin,
		Flags: []cli.Flag{stateFlag(), configFlag(), runFlag(),
			&cli.StringFlag{Name: "until", Required: true, Usage: "`TIME`, as 2024-07-22T06:00:00Z, or from now, as 6h"},
			&cli.BoolFlag{Name: "anyway", Usage: "begin its hosts even before its dependency tier has ended"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what it would cost, and pin nothing"}},
		Description: "Started work goes on. The order changes within moments.\n\n   unbrick pin SYD --until 6h\n   unbrick pin SYD --until 2024-07-22T06:00:00Z --dry-run",
	}
}

func unpinCommand() *cli.Command {
	return &cli.Command{
		Name: "unpin", Usage: "end a pin: the site comes when the plan says", ArgsUsage: "SITE",
		Flags:       []cli.Flag{stateFlag(), configFlag(), runFlag()},
		Description: "   unbrick unpin SYD",
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 1, 1)
			if err != nil {
				return err
			}
			return withStore(c, func(s *engine.Store) error {
				return noRunHint(s.Pin(c.Context, c.String("run"), args[0], engine.Pin{By: operator()}))
			})
		},
	}
}

func pin(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	now := time.Now()
	until, err := untilTime(c.String("until"), now)
	if err != nil {
		return err
	}
	p := engine.Pin{Until: until, By: operator(), Anyway: c.Bool("anyway")}
	return withStore(c, func(store *engine.Store) error {
		st, err := store.Status(c.Context, c.String("run"))
		if err != nil {
			return noRunHint(err)
		}
		cost, err := pinCost(c, store, st, args[0], p, now)
		if err != nil {
			return err
		}
		if !c.Bool("dry-run") {
			if err := store.Pin(c.Context, st.Run.ID, args[0], p); err != nil {
				return noRunHint(err)
			}
			say(c, "%s comes first until %s", args[0], until.UTC().Format(clockLayout+" MST"))
		}
		if cost != nil {
			fmt.Fprintf(c.App.Writer, "in time: %+d hosts at %s, %+d hosts elsewhere\n", cost.Here, args[0], cost.Elsewhere)
		}
		return nil
	})
}

// untilTime reads a time, or a duration from now on.
func untilTime(text string, now time.Time) (time.Time, error) {
	until, err := time.Parse(time.RFC3339, text)
	if d, e := time.ParseDuration(text); e == nil {
		until, err = now.Add(d), nil
	}
	if err != nil {
		return until, usage("--until 6h, or --until 2024-07-22T06:00:00Z", "%q is not a time", text)
	}
	if !until.After(now) {
		return until, usage("unbrick unpin ends a pin", "%s is over", text)
	}
	return until, nil
}

// pinCost compares what is to be expected with a pin and without it: nil if the run is too large
// to look ahead in passing. A site that the run does not have is an error.
func pinCost(c *cli.Context, store *engine.Store, st engine.Status, site string, pin engine.Pin, now time.Time) (*forecast.Cost, error) {
	known := false
	for _, s := range st.Sites {
		known = known || s.Site == site
	}
	if !known {
		return nil, usage("unbrick status lists the sites", "run %s has no site %q", st.Run.ID, site)
	}
	if st.Hosts > mostOutlook {
		return nil, nil
	}
	p, err := planning(c, store, st)
	if err != nil {
		return nil, err
	}
	o := lookOptions(st, now)
	_ = p.Planner.Pin(site, time.Time{}, false) // a site that is not in the plan costs nothing
	before := forecast.Look(p.Counts(), o)
	_ = p.Planner.Pin(site, pin.Until, pin.Anyway)
	cost := forecast.CostOf(site, before, forecast.Look(p.Counts(), o))
	return &cost, nil
}
