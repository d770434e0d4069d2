package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/rotation"
	"unbrick/inventory"
	"unbrick/remediate/engine"
)

// How the queue is worked: three requests a second, and the same one again after a day, in which
// a host that is up has been in touch with Intune several times.
const (
	rotateEvery = 330 * time.Millisecond
	rotateAgain = 24 * time.Hour
)

func keysRotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "have the protectors replaced whose keys went out, and show which are not yet", Action: keysRotate,
		Flags: []cli.Flag{configFlag(), keysFlag(), stateFlag(), runFlag(), jsonFlag(),
			&cli.DurationFlag{Name: "soak", Value: 24 * time.Hour, Usage: "how long a host has to be well, and no key of it needed"},
			&cli.StringSliceFlag{Name: "healthy", Usage: "you have seen that `HOST` is well, of which the run knows nothing; may be given several times"},
			&cli.StringSliceFlag{Name: "dead", Usage: "you have seen to it that the protector `ID` opens nothing any more (removed, or the disk wiped): only notes that on the ledger, with your login"},
			&cli.BoolFlag{Name: "winrm", Usage: "run the commands on the hosts of the run, by WinRM, instead of printing them"},
			&cli.BoolFlag{Name: "dry-run", Usage: "say what is due and change nothing"},
		},
		Description: `The queue is the ledger: every key that was given out, less what was replaced since. One pass each
time it is run; run it daily until it says that none is left. A host has to be fixed or healthy in
the run of --state for a day first. Where the escrow can (Intune), the host is told to replace its
protector; otherwise the commands for the host are printed, or run there with --winrm. The old protector goes last: not before
an escrow has a new one. Exit code 1 if any is left.

   unbrick keys rotate -c unbrick.yaml --dry-run
   unbrick keys rotate -c unbrick.yaml`,
	}
}

func keysRotate(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if _, err := os.Stat(cfg.Ledger); errors.Is(err, fs.ErrNotExist) { // it is not made by looking
		return usage("-c names the configuration of the run", "no ledger %s: no key was given out from here", cfg.Ledger)
	}
	ledger, err := bitlocker.OpenLedger(cfg.Ledger)
	if err != nil {
		return hinted(err, "unbrick keys audit says what is wrong with it")
	}
	defer closeLedger(c, ledger)
	w := &rotation.Worker{Ledger: ledger, Soak: c.Duration("soak"), Again: rotateAgain, Every: rotateEvery, Now: time.Now, Dry: c.Bool("dry-run")}
	if ids := c.StringSlice("dead"); len(ids) > 0 {
		return keysDead(c, w, ids)
	}
	if w.Escrows, err = openKeys(c, cfg); err != nil {
		return err
	}
	if len(w.Escrows) == 0 {
		return usage("give the escrows of the run: --keys FILE, or -c with its configuration", "no escrow of keys: nobody could tell whether a new protector was escrowed")
	}
	hosts := map[string]inventory.Host{}
	if w.Healthy, err = healthyHosts(c, cfg, hosts); err != nil {
		return err
	}
	if c.Bool("winrm") {
		done, err := rotateByShell(c, cfg, w, hosts)
		if err != nil {
			return err
		}
		defer done()
	}
	all, err := w.Pass(c.Context)
	if err != nil {
		return err
	}
	return printRotation(c, all)
}

// rotateByShell has the commands run on the hosts of the run.
func rotateByShell(c *cli.Context, cfg *config, w *rotation.Worker, hosts map[string]inventory.Host) (done func(), err error) {
	store, err := openStore(c, cfg) // it remembers the hosts' certificates
	if err != nil {
		return nil, err
	}
	s, err := newShell(cfg, store)
	if err == nil && s == nil {
		err = usage("credentials: in unbrick.yaml, with driver: winrm", "no credential for WinRM")
	}
	if err != nil {
		store.Close()
		return nil, err
	}
	w.Runner = s.runner(hosts)
	return func() { store.Close() }, nil
}

