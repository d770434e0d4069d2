package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/engine"
)

func reportCommand() *cli.Command {
	return &cli.Command{
		Name: "report", Usage: "how every host ended, with the evidence", ArgsUsage: "[HOST...]", Action: report,
		Flags: []cli.Flag{stateFlag(), configFlag(), runFlag(),
			&cli.StringFlag{Name: "format", Value: "text", Usage: "`FORMAT`: text, csv or json"}},
		Description: "Of hosts that are named it tells all: every way that was tried, and what came of it.\n\n   unbrick report --format csv > monday.csv\n   unbrick report SYD-00012",
	}
}

func runFlag() cli.Flag {
	return &cli.StringFlag{Name: "run", Usage: "`ID` of the run (default: the latest)"}
}

func report(c *cli.Context) error {
	names, err := arguments(c, 0, -1)
	if err != nil {
		return err
	}
	return withStore(c, func(store *engine.Store) error {
		st, err := store.Status(c.Context, c.String("run"))
		if err != nil {
			return hinted(err, "unbrick run begins one; --state names the file that holds it")
		}
		results := store.Results(c.Context, st.Run.ID, "")
		if len(names) == 0 {
			return writeReport(c.App.Writer, c.String("format"), st, results)
		}
		if results, err = onlyNamed(results, names); err != nil {
			return err
		}
		if c.String("format") == "text" {
			return reportHosts(c.App.Writer, results)
		}
		return writeReport(c.App.Writer, c.String("format"), st, results)
	})
}

// onlyNamed picks the hosts of these names, of which there must be one each.
func onlyNamed(results iter.Seq2[engine.Result, error], names []string) (iter.Seq2[engine.Result, error], error) {
	found := make([]*engine.Result, len(names))
	for r, err := range results {
		if err != nil {
			return nil, err
		}
		for i, name := range names {
			if inventory.SameName(r.Host, name) {
				found[i] = &r
			}
		}
	}
	if i := slices.Index(found, nil); i >= 0 {
		return nil, usage("unbrick report --format csv lists the hosts of the run", "the run has no host %q", names[i])
	}
	return func(yield func(engine.Result, error) bool) {
		for _, r := range found {
			if !yield(*r, nil) {
				return
			}
		}
	}, nil
}

// A reportLine is one host of unbrick report --format json. Scripts rely on its names.
type reportLine struct {
	Host     string            `json:"host"`
	Site     string            `json:"site"`
	Verdict  remediate.Verdict `json:"verdict"`
	Route    string            `json:"route"`
	Reason   string            `json:"reason"`
	Due      *time.Time        `json:"due"`
	Started  *time.Time        `json:"started"`
	Ended    *time.Time        `json:"ended"`
	OnTime   bool              `json:"on_time"`
	Removed  []playbooks.File  `json:"removed"`
	Changed  []playbooks.Value `json:"changed,omitempty"`
	Evidence string            `json:"evidence"`
	Attempts []engine.Attempt  `json:"attempts"` // every way that was tried, in their order
}

func newReportLine(r engine.Result) reportLine {
	line := reportLine{Host: r.Host, Site: r.Site, Verdict: r.Verdict, Route: r.Route, Reason: r.Reason,
		Due: moment(r.Due), Started: moment(r.Started), Ended: moment(r.Ended), OnTime: r.OnTime, Removed: r.Removed, Changed: r.Changed, Evidence: r.Evidence,
		Attempts: r.Attempts}
	if line.Removed == nil {
		line.Removed = []playbooks.File{}
	}
	return line
}

// moment is nil for a time that never came.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func writeReport(w io.Writer, format string, st engine.Status, results iter.Seq2[engine.Result, error]) error {
	switch format {
	case "json":
		return reportJSON(w, results)
	case "csv":
		return reportCSV(w, results)
	case "text":
		return reportText(w, st, results)
	}
	return usage("the formats are text, csv and json", "no format %q", format)
}

// reportJSON writes an array, a host a line, without holding it in memory.
func reportJSON(w io.Writer, results iter.Seq2[engine.Result, error]) error {
	sep := "[\n"
	for r, err := range results {
		if err != nil {
			return err
		}
		b, err := json.Marshal(newReportLine(r))
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "%s  %s", sep, b); err != nil {
			return err
		}
		sep = ",\n"
	}
	if sep == "[\n" {
		_, err := io.WriteString(w, "[]\n")
		return err
	}
	_, err := io.WriteString(w, "\n]\n")
	return err
}

