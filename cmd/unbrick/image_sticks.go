package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/wire"
)

func imageSticksCommand() *cli.Command {
	return &cli.Command{
		Name: "sticks", Usage: "the sticks that were made: who has them, what they did; revoke one, read what one brought back", Action: imageSticks,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "revoke", Usage: "take the stick of this `ID` out of use, at once and for good; may be given several times"},
			&cli.StringFlag{Name: "read", Usage: "the reports of hosts that no server reached, from the stick's second partition mounted at `DIR`"},
			&cli.BoolFlag{Name: "tell", Usage: "with --read: tell the run, which then looks itself whether those hosts are up"},
			&cli.StringFlag{Name: "run", Usage: "`ID` of the run to tell (default: the latest)"},
			configFlag(), inventoryFlag(), stateFlag(), jsonFlag(),
		},
		Description: "   unbrick image sticks\n   unbrick image sticks --revoke 1a2b3c4d\n   unbrick image sticks --read /media/alice --tell",
	}
}

func imageSticks(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if err := stateExists(cfg.State); err != nil {
		return err
	}
	sticks, store, err := openSticks(c, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	if ids := c.StringSlice("revoke"); len(ids) > 0 {
		return revokeSticks(c, sticks, ids)
	}
	if dir := c.String("read"); dir != "" {
		return readStick(c, cfg, sticks, store, dir)
	}
	all, err := sticks.List(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c, append([]rescue.StickInfo{}, all...))
	}
	for _, s := range all {
		state := "until " + s.Until.Local().Format("2006-01-02 15:04")
		switch {
		case s.RevokedBy != "":
			state = "revoked by " + s.RevokedBy
		case time.Now().After(s.Until):
			state = "expired"
		}
		fmt.Fprintf(c.App.Writer, "%s  %-20s  %-12s  %-24s  %d of %d hosts, %d refused\n", s.ID, s.By, strings.Join(s.Sites, ","), state, len(s.Hosts), s.MaxHosts, s.Refused)
	}
	return nil
}

func revokeSticks(c *cli.Context, sticks *rescue.Sticks, ids []string) error {
	who, err := currentPerson()
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids { // all of them, whatever becomes of one
		if err := sticks.Revoke(c.Context, id, who.account); err != nil {
			errs = append(errs, err)
			continue
		}
		say(c, "stick %s is good for nothing any more; the keys that it got are on the ledger", id)
	}
	return hinted(errors.Join(errs...), "unbrick image sticks lists them; --state names the run's")
}

// readStick prints what a stick brought back, and tells the run if that is asked for.
func readStick(c *cli.Context, cfg *config, sticks *rescue.Sticks, store *engine.Store, dir string) error {
	reports, err := sticks.Read(c.Context, dir)
	err = hinted(err, "what is not genuine counts for nothing: look at the host itself")
	if c.Bool("tell") {
		err = errors.Join(err, tellRun(c, cfg, store, reports))
	}
	if c.Bool("json") {
		return errors.Join(printJSON(c, append([]rescue.StickReport{}, reports...)), err)
	}
	for _, r := range reports {
		end, _ := stickEnd(r)
		fmt.Fprintf(c.App.Writer, "%s  serial %q  uuid %s  %s  by %s: %s\n", r.At.Format("2006-01-02 15:04 MST"), r.Identity.Serial, r.Identity.UUID, r.File, r.By, end)
		for _, sum := range r.Lost {
			say(c, "warning: %s: no good copy of the removed file %s is on the stick", r.File, sum)
		}
	}
	return err
}

// tellRun wakes the hosts of the reports. A stick's word is a claim, as a person's is.
func tellRun(c *cli.Context, cfg *config, store *engine.Store, reports []rescue.StickReport) error {
	fleet, err := loadFleet(c, cfg)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range reports {
		host := owner(fleet.Hosts, r.Identity)
		if host == "" {
			errs = append(errs, fmt.Errorf("%s: the inventory does not have one host with serial %q and UUID %s", r.File, r.Identity.Serial, r.Identity.UUID))
			continue
		}
		end, why := stickEnd(r)
		note := remediate.Note{By: r.By, What: remediate.Done, Text: "stick " + r.Stick + ": " + end}
		if why != nil {
			note.What = remediate.Remarked
		}
		err := store.Wake(c.Context, c.String("run"), host, note)
		if asked := (*engine.NotAskedError)(nil); errors.As(err, &asked) && asked.State != "done" {
			say(c, "%s: %v; the run looks whether it is up when it does", r.File, err)
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.File, err))
			continue
		}
		say(c, "the run is told of %s and looks whether it is up", host)
	}
	return hinted(errors.Join(errs...), "unbrick status --json lists the hosts that wait")
}

// owner returns the name of the one host with the identity, or nothing.
func owner(hosts []inventory.Host, id wire.Identity) string {
	name := ""
	for _, h := range hosts {
		if agrees, err := rescue.Identify(h, id); err != nil || len(agrees) == 0 {
			continue
		}
		if name != "" {
			return ""
		}
		name = h.Name
	}
	return name
}

// stickEnd says how a stick's treatment of a host ended, and why not well.
func stickEnd(r rescue.StickReport) (string, error) {
	result, err := r.Result()
	if err != nil {
		return oneLine(err.Error()), err
	}
	return fmt.Sprintf("%d files removed", len(result.Removed())), nil
}
