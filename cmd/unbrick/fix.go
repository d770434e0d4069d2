package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/inventory"
	"unbrick/remediate/engine"
)

func fixCommand() *cli.Command {
	return &cli.Command{
		Name: "fix", Usage: "repair one host, for the helpdesk: same stages, same ledger", ArgsUsage: "HOST", Action: fix,
		Flags: append(append(fleetFlags(), listenFlags()...), stateFlag(), playbookFlag(), keysFlag(), imageFlag(), dryRunFlag(), askFlag(), jsonFlag(), logFlag(), noWaitFlag()),
		Description: `Has a state of its own beside that of the run, so that a halted or finished run is no
hindrance; cut off, the same command goes on. A host that a run is treating right now is left to it.
Network boot has ports of its own: while a run answers there, fix goes without that way.

   unbrick fix SYD-00012 -i fleet.csv -c unbrick.yaml
   unbrick fix SYD-00012 -c unbrick.yaml --listen :8444 --image-listen :8081   while a run goes on`,
	}
}

func fix(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	fleet, err := loadFleet(c, cfg)
	if err != nil {
		return err
	}
	h, err := hostNamed(fleet, args[0])
	if err != nil {
		return cmp.Or(notInUse(cfg, args[0]), err)
	}
	one := &inventory.Fleet{Summary: fleet.Summary, Hosts: []inventory.Host{h}}
	one.Digest = "host " + h.Name // the rest of the file may change meanwhile
	if c.Bool("dry-run") {
		return dryRun(c, cfg, one)
	}
	if err := leftAlone(c, cfg, h.Name); err != nil {
		return err
	}
	cfg.beside = true
	cfg.pins, cfg.State = cfg.State, fixState(cfg.State, h.Name)
	cfg.Schedule.Shift = "" // whoever asks for one host is there
	return carryOut(c, cfg, one, "fix-"+time.Now().UTC().Format("20060102-150405"))
}

// fixState is where the treatment of one host by hand is kept: a file beside the run's, or
// here if that is in a database.
func fixState(state, host string) string {
	safe := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, host)
	dir := "."
	if !shared(state) {
		dir = filepath.Dir(state)
	}
	return filepath.Join(dir, "unbrick-fix-"+safe+".db")
}

// leftAlone fails if a run is treating the host now: two at one host power it off under each
// other.
func leftAlone(c *cli.Context, cfg *config, host string) error {
	if !shared(cfg.State) {
		if _, err := os.Stat(cfg.State); errors.Is(err, os.ErrNotExist) {
			return nil
		}
	}
	store, err := openStore(c, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, state := range []string{"running", "waiting"} {
		for r, err := range store.Results(c.Context, "", state) {
			if errors.Is(err, engine.ErrNoRun) {
				return nil
			}
			if err != nil {
				return err
			}
			if inventory.SameName(r.Host, host) {
				return usage(fmt.Sprintf("unbrick status shows the run; unbrick cancel %s takes the host out of it", r.Host),
					"a run has %s now (%s at %s)", r.Host, state, r.Stage)
			}
		}
	}
	return nil
}
