package main

import (
	"cmp"
	"slices"
	"time"

	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

const whatIfHint = "write --what-if slots=60,technicians.SYD=8; unbrick plan names what would help"

// A whatIf is a plan beside the one that is.
type whatIf struct {
	Changes  []string      `json:"changes"`
	Forecast planForecast  `json:"forecast"`
	Sites    []siteChanged `json:"sites"` // that it changes
	err      error         // a change of what is not there
}

// A siteChanged is a site before and after.
type siteChanged struct {
	Before planSite `json:"before"`
	After  planSite `json:"after"`
}

// parseWhatIf reads changes; nil if there are none.
func parseWhatIf(text string) ([]schedule.Change, error) {
	if text == "" {
		return nil, nil
	}
	changes, err := schedule.ParseChanges(text)
	if err != nil {
		err = usage(whatIfHint, "cannot read --what-if %q: %v", text, err)
	}
	return changes, err
}

// planVariants returns the options of the plan, and of the one with changes if there are any.
func planVariants(cfg *config, now time.Time, changes []schedule.Change) []schedule.Options {
	all := []schedule.Options{cfg.planOptions(now)}
	if changes == nil {
		return all
	}
	o := cfg.planOptions(now)
	for _, c := range changes {
		c.Options(&o)
	}
	return append(all, o)
}

// whatIf makes the forecast with changes, by the same draws.
func (n *census) whatIf(before planForecast, now time.Time, w planWish) *whatIf {
	out := &whatIf{Sites: []siteChanged{}}
	for _, c := range w.changes {
		out.Changes = append(out.Changes, c.String())
	}
	d, err := schedule.NewDispatcher(n.fleets[1], nil).With(w.changes, now)
	if err != nil {
		out.err = err
		return out
	}
	out.Forecast = n.forecast(forecast.Look(d, forecast.Options{Now: now, Seed: w.seed, Runs: before.Runs, NoChanges: true}), d)
	after := map[string]planSite{}
	for _, s := range out.Forecast.Sites {
		after[s.Site] = s
	}
	for _, s := range before.Sites {
		if c := (siteChanged{s, after[s.Site]}); c.matters() {
			out.Sites = append(out.Sites, c)
		}
	}
	slices.SortStableFunc(out.Sites, func(a, b siteChanged) int {
		return cmp.Or(cmp.Compare(b.hosts(), a.hosts()), cmp.Compare(b.sooner(), a.sooner()))
	})
	return out
}

// hosts is how many more, or fewer, are in time.
func (c siteChanged) hosts() int {
	n := c.After.OnTime.P50 - c.Before.OnTime.P50
	return max(n, -n)
}

// sooner is how much sooner, or later, the last is back.
func (c siteChanged) sooner() time.Duration { return c.After.Ready.Sub(c.Before.Ready).Abs() }

// matters says whether more has changed than chance does.
func (c siteChanged) matters() bool {
	return c.hosts() > 0 || c.sooner() >= 15*time.Minute
}
