package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/policy"
)

func keysApproveCommand() *cli.Command {
	return &cli.Command{
		Name: "approve", Usage: "agree, as a second person, to a request for keys; without an argument, list those that wait", ArgsUsage: "[REQUEST]", Action: keysApprove,
		Flags: []cli.Flag{configFlag(), &cli.BoolFlag{Name: "yes", Usage: "you have read the request and agree"}},
		Description: `Shows who wants which keys and why; with --yes it is approved. An approval is for exactly that
request, by somebody with another login than the one who asked, and holds for 15 minutes, once.

   unbrick keys approve
   unbrick keys approve 3f2a90c1d4e5 --yes`,
	}
}

func keysApprove(c *cli.Context) error {
	args, err := arguments(c, 0, 1)
	if err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	who, err := currentPerson()
	if err != nil {
		return err
	}
	if _, err := os.Stat(cfg.Ledger); errors.Is(err, fs.ErrNotExist) { // it is not made by looking
		return usage("requests are on the ledger of who asked: give the same configuration with -c", "no ledger %s", cfg.Ledger)
	}
	ledger, err := bitlocker.OpenLedger(cfg.Ledger)
	if err != nil {
		return hinted(err, "unbrick keys audit says what is wrong with it")
	}
	defer closeLedger(c, ledger)
	guard := newGuard(cfg, ledger, func(string) string { return "" })
	if len(args) == 0 {
		return listRequests(c, guard)
	}
	if len(args[0]) < 8 {
		return usage("unbrick keys approve lists the requests", "a request is named by the first 8 or more of its digits")
	}
	s, err := guard.Open(c.Context, args[0])
	if err != nil {
		return hinted(err, "unbrick keys approve lists the requests that wait")
	}
	printRequest(c, s)
	if !c.Bool("yes") {
		return &failure{exitNotAll, errors.New("not approved yet"), fmt.Sprintf("if all of this is right: unbrick keys approve %.12s --yes", s.Hash)}
	}
	if err := guard.Approve(c.Context, bitlocker.Approval{Request: s.Hash, Actor: who.account, Claims: who.claims}); err != nil {
		return hinted(fmt.Errorf("cannot approve the request: %w", err), "persons are told apart by the login of the operating system; "+operatorEnv+" is noted and proves nothing")
	}
	say(c, "approved by %s: %s has %d minutes to run the command again", who.account, s.Request.Actor, int(guard.Limits.Approval.Minutes()))
	return nil
}

func listRequests(c *cli.Context, guard *policy.Guard) error {
	all, err := guard.Pending(c.Context)
	if err != nil {
		return err
	}
	for _, s := range all {
		printRequest(c, s)
	}
	say(c, "%d requests wait for an approval", len(all))
	return nil
}

// printRequest shows all that an approval would be of.
func printRequest(c *cli.Context, s policy.State) {
	r := s.Request
	who := r.Actor
	if r.Claims != "" {
		who += fmt.Sprintf(" (says %q)", r.Claims)
	}
	fmt.Fprintf(c.App.Writer, "request %.12s\n  who     %s, at %s\n  what    %d keys, %s\n  reason  %s\n  two because %s\n",
		s.Hash, who, s.Asked.Local().Format(time.DateTime), len(r.Keys), r.Purpose, r.Reason, r.Why)
	for _, q := range r.Keys {
		what := q.ID.String()
		switch {
		case strings.HasPrefix(r.Purpose, bitlocker.SealedInBundle):
			what = "all keys on record"
		case q.ID.IsZero():
			what = "password of a local administrator   " // as wide as an id
		}
		fmt.Fprintf(c.App.Writer, "    %s  %s\n", what, q.Host)
	}
}
