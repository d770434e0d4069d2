package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
hindrance; cut off, the same command goes on. A host that a run is treating right now is left to it;
one that waits its turn in a run is left to this command, and looked at by the run afterwards.
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
	release, err := claim(c, cfg, h)
	if err != nil {
		return err
	}
	defer release()
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

// fixLease is how long a run leaves the host of a fix that fell silent.
const fixLease = 15 * time.Second

// claim has the runs of the state leave the host to this command, until release is called or the
// command ends. It fails if a run has it already. The commands' own context ends if the claim is lost.
func claim(c *cli.Context, cfg *config, h inventory.Host) (release func(), err error) {
	store, err := openStore(c, cfg)
	if err != nil {
		return nil, err
	}
	mine, err := store.Claim(c.Context, h, fixLease)
	if err != nil {
		defer store.Close()
		var held *engine.HeldError
		if errors.As(err, &held) {
			return nil, hinted(err, heldHint(c.Context, store, held))
		}
		return nil, err
	}
	ctx, stop := context.WithCancel(c.Context)
	c.Context = ctx
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		if err := mine.Keep(ctx); err != nil {
			say(c, "warning: %v", err)
			stop()
		}
	}()
	return func() {
		stop()
		<-kept
		mine.Release()
		store.Close()
	}, nil
}

// heldHint says what helps where a host is not to be had.
func heldHint(ctx context.Context, store *engine.Store, held *engine.HeldError) string {
	if held.By != nil {
		return "wait for it; one that was killed has it for some seconds more"
	}
	st, err := store.Status(ctx, held.Run)
	if err != nil || st.Workers > 0 {
		return fmt.Sprintf("unbrick status shows the run; unbrick cancel %s has it put back and takes it out of the run", held.Host)
	}
	commands, _ := store.Commands(ctx, held.Run) // without them the hint is as true
	return fmt.Sprintf("no process is at work on the run, and %s is as it was left: %s puts it back; unbrick cancel %s before that takes it out of the run",
		held.Host, again(st, commands), held.Host)
}
