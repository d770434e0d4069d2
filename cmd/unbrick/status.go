package main

import (
	"errors"
	"fmt"
	"io"
	"os/user"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/schedule/forecast"
	"unbrick/remediate/schedule/halt"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "how a run stands, by site, from any terminal", Action: status,
		Flags:       []cli.Flag{stateFlag(), configFlag(), runFlag(), jsonFlag()},
		Description: "   unbrick status --state unbrick.db",
	}
}

func status(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	return withStore(c, func(store *engine.Store) error {
		st, err := store.Status(c.Context, c.String("run"))
		if err != nil {
			return hinted(err, "unbrick run begins one; --state names the file that holds it")
		}
		f, err := outlook(c, store, st)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return printJSON(c, statusReport{st, f})
		}
		fmt.Fprintf(c.App.Writer, "run %s of %s, begun %s: %s\n", st.Run.ID, st.Run.Playbook, st.Run.Started.UTC().Format(time.RFC3339), standing(st))
		fmt.Fprintf(c.App.Writer, "%s\n", summary(st.Count))
		if st.Left != nil {
			fmt.Fprintln(c.App.Writer, leftLine(st))
		}
		fmt.Fprintln(c.App.Writer)
		printSites(c.App.Writer, st.Sites)
		printService(c.App.Writer, st.Service)
		printGates(c.App.Writer, st.Sites)
		printFixes(c.App.Writer, st.Fixes)
		printShifts(c.App.Writer, st.Sites)
		printOutlook(c.App.Writer, st, f)
		printHalts(c.App.Writer, st.Halts)
		printWaits(c.App.Writer, st)
		return nil
	})
}

// A statusReport is what unbrick status --json prints. Scripts rely on its names.
type statusReport struct {
	engine.Status
	Forecast *forecast.Forecast `json:"forecast,omitempty"`
}

// printService says what all sites are held for.
func printService(w io.Writer, s *engine.Service) {
	if s != nil {
		fmt.Fprintf(w, "ordinary hosts of all sites are held until %d hosts have ended that every site needs (service %s)\n", s.Hosts, s.Name)
	}
}

// printGates says which sites come first, and which have hosts that are held.
func printGates(w io.Writer, sites []engine.SiteStatus) {
	for _, s := range sites {
		if s.Pin != nil {
			fmt.Fprintf(w, "%s comes first until %s, by %s\n", named(s.Site), s.Pin.Until.UTC().Format(clockLayout+" MST"), s.Pin.By)
		}
		if s.Gated && s.Todo > 0 {
			fmt.Fprintf(w, "%s: ordinary hosts are held until those that they depend on have ended; unbrick pin %s --anyway --until 6h does not wait\n", named(s.Site), s.Site)
		}
	}
}

// printFixes says which hosts the run leaves to others.
func printFixes(w io.Writer, fixes []engine.Fix) {
	for _, f := range fixes {
		fmt.Fprintf(w, "unbrick fix has %s (pid %d on %s, since %s); the run leaves it alone until that ends\n", f.Host, f.PID, f.Machine, f.Since.UTC().Format(time.RFC3339))
	}
}

// printShifts says where hosts wait for technicians who are off.
func printShifts(w io.Writer, sites []engine.SiteStatus) {
	for _, s := range sites {
		if s.Shift != nil {
			fmt.Fprintln(w, shiftLine(s))
		}
	}
}

// shiftLine says for whom the hosts of a site wait, which has a shift.
func shiftLine(s engine.SiteStatus) string {
	return fmt.Sprintf("%d hosts that need a person wait for the shift at %s, from %s; unbrick done HOST takes one up before that",
		s.Shift.Hosts, named(s.Site), s.Shift.From.Format("Mon 15:04 MST"))
}

// printHalts says what is halted, at which level and why, with the last outcomes.
func printHalts(w io.Writer, halts []halt.Record) {
	if len(halts) == 0 {
		return
	}
	fmt.Fprintln(w, "\nhalted; the others go on, and unbrick resume --cohort NAME lets one go on when the cause is gone:")
	for _, h := range halts {
		fmt.Fprintf(w, "  %s (%s), since %s: %d of %d failed\n    %s\n", h.Scope, h.Scope.Kind, h.Halt.At.UTC().Format(time.RFC3339),
			h.Failed, h.Finished, oneLine(h.Halt.Why))
	}
}

// haltLine says in a line what was halted, and what ends that.
func haltLine(h *halt.Halt) string {
	return fmt.Sprintf("halted: %s; unbrick resume --cohort '%s' lets it go on", oneLine(h.Why), h.Scope)
}

// printWaits says what hosts wait for.
func printWaits(w io.Writer, st engine.Status) {
	if len(st.Waits) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%d wait for a person; unbrick done HOST takes one up again:\n", st.Verdicts[remediate.Waiting])
	for _, wait := range st.Waits {
		fmt.Fprintf(w, "  %4d for %s, since %s\n", wait.Hosts, oneLine(wait.For), wait.Since.UTC().Format(time.RFC3339))
	}
}

func standing(st engine.Status) string {
	switch {
	case st.Run.Halted != "":
		return "halted: " + st.Run.Halted
	case st.Run.Paused != "":
		return "paused by " + st.Run.Paused
	case st.Run.State == "running" && st.Workers == 0:
		return "not ended, and no process is at work on it"
	}
	return st.Run.State
}

