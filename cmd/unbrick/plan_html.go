package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"os"
	"slices"
	"strings"
)

//go:embed plan.html.tmpl
var planPage string

// How much a page shows: browsers, and people, take no more.
const (
	drawnSites  = 12
	tabledSites = 1000
	drawnZones  = 80
)

// A drawnPlan is what the page is made of.
type drawnPlan struct {
	planReport
	Facts    []fact
	Says     []string // what is to be known before anything else
	Timeline timeline
	Charts   []chart
	Table    []planSite
	More     int // sites that are not in the table
	First    []planLine
}

// A fact is a number that a person looks for first.
type fact struct{ Name, Value, Beside string }

// drawPlan writes the plan as a page into file. It needs no other file and no network.
func drawPlan(file string, p planReport, n *census, seed uint64) error {
	f := p.Forecast
	page := drawnPlan{planReport: p, Facts: p.facts(), Says: p.says(), Timeline: newTimeline(f, p.At), Table: f.Sites, First: p.Order}
	if len(page.First) > shownHosts {
		page.First = page.First[:shownHosts]
	}
	if len(f.Sites) > tabledSites {
		page.Table, page.More = f.Sites[:tabledSites], len(f.Sites)-tabledSites
	}
	var drawn []planSite
	for _, s := range f.Sites {
		if s.Hosts > 0 && len(drawn) < drawnSites {
			drawn = append(drawn, s)
		}
	}
	for _, c := range n.curves(f, drawn, seed) {
		page.Charts = append(page.Charts, newChart(c, n.fleets[0].Start))
	}
	return writePage(file, planPage, template.FuncMap{
		"named": named, "band": bandText, "startBy": func(s planSite) string { return s.startBy(p.At) },
	}, page)
}

// writePage fills a template into a file.
func writePage(file, text string, functions template.FuncMap, data any) error {
	t, err := template.New("page").Funcs(functions).Parse(text)
	if err != nil {
		return err
	}
	w, err := os.Create(file)
	if err != nil {
		return hinted(fmt.Errorf("cannot write the page: %w", err), "--html names the file that is written")
	}
	if err := t.Execute(w, data); err != nil {
		w.Close()
		return fmt.Errorf("cannot write %s: %w", file, err)
	}
	return w.Close()
}

func (p planReport) facts() []fact {
	f := p.Forecast
	places := fmt.Sprintf("with %d at once", f.Slots)
	if f.Needed > f.Slots {
		places += fmt.Sprintf("; it needs %d", f.Needed)
	}
	return []fact{
		{"hosts", fmt.Sprint(p.Hosts), fmt.Sprintf("at %d sites", len(f.Sites))},
		{"back when their site opens", fmt.Sprint(f.All.OnTime.P50), fmt.Sprintf("of %d; %d to %d", f.All.Hosts, f.All.OnTime.P10, f.All.OnTime.P90)},
		{"late", fmt.Sprint(f.Late), places},
		{"the last is back", f.End.UTC().Format("Mon 15:04"), f.End.UTC().Format("2 Jan 2006") + " UTC"},
	}
}

// says returns what stands above everything else.
func (p planReport) says() []string {
	f := p.Forecast
	var lines []string
	for _, why := range slices.Sorted(maps.Keys(f.Held)) {
		lines = append(lines, fmt.Sprintf("%d hosts are not in the plan: %s", f.Held[why], why))
	}
	for _, n := range f.Needs {
		if n.Least > n.Have {
			lines = append(lines, fmt.Sprintf("too few in all: %s, needs %d (by %s)", had(n), n.Least, n.By.UTC().Format(clockLayout+" MST")))
		}
	}
	for _, n := range f.Saves {
		lines = append(lines, fmt.Sprintf("would help: %s: %+d hosts in time", n.Text, *n.Saves))
	}
	return lines
}

// Keeps is for the page.
func (s planSite) Keeps() string { return s.keeps() }

// Opens is for the page.
func (s planSite) Opens() string { return s.opens() }

// Changed is for the page.
func (w *whatIf) Changed() string { return strings.Join(w.Changes, ", ") }

// State says how a site stands, as the page colours it: ok, risk or late.
func (s planSite) State() string { return state(s.Hosts, s.OnTime.P50) }

// state calls late what misses more than one host of twenty: with the others a site can work.
func state(hosts, back int) string {
	switch late := hosts - back; {
	case late <= 0:
		return "ok"
	case 20*late <= hosts:
		return "risk"
	}
	return "late"
}