// keysDead notes what a person has seen to.
func keysDead(c *cli.Context, w *rotation.Worker, given []string) error {
	who, err := currentPerson()
	if err != nil {
		return err
	}
	ids := make([]bitlocker.KeyID, len(given))
	for i, text := range given {
		if ids[i], err = bitlocker.ParseKeyID(text); err != nil {
			return hinted(err, "unbrick keys rotate --dry-run lists the ids")
		}
	}
	for _, id := range ids {
		if w.Dry {
			say(c, "%s would be noted as dead, by %s", id, who.account)
			continue
		}
		if err := w.Dead(c.Context, id, who.account); err != nil {
			return hinted(err, "unbrick keys rotate --dry-run lists those that wait")
		}
		say(c, "%s is dead, says %s: on the ledger", id, who.account)
	}
	return nil
}

// healthyHosts returns who is known to be well, and since when: from the state of the run, if
// there is one, and from the person at the terminal. It adds the
// hosts of the run to hosts, by their folded names.
func healthyHosts(c *cli.Context, cfg *config, hosts map[string]inventory.Host) (func(host string) (bool, time.Time), error) {
	since := map[string]time.Time{}
	err := stateExists(cfg.State)
	if err != nil && c.String("state") != "" {
		return nil, err
	}
	if err != nil {
		say(c, "no state %s of a run: only hosts of --healthy are known to be well", cfg.State)
	} else if err := withStore(c, func(store *engine.Store) error {
		run, err := store.Run(c.Context, c.String("run"))
		if err != nil {
			return noRunHint(err)
		}
		for r, err := range store.Results(c.Context, run.ID, "done") {
			if err != nil {
				return err
			}
			hosts[bitlocker.FoldHost(r.Host)] = r.Inventory
			if r.Verdict.Done() {
				since[bitlocker.FoldHost(r.Host)] = r.Ended
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	for _, h := range c.StringSlice("healthy") {
		since[bitlocker.FoldHost(h)] = time.Time{}
	}
	return func(host string) (bool, time.Time) {
		t, ok := since[bitlocker.FoldHost(host)]
		return ok, t
	}, nil
}

// printRotation shows what is left, and how many are done.
func printRotation(c *cli.Context, all []rotation.Outcome) error {
	var left []rotation.Outcome
	for _, o := range all {
		if !o.Done() {
			left = append(left, o)
		}
	}
	if c.Bool("json") {
		r := struct {
			Protectors int                `json:"protectors"`
			Left       int                `json:"left"`
			Items      []rotation.Outcome `json:"items"`
		}{len(all), len(left), append([]rotation.Outcome{}, all...)}
		if err := printJSON(c, r); err != nil {
			return err
		}
	} else {
		printLeft(c, left)
	}
	say(c, "%d protectors whose keys went out: %d replaced, %d left", len(all), len(all)-len(left), len(left))
	if len(left) > 0 {
		return exitWith(exitNotAll)
	}
	return nil
}

// printedCommands is for how many hosts the commands are printed: nobody types more in a night.
const printedCommands = 20

func printLeft(c *cli.Context, left []rotation.Outcome) {
	tw := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	for _, o := range left {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", o.Host, o.ID, o.Step, oneLine(o.Why))
	}
	tw.Flush()
	n := 0
	for _, o := range left {
		if o.Commands == "" {
			continue
		}
		if n++; n <= printedCommands {
			fmt.Fprintf(c.App.Writer, "\n# on %s, in PowerShell as an administrator:\n%s\n", o.Host, o.Commands)
		}
		if o.Step == bitlocker.RotationEscrowed && n <= printedCommands {
			fmt.Fprintf(c.App.Writer, "# then: unbrick keys rotate --dead %s\n", o.ID)
		}
	}
	if n > printedCommands {
		say(c, "… and commands for %d more hosts: --json has all", n-printedCommands)
	}
}
