package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/card"
	"unbrick/bitlocker/laps"
)

func keysLAPSCommand() *cli.Command {
	return &cli.Command{
		Name: "laps", Usage: "the password of one host's local administrator (LAPS), for Safe Mode, on this terminal", ArgsUsage: "HOST", Action: keysLAPS,
		Flags: personFlags(&cli.BoolFlag{Name: "yes-print", Usage: "also where standard output is a file or a pipe, which keeps the password"}),
		Description: personRules + `
From the escrows of unbrick.yaml that have such passwords: Active Directory and Entra ID. Newest
first: a host that was restored may still have the one before.

   unbrick keys laps SYD-00012 -i fleet.csv --reason 'INC0012345, Ann is at the desk'`,
	}
}

func keysLAPS(c *cli.Context) error {
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
	if err := d.havePasswords(); err != nil {
		return err
	}
	to, err := d.admit(c.Context, "password of a local administrator shown to a person", []bitlocker.Query{{Host: args[0]}})
	if err != nil {
		return err
	}
	all, err := d.passwords(c.Context, args[0], to)
	if len(all) == 0 {
		return hinted(err, "no password was shown")
	}
	if err != nil {
		say(c, "warning: %v", err)
	}
	for _, p := range all {
		account, when := p.Account, "at a time that the directory does not say"
		if account == "" {
			account = "(as the LAPS policy says; usually Administrator)"
		}
		if !p.Updated.IsZero() {
			when = p.Updated.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(c.App.Writer, "host      %s\naccount   %s\npassword  %s\nset       %s, in %s\n", args[0], account, p.Value.Reveal(), when, p.Source)
	}
	say(c, "on the ledger as shown to %s", to.Actor)
	return nil
}

// localSources are the escrows that have passwords of local administrators.
func (d *desk) localSources() (all []laps.Source) {
	for _, s := range d.broker.Sources {
		if l, ok := s.(laps.Source); ok {
			all = append(all, l)
		}
	}
	return all
}

func (d *desk) havePasswords() error {
	if len(d.localSources()) == 0 {
		return usage("activedirectory and entra under escrows: in unbrick.yaml have them", "no escrow has passwords of local administrators")
	}
	return nil
}

// withPasswords returns what an approval has to be of: the keys, and a password of each host.
func withPasswords(wanted []bitlocker.Query) []bitlocker.Query {
	all := slices.Clone(wanted)
	for _, q := range wanted {
		all = append(all, bitlocker.Query{Host: q.Host})
	}
	return all
}

func (d *desk) passwords(ctx context.Context, host string, to bitlocker.Recipient) ([]laps.Password, error) {
	return (&laps.Broker{Sources: d.localSources(), Ledger: d.guard}).Release(ctx, host, to)
}

// addPassword puts the newest password on the page. A page without one is still of use: what is
// wrong is said, and the page is drawn.
func (d *desk) addPassword(c *cli.Context, page *card.Card, to bitlocker.Recipient) {
	all, err := d.passwords(c.Context, page.Host, to)
	switch {
	case errors.Is(err, laps.ErrNone):
		say(c, "%s: %v; the page is without one", page.Host, err)
	case err != nil && len(all) == 0:
		say(c, "warning: %s: the page is without a password: %v", page.Host, err)
	case err != nil:
		say(c, "warning: %s: %v", page.Host, err)
	}
	if len(all) == 0 {
		return
	}
	page.Password = all[0].Value
	if all[0].Account != "" {
		page.Admin = all[0].Account
	}
}
