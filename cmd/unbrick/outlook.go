package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/schedule/forecast"
	"unbrick/remediate/schedule/halt"
)

const (
	// outlookRuns is few: whoever asks how a run stands waits for it.
	outlookRuns = 5
	// mostOutlook is how many hosts a run may have to be looked ahead for by the way.
	mostOutlook = 300_000
)

// outlook looks ahead from where a run stands, with what it has learnt. It is nil if there is
// nothing to do any more, or too much to look at in passing.
func outlook(c *cli.Context, store *engine.Store, st engine.Status) (*forecast.Forecast, error) {
	if st.Todo+st.Running+st.Verdicts[remediate.Waiting] == 0 || st.Hosts > mostOutlook {
		return nil, nil
	}
	p, err := planning(c, store, st)
	if err != nil {
		return nil, err
	}
	f := forecast.Look(p.Counts(), lookOptions(st, time.Now()))
	sayEnded(st, f.Sites)
	sayStopped(st, f.Sites)
	return &f, nil
}

// bySite returns how the sites of a run stand, by their names.
func bySite(st engine.Status) map[string]engine.SiteStatus {
	sites := map[string]engine.SiteStatus{}
	for _, s := range st.Sites {
		sites[s.Site] = s
	}
	return sites
}

// sayEnded names, among what keeps the hosts of a site, those that wait for a person and those that
// have ended and are not back: no slot and no order would have them back sooner.
func sayEnded(st engine.Status, lines []forecast.Line) {
	sites := bySite(st)
	for i := range lines {
		l := &lines[i]
		s := sites[l.Name]
		wait := s.Verdicts[remediate.Waiting]
		lost := s.Hosts - s.Todo - s.Running - wait - s.OnTime - s.Late
		var why []string
		if others := l.Hosts - l.OnTime.P50 - s.Late - lost - wait; others > 0 && l.Limit != "" && s.Todo+s.Running > 0 {
			why = append(why, l.Limit)
		}
		if lost > 0 {
			why = append(why, fmt.Sprintf("%d have ended and are not back", lost))
		}
		if wait > 0 {
			why = append(why, fmt.Sprintf("%d wait for a person", wait))
		}
		if why != nil {
			l.Limit = strings.Join(why, "; ")
		}
	}
}

// sayStopped says, of the sites that have hosts to do, what a person stopped or has to let go on, and
// the command that does.
func sayStopped(st engine.Status, lines []forecast.Line) {
	sites := bySite(st)
	for i := range lines {
		l := &lines[i]
		s := sites[l.Name]
		if s.Todo == 0 {
			continue
		}
		var why []string
		switch {
		case st.Run.Halted != "":
			why = append(why, "the run is halted: unbrick resume, then unbrick run, goes on")
		case st.Run.Paused != "":
			why = append(why, "the run is paused: unbrick resume goes on")
		case s.Paused != "":
			why = append(why, fmt.Sprintf("the site is paused: unbrick resume '%s' goes on", s.Site))
		}
		if l.Limit != "" {
			why = append(why, l.Limit)
		}
		for _, h := range st.Halts {
			if stops(h.Scope, l) {
				why = append(why, fmt.Sprintf("unbrick resume --cohort '%s' goes on", h.Scope))
			}
		}
		l.Limit = strings.Join(why, "; ")
	}
}

// stops says whether a halt keeps hosts of a site from being begun.
func stops(s halt.Scope, l *forecast.Line) bool {
	return slices.ContainsFunc(l.Stopped, func(c forecast.Stopped) bool {
		switch s.Kind {
		case halt.OfModel:
			return s.Way == c.Way && s.Model == c.Model
		case halt.OfSite:
			return s.Way == c.Way && s.Site == l.Name
		case halt.OfConnector:
			return s.Connector == c.Way+" at "+l.Name
		}
		return s.Way == c.Way
	})
}

// planning plans a run as the configuration says.
func planning(c *cli.Context, store *engine.Store, st engine.Status) (*engine.Planning, error) {
	cfg, err := settings(c)
	if err != nil {
		return nil, err
	}
	if err := cfg.readPlaces(st.Run.Started); err != nil {
		return nil, err
	}
	return store.Planning(c.Context, st.Run.ID, cfg.planOptions(st.Run.Started))
}

func lookOptions(st engine.Status, now time.Time) forecast.Options {
	o := forecast.Options{Now: now, Runs: outlookRuns, NoChanges: true, Back: map[string]forecast.Back{}}
	for _, s := range st.Sites {
		ended := s.Hosts - s.Todo - s.Running - s.Verdicts[remediate.Waiting]
		o.Back[s.Site] = forecast.Back{Hosts: ended, OnTime: s.OnTime}
	}
	return o
}

// printOutlook sets the forecast against the opening of each site that has something to do.
func printOutlook(w io.Writer, st engine.Status, f *forecast.Forecast) {
	if f == nil {
		return
	}
	open := map[string]bool{}
	for _, s := range st.Sites {
		open[s.Site] = s.Todo+s.Running+s.Verdicts[remediate.Waiting] > 0
	}
	fmt.Fprintln(w, "\nwhat is to be expected, if it goes on like this:")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "site\topens there\thosts\tback by then\tlate\twhat keeps the others")
	for _, l := range f.Sites {
		if !open[l.Name] {
			continue
		}
		opens, back := "not known", "–"
		if !l.Due.IsZero() {
			opens, back = l.Due.Format(clockLayout+" MST"), bandText(l.OnTime)
		}
		fmt.Fprintf(tw, "%s\t%s\t%d\t%s\t%d\t%s\n", named(l.Name), opens, l.Hosts+l.NoDue, back, max(0, l.Hosts-l.OnTime.P50), l.Limit)
	}
	tw.Flush()
	fmt.Fprintf(w, "the last is done about %s\n", f.End[1].UTC().Format(clockLayout+" MST"))
}
