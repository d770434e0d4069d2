package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"unbrick/remediate/schedule"
	"unbrick/remediate/schedule/forecast"
)

const whatIfHint = "write --what-if slots=60,technicians.SYD=8; unbrick plan names what would help"

// A whatIf is a plan beside the one that is.
type whatIf struct {
	Changes  []string      `json:"changes"`
	Forecast planForecast  `json:"forecast"`
	Sites    []siteChanged `json:"sites"`             // that it changes
	Useless  []useless     `json:"useless,omitempty"` // changes that bring no host back in time beside the others
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
	out.Useless = n.useless(before, out.Forecast, now, w)
	return out
}

// A useless change brings no host more back in time than the others do without it.
type useless struct {
	Change  string   `json:"change"`
	Nothing bool     `json:"nothing"` // no site is back sooner either
	Binds   []string `json:"binds"`   // what does, most hosts first; empty: nobody is late
}

// useless finds the changes that help nobody. A pin is not meant to: it helps one site. Of several
// changes to a large fleet it is not known: each would take as long as the plan.
func (n *census) useless(before, after planForecast, now time.Time, w planWish) (all []useless) {
	for i, c := range w.changes {
		without := before
		switch {
		case c.What == "pin", len(w.changes) > 1 && n.total > mostOutlook:
			continue
		case len(w.changes) > 1:
			rest := slices.Delete(slices.Clone(w.changes), i, i+1)
			fleet := n.fleets[1]
			if c.What == "attempts" {
				fleet = n.fleets[0]
			}
			d, err := schedule.NewDispatcher(fleet, nil).With(rest, now)
			if err != nil {
				continue
			}
			without = n.forecast(forecast.Look(d, forecast.Options{Now: now, Seed: w.seed, Runs: before.Runs, NoChanges: true}), d)
		}
		if after.All.OnTime.P50 > without.All.OnTime.P50 {
			continue
		}
		all = append(all, useless{Change: c.String(), Nothing: !differ(without, after), Binds: after.binds()})
	}
	return all
}

// differ says whether a site is better or worse off in one of two forecasts.
func differ(a, b planForecast) bool {
	other := map[string]planSite{}
	for _, s := range b.Sites {
		other[s.Site] = s
	}
	return slices.ContainsFunc(a.Sites, func(s planSite) bool { return siteChanged{s, other[s.Site]}.matters() })
}

// mostBinds is how many of the limits that bind are named.
const mostBinds = 3

// binds names what keeps hosts from being in time, what keeps most of them first.
func (f planForecast) binds() []string {
	late, names := map[string]int{}, []string{}
	for _, s := range f.Sites {
		if s.Late <= 0 || s.Limit == "" {
			continue
		}
		name := s.Limit
		if s.Need != nil {
			name = had(*s.Need)
		}
		if late[name] == 0 {
			names = append(names, name)
		}
		late[name] += s.Late
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(late[b], late[a]) })
	names = names[:min(len(names), mostBinds)]
	for i, name := range names {
		names[i] = fmt.Sprintf("%s (%d late)", name, late[name])
	}
	return names
}

// String says it in a line.
func (u useless) String() string {
	what := " brings no host more back in time"
	if u.Nothing {
		what = " changes nothing"
	}
	if len(u.Binds) == 0 {
		return u.Change + what + ": nobody is late"
	}
	return u.Change + what + "; what binds: " + strings.Join(u.Binds, ", ")
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
