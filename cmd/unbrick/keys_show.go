package main

import (
	"bufio"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
)

// personCommands are those by which a person gets a key, or another agrees to it.
func personCommands() []*cli.Command {
	return []*cli.Command{keysShowCommand(), keysLAPSCommand(), keysApproveCommand(), keysCardCommand(), keysBundleCommand(), keysExportCommand(), keysCheckpointCommand()}
}

const personRules = `On the ledger first, with your login and the reason. 30 keys an hour and 150 a day; for more, for
more than 25 hosts at once and for hosts of the dependency tier a second person approves first, with
unbrick keys approve. Without the inventory nobody can tell the tier, so two persons are needed.`

func personFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "reason", Usage: "`WHY`, for the ledger: a ticket, who is at the host"},
		&cli.StringSliceFlag{Name: "id", Usage: "the first 8 or more `DIGITS` of the key id that the recovery screen shows"},
		inventoryFlag(), configFlag(), mapFlag(), skipBadFlag(), keysFlag(),
	}, more...)
}

func keysShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "the recovery key of one host, on this terminal", ArgsUsage: "HOST", Action: keysShow,
		Flags:       personFlags(&cli.BoolFlag{Name: "yes-print", Usage: "also where standard output is a file or a pipe, which keeps the key"}),
		Description: personRules + "\n\n   unbrick keys show SYD-00012 -i fleet.csv --keys keys.csv --reason 'INC0012345, Ann is at the desk'",
	}
}

// mayPrint refuses to write a secret into a file by accident.
func mayPrint(c *cli.Context) error {
	if c.Bool("yes-print") || terminal(c.App.Writer) {
		return nil
	}
	return usage("--yes-print does it all the same; whoever reads that file then has the key", "standard output is not a terminal, and would keep the key")
}

func keysShow(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	if err := mayPrint(c); err != nil {
		return err
	}
	d, err := openDesk(c)
	if err != nil {
		return err
	}
	defer closeLedger(c, d.ledger)
	wanted, err := d.find(c.Context, args)
	if err != nil {
		return err
	}
	to, err := d.admit(c.Context, "shown to a person", wanted)
	if err != nil {
		return err
	}
	key, err := d.broker.Release(c.Context, wanted[0], to)
	if err != nil {
		return hinted(err, "no key was shown")
	}
	hide := onScreen(c)
	fmt.Fprintf(c.App.Writer, "host  %s\nid    %s\nkey   %s\n", wanted[0].Host, wanted[0].ID, key.Reveal())
	hide()
	say(c, "on the ledger as shown to %s; compare the first 8 digits of the id with the recovery screen", to.Actor)
	return nil
}

// shownFor is how long a key stays on a terminal.
const shownFor = 2 * time.Minute

// onScreen turns to the terminal's other screen, which keeps no history, and returns what waits
// for Enter, or for shownFor, and turns back. Where the key goes into a file it does nothing.
func onScreen(c *cli.Context) (hide func()) {
	if !terminal(c.App.Writer) {
		return func() {}
	}
	const other, back = "\x1b[?1049h\x1b[H", "\x1b[?1049l"
	fmt.Fprint(c.App.Writer, other)
	return func() {
		say(c, "\nEnter hides it; in any case it is hidden in %s", shownFor)
		enter := make(chan struct{})
		go func() {
			bufio.NewReader(c.App.Reader).ReadString('\n') // or the end of the input
			close(enter)
		}()
		select {
		case <-enter:
		case <-time.After(shownFor):
		case <-c.Context.Done():
		}
		fmt.Fprint(c.App.Writer, back)
	}
}
