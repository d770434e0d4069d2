package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"unbrick/inventory"
	"unbrick/remediate/schedule/forecast"
)

// How much of a plan is printed without --all.
const (
	shownHosts = 20
	shownSites = 30
)

const clockLayout = "Mon 2 Jan 15:04"

func printPlan(w io.Writer, p planReport, all bool) {
	printTotals(w, p)
	printOpenings(w, p.Forecast, p.At, all)
	if p.WhatIf != nil {
		printWhatIf(w, p.Forecast, p.WhatIf, all)
	}
	printOrder(w, p, all)
	for _, n := range p.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

func printTotals(w io.Writer, p planReport) {
	f := p.Forecast
	fmt.Fprintf(w, "%d hosts at %d sites, playbook %s, %d at once\n", p.Hosts, len(f.Sites), p.Playbook, f.Slots)
	if f.All.Hosts > 0 {
		fmt.Fprintf(w, "back when their site opens: %s of %d\n", bandText(f.All.OnTime), f.All.Hosts)
	}
	fmt.Fprintf(w, "the last is done about %s (P10–P90 %s to %s)\n", f.End.UTC().Format(clockLayout+" MST"),
		f.Ends[0].UTC().Format(clockLayout), f.Ends[2].UTC().Format(clockLayout))
	if f.All.Lost > 0 {
		fmt.Fprintf(w, "for about %d of them every way in fails\n", f.All.Lost)
	}
	for _, why := range slices.Sorted(maps.Keys(f.Held)) {
		fmt.Fprintf(w, "%d are not in the plan: %s\n", f.Held[why], why)
	}
	for _, n := range f.Needs {
		if n.Least > n.Have {
			fmt.Fprintf(w, "too few in all: %s, needs %d (by %s)\n", had(n), n.Least, n.By.UTC().Format(clockLayout+" MST"))
		}
	}
	for _, n := range f.Saves {
		fmt.Fprintf(w, "would help: --what-if %s: %+d hosts in time\n", n.Text, *n.Saves)
	}
}

// had names what a change is about, as it is now.
func had(n forecast.Need) string {
	what, _, _ := strings.Cut(n.Text, "=")
	return fmt.Sprintf("%s is %d", what, n.Have)
}

// bandText writes "795–812–826", or one number if they are the same.
func bandText(b forecast.Band) string {
	if b.P10 == b.P90 {
		return fmt.Sprint(b.P50)
	}
	return fmt.Sprintf("%d–%d–%d", b.P10, b.P50, b.P90)
}

func printOpenings(w io.Writer, f planForecast, at time.Time, all bool) {
	fmt.Fprintln(w)
	shown := f.Sites
	if !all && len(shown) > shownSites {
		shown = shown[:shownSites]
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "site\topens there\thosts\tback by then\tstart by\twhat keeps the others")
	for _, s := range shown {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%s\t%s\n", named(s.Site), s.opens(), s.Hosts+s.NoDue, s.back(), s.startBy(at), s.keeps())
	}
	tw.Flush()
	if rest := f.Sites[len(shown):]; len(rest) > 0 {
		late := 0
		for _, s := range rest {
			late += s.Late
		}
		fmt.Fprintf(w, "and %d more sites, %d hosts late there; --all lists them\n", len(rest), late)
	}
	fmt.Fprintf(w, "back by then: in 9 of 10 runs of the forecast, in half, in 1 of 10 (%d runs); it knows only what treatments usually take\n", f.Runs)
}

// opens writes when a site opens, there and in UTC.
func (s planSite) opens() string {
	if s.Due.IsZero() {
		return "not known"
	}
	t := s.Due.Format(clockLayout + " MST")
	if s.UTC.Format(clockLayout) != s.Due.Format(clockLayout) {
		t += " (" + s.UTC.Format("Mon 15:04") + " UTC)"
	}
	if s.Always {
		t += " target, 24x7"
	}
	return t
}

func (s planSite) back() string {
	if s.Hosts == 0 {
		return "–"
	}
	return bandText(s.OnTime)
}

// ReadyText writes when the last of the hosts that come back is back.
func (s planSite) ReadyText() string {
	if s.Ready.IsZero() {
		return "never"
	}
	return s.Ready.Format("Mon 15:04")
}

// startBy writes the latest safe start in the clock of the site.
func (s planSite) startBy(now time.Time) string {
	switch {
	case s.Latest.IsZero():
		return "–"
	case s.Latest.Before(now):
		return "was " + s.Latest.Format("Mon 15:04")
	}
	return s.Latest.Format("Mon 15:04")
}

// keeps writes what keeps hosts from being in time, and what would save them.
func (s planSite) keeps() string {
	var parts []string
	if s.Late > 0 && s.Limit != "" {
		parts = append(parts, s.Limit)
		if s.Need != nil {
			parts[0] += " → " + s.Need.Text
		}
	}
	if s.Halted > 0 {
		parts = append(parts, fmt.Sprintf("%d halted", s.Halted))
	}
	for _, why := range slices.Sorted(maps.Keys(s.Held)) {
		parts = append(parts, fmt.Sprintf("%d not in the plan: %s", s.Held[why], why))
	}
	if s.NoDue > 0 {
		parts = append(parts, fmt.Sprintf("%d without a known opening come last", s.NoDue))
	}
	return strings.Join(parts, "; ")
}

func printOrder(w io.Writer, p planReport, all bool) {
	fmt.Fprintln(w)
	if p.Counted {
		fmt.Fprintln(w, "the fleet is too large to be held: --only 'site=NAME' lists the hosts of a site in their order")
		return
	}
	shown := p.Order
	if !all && len(shown) > shownHosts {
		shown = shown[:shownHosts]
	}
	for i, it := range shown {
		fmt.Fprintf(w, "%4d  %s  %s  %s: %s\n", i+1, it.Name, named(it.Site), routeNames(it.Routes), it.Why)
	}
	if rest := p.Hosts - len(shown); rest > 0 {
		fmt.Fprintf(w, "      and %d more; --all lists them\n", rest)
	}
}

func printWhatIf(w io.Writer, before planForecast, what *whatIf, all bool) {
	after := what.Forecast
	fmt.Fprintf(w, "\nwhat if %s:\n", strings.Join(what.Changes, ", "))
	fmt.Fprintf(w, "back when their site opens: %s → %s of %d (%+d)\n", bandText(before.All.OnTime), bandText(after.All.OnTime),
		before.All.Hosts, after.All.OnTime.P50-before.All.OnTime.P50)
	fmt.Fprintf(w, "the last is done about %s → %s\n", before.End.UTC().Format(clockLayout), after.End.UTC().Format(clockLayout+" MST"))
	for _, u := range what.Useless {
		fmt.Fprintln(w, u)
	}
	if len(what.Sites) == 0 {
		fmt.Fprintln(w, "no site changes")
		return
	}
	shown := what.Sites
	if !all && len(shown) > shownSites {
		shown = shown[:shownSites]
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "site\thosts\tback by then\tlate\tready about")
	for _, s := range shown {
		b, a := s.Before, s.After
		fmt.Fprintf(tw, "%s\t%d\t%s → %s\t%d → %d\t%s → %s\n", named(b.Site), b.Hosts, b.back(), a.back(), b.Late, a.Late,
			b.ReadyText(), a.ReadyText())
	}
	tw.Flush()
	if rest := len(what.Sites) - len(shown); rest > 0 {
		fmt.Fprintf(w, "and %d more sites change; --all lists them\n", rest)
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