func reportCSV(w io.Writer, results iter.Seq2[engine.Result, error]) error {
	out := csv.NewWriter(w)
	out.Write([]string{"host", "site", "verdict", "route", "reason", "due", "started", "ended", "on_time", "removed", "evidence", "attempts"})
	for r, err := range results {
		if err != nil {
			return err
		}
		var files []string
		for _, f := range r.Removed {
			files = append(files, fmt.Sprintf("%s %d %s %s", f.Path, f.Size, f.ModTime.UTC().Format(time.RFC3339), f.SHA256))
		}
		var attempts []string
		for _, a := range r.Attempts {
			attempts = append(attempts, attemptLine(a))
		}
		out.Write([]string{r.Host, r.Site, string(r.Verdict), r.Route, r.Reason, stamp(r.Due), stamp(r.Started), stamp(r.Ended),
			fmt.Sprint(r.OnTime), strings.Join(files, "; "), r.Evidence, strings.Join(attempts, "; ")})
	}
	out.Flush()
	return out.Error()
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// reportText lists the hosts that somebody has to look at, and sums up the others by site.
func reportText(w io.Writer, st engine.Status, results iter.Seq2[engine.Result, error]) error {
	fmt.Fprintf(w, "run %s of %s: %s\n\n", st.Run.ID, st.Run.Playbook, summary(st.Count))
	printSites(w, st.Sites)
	printHalts(w, st.Halts)
	heading := "\nto be looked at:\n"
	for r, err := range results {
		if err != nil {
			return err
		}
		if r.State == "done" && r.Verdict.Done() {
			continue
		}
		fmt.Fprintf(w, "%s  %s  %s: %s\n", heading+r.Host, named(r.Site), stateOf(r), oneLine(r.Reason))
		if len(r.Attempts) > 1 {
			printAttempts(w, r.Attempts)
		}
		heading = ""
	}
	return nil
}

// stateOf is a host's verdict, or how it stands without one.
func stateOf(r engine.Result) string {
	if r.State != "done" {
		return r.State
	}
	return string(r.Verdict)
}

// reportHosts tells all that is known of some hosts.
func reportHosts(w io.Writer, results iter.Seq2[engine.Result, error]) error {
	for r, err := range results {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s  %s  %s%s%s\n", r.Host, named(r.Site), stateOf(r), by(r.Route), because(r.Reason))
		printAttempts(w, r.Attempts)
		for _, f := range r.Removed {
			fmt.Fprintf(w, "  removed   %s, %d bytes, of %s, SHA-256 %s\n", f.Path, f.Size, stamp(f.ModTime), f.SHA256)
		}
		for _, v := range r.Changed {
			fmt.Fprintf(w, "  changed   %s %s: %s, was %s\n", v.Path, v.Name, v.Is, v.Was)
		}
		if r.Evidence != "" {
			fmt.Fprintf(w, "  evidence  %s\n", oneLine(r.Evidence))
		}
	}
	return nil
}

func printAttempts(w io.Writer, attempts []engine.Attempt) {
	for _, a := range attempts {
		fmt.Fprintf(w, "  %s  %s\n", stamp(a.Started), attemptLine(a))
	}
}

// attemptLine says what one way came to: "redfish failed after 17m2s: repair: no fixer came".
func attemptLine(a engine.Attempt) string {
	route, verdict := a.Route, string(a.Verdict)
	if route == "" {
		route = "no way in"
	}
	switch {
	case verdict == "":
		verdict = "got through " + string(a.Stage)
	case a.Verdict == remediate.Fixed && a.Stage != remediate.Confirm:
		verdict = "repaired, and not yet seen up,"
	}
	return fmt.Sprintf("%s %s after %s%s", route, verdict, a.Ended.Sub(a.Started).Round(time.Second), because(a.Reason))
}

func printSites(w io.Writer, sites []engine.SiteStatus) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "site\thosts\tto do\trunning")
	for _, v := range remediate.Verdicts() {
		fmt.Fprintf(tw, "\t%s", v)
	}
	fmt.Fprintln(tw, "\ton time\tlate")
	for _, s := range sites {
		name := s.Site
		if name == "" {
			name = "(none)"
		}
		if s.Paused != "" {
			name += " (paused)"
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d", name, s.Hosts, s.Todo, s.Running)
		for _, v := range remediate.Verdicts() {
			fmt.Fprintf(tw, "\t%d", s.Verdicts[v])
		}
		fmt.Fprintf(tw, "\t%d\t%d\n", s.OnTime, s.Late)
	}
	tw.Flush()
}

// summary says in a line how many hosts stand where, leaving out what there is none of.
func summary(c engine.Count) string {
	parts := []string{fmt.Sprintf("%d hosts", c.Hosts)}
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	for _, v := range remediate.Verdicts() {
		add(c.Verdicts[v], string(v))
	}
	add(c.Running, "running")
	add(c.Todo, "to do")
	return strings.Join(parts, ", ")
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }

// withStore opens the state that the command names, which must be there.
func withStore(c *cli.Context, do func(*engine.Store) error) (err error) {
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if err := stateExists(cfg.State); err != nil {
		return err
	}
	store, err := openStore(c, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(store)
}