func pauseCommand() *cli.Command {
	return &cli.Command{
		Name: "pause", Usage: "begin no further host; those under way end", ArgsUsage: "[SITE...]",
		Flags:       []cli.Flag{stateFlag(), configFlag(), runFlag()},
		Description: "Without a site the whole run pauses.\n\n   unbrick pause SYD",
		Action: func(c *cli.Context) error {
			return withStore(c, func(s *engine.Store) error {
				return noRunHint(s.Pause(c.Context, c.String("run"), operator(), c.Args().Slice()...))
			})
		},
	}
}

func resumeCommand() *cli.Command {
	return &cli.Command{
		Name: "resume", Usage: "go on after a pause or a halt", ArgsUsage: "[SITE...]",
		Flags: []cli.Flag{stateFlag(), configFlag(), runFlag(),
			&cli.StringSliceFlag{Name: "cohort", Usage: "only what is halted by this `NAME`, as unbrick status shows it; may be given several times"}},
		Description: `Lifts a pause while the run goes on. A run that was halted or interrupted also needs
unbrick run again. What is halted goes on with the second ring, and your name is on record.

   unbrick resume
   unbrick resume SYD
   unbrick resume --cohort 'redfish on PowerEdge R740'`,
		Action: resume,
	}
}

// resume lifts pauses and halts: of sites, of cohorts, or all.
func resume(c *cli.Context) error {
	sites, cohorts := c.Args().Slice(), c.StringSlice("cohort")
	if len(sites) > 0 && len(cohorts) > 0 {
		return usage("one after the other", "name sites or cohorts")
	}
	return withStore(c, func(s *engine.Store) error {
		if len(cohorts) == 0 {
			if err := s.Resume(c.Context, c.String("run"), sites...); err != nil || len(sites) > 0 {
				return noRunHint(err)
			}
		}
		ended, err := s.ResumeHalted(c.Context, c.String("run"), operator(), cohorts...)
		for _, h := range ended {
			if h.Scope.Kind == halt.OfRung {
				say(c, "%s goes on", h.Scope)
				continue
			}
			say(c, "%s goes on, with the second ring", h.Scope)
		}
		return noRunHint(err)
	})
}

func cancelCommand() *cli.Command {
	return &cli.Command{
		Name: "cancel", Usage: "give up hosts; those under way are put back first", ArgsUsage: "HOST...",
		Flags: []cli.Flag{stateFlag(), configFlag(), runFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "all", Usage: "every host that has no verdict"}},
		Description: "The process of the run puts them back. Where none is at work the run's command has to be given\nagain: that is said then, with exit code 4.\n\n   unbrick cancel SYD-00012\n   unbrick cancel --all",
		Action: func(c *cli.Context) error {
			if c.Args().Present() == c.Bool("all") {
				return usage("unbrick cancel HOST..., or unbrick cancel --all", "name the hosts, or --all")
			}
			return withStore(c, func(s *engine.Store) error {
				n, err := s.Cancel(c.Context, c.String("run"), operator(), c.Args().Slice()...)
				if err != nil {
					return noRunHint(err)
				}
				return sayCancelled(c, s, n)
			})
		},
	}
}

// sayCancelled says how many hosts were cancelled, and which of them nobody puts back.
func sayCancelled(c *cli.Context, s *engine.Store, n int) error {
	st, err := s.Status(c.Context, c.String("run"))
	if err != nil {
		return noRunHint(err)
	}
	if c.Bool("json") {
		if err := printJSON(c, cancelled{st.Run.ID, n, st.Left}); err != nil {
			return err
		}
	} else {
		say(c, "%d hosts cancelled", n)
	}
	if st.Left == nil {
		return nil
	}
	return &failure{exitInterrupted, errors.New(leftLine(st)), "cancelled hosts are put back by it, and not treated any further"}
}

// A cancelled is what unbrick cancel --json prints. Scripts rely on its names.
type cancelled struct {
	Run   string       `json:"run"`
	Hosts int          `json:"hosts"`
	Left  *engine.Left `json:"left,omitempty"` // of all hosts of the run, what nobody is at work on
}

func retryCommand() *cli.Command {
	return &cli.Command{
		Name: "retry", Usage: "treat hosts again that did not end well", ArgsUsage: "[HOST...]",
		Flags: []cli.Flag{stateFlag(), configFlag(), runFlag(),
			&cli.StringSliceFlag{Name: "verdict", Usage: "hosts with this `VERDICT`; may be given several times (default: failed and unconfirmed)"}},
		Description: "Then give the run's command again.\n\n   unbrick retry --verdict failed --verdict stranded\n   unbrick retry SYD-00012",
		Action:      retry,
	}
}

func retry(c *cli.Context) error {
	var verdicts []remediate.Verdict
	for _, v := range c.StringSlice("verdict") {
		if !known(remediate.Verdict(v)) {
			return usage(fmt.Sprintf("the verdicts are %v", remediate.Verdicts()), "no verdict %q", v)
		}
		verdicts = append(verdicts, remediate.Verdict(v))
	}
	if len(verdicts) == 0 && !c.Args().Present() {
		verdicts = []remediate.Verdict{remediate.Failed, remediate.Unconfirmed}
	}
	return withStore(c, func(s *engine.Store) error {
		n, err := s.Retry(c.Context, c.String("run"), verdicts, c.Args().Slice()...)
		if err == nil {
			say(c, "%d hosts to do again; give the command of the run again", n)
		}
		return noRunHint(err)
	})
}

func known(v remediate.Verdict) bool {
	for _, w := range remediate.Verdicts() {
		if v == w {
			return true
		}
	}
	return false
}

func noRunHint(err error) error {
	return hinted(err, "unbrick status says which run the state holds")
}

// operator names who gave a command, for the record.
func operator() string {
	u, err := user.Current()
	if err != nil {
		return "somebody"
	}
	return u.Username
}
