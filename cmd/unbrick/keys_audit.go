package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/inventory/secret"
)

func keysAuditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "is the ledger whole? follows its chain and compares it with its checkpoints", ArgsUsage: "[LEDGER]", Action: keysAudit,
		Flags: []cli.Flag{configFlag(), &cli.StringSliceFlag{Name: "checkpoint",
			Usage: "`FILE` of checkpoints or one such as 1204:9f86d081884c7d65, kept elsewhere; may be given several times"}},
		Description: `The checkpoints beside the ledger show what was cut off or written anew by accident or by somebody
without their key. Whoever owns the disk can remove those too: only one that was kept elsewhere,
on paper or in a log system, shows that.

   unbrick keys audit --checkpoint 1204:9f86d081884c7d65`,
	}
}

func keysCheckpointCommand() *cli.Command {
	return &cli.Command{
		Name: "checkpoint", Usage: "sign how long the ledger is now, and print that to be kept elsewhere", Action: keysCheckpoint,
		Flags:       []cli.Flag{configFlag(), jsonFlag()},
		Description: "   unbrick keys checkpoint                      # for the hand-over sheet\n   unbrick keys checkpoint --json | logger      # whole, with its signature",
	}
}

// ledgerName returns the ledger of the argument, else that of the configuration.
func ledgerName(c *cli.Context) (string, error) {
	args, err := arguments(c, 0, 1)
	if err != nil {
		return "", err
	}
	cfg, err := settings(c)
	if err != nil {
		return "", err
	}
	if len(args) == 1 {
		return args[0], nil
	}
	return cfg.Ledger, nil
}

func keysAudit(c *cli.Context) error {
	name, err := ledgerName(c)
	if err != nil {
		return err
	}
	var marks []bitlocker.Mark
	var keys []string // that signed what was kept elsewhere
	for _, given := range c.StringSlice("checkpoint") {
		m, k, err := readMarks(given)
		if err != nil {
			return err
		}
		marks, keys = append(marks, m...), append(keys, k...)
	}
	a, err := bitlocker.AuditLedger(name, marks...)
	for _, k := range keys {
		if err == nil && len(a.Checkpoints) > 0 && a.Checkpoints[0].Key != k {
			err = errors.New("the checkpoints beside the ledger are signed by another key than those kept elsewhere")
		}
	}
	if err != nil {
		return hinted(err, "keep the file as it is: it is evidence. Compare it with the copy in your log system")
	}
	say(c, "%s: whole, %d records, head %.16s, %d checkpoints beside it and %d from elsewhere hold", name, a.Records, a.Head, len(a.Checkpoints), len(marks))
	if len(keys) > 0 && len(a.Checkpoints) == 0 {
		say(c, "the checkpoints that were beside the ledger are gone; what it has goes as far as those kept elsewhere")
	}
	if len(marks) == 0 {
		say(c, "a tail that was cut off together with its checkpoints would not be seen: keep those of unbrick keys checkpoint elsewhere, and give them with --checkpoint")
	}
	return nil
}

// readMarks reads one mark, or a file of checkpoints with the keys that signed them.
func readMarks(given string) (marks []bitlocker.Mark, keys []string, err error) {
	m, bad := bitlocker.ParseMark(given)
	if bad == nil {
		return []bitlocker.Mark{m}, nil, nil
	}
	f, err := os.Open(given)
	if err != nil {
		return nil, nil, usage("unbrick keys checkpoint prints one", "%q is neither a file nor a checkpoint: %v", given, bad)
	}
	defer f.Close()
	all, err := bitlocker.ReadCheckpoints(f)
	if err != nil || len(all) == 0 {
		return nil, nil, hinted(fmt.Errorf("cannot use %s: %w", given, errors.Join(err, errNone(len(all)))), "it is a file as unbrick keys checkpoint --json writes it, a line each")
	}
	for _, cp := range all {
		marks, keys = append(marks, bitlocker.Mark{Records: cp.Records, Head: cp.Head}), append(keys, cp.Key)
	}
	return marks, keys, nil
}

func errNone(n int) error {
	if n > 0 {
		return nil
	}
	return errors.New("no checkpoint in it")
}

func keysCheckpoint(c *cli.Context) error {
	name, err := ledgerName(c)
	if err != nil {
		return err
	}
	if _, err := os.Stat(name); err != nil { // it is not made by looking
		return hinted(fmt.Errorf("cannot read the ledger: %w", err), "-c names the configuration of the run")
	}
	ledger, err := bitlocker.OpenLedger(name)
	if err != nil {
		return hinted(err, "unbrick keys audit says what is wrong with it")
	}
	defer closeLedger(c, ledger)
	cp, err := ledger.Checkpoint(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(cp) // a line, as ReadCheckpoints takes it
	}
	fmt.Fprintln(c.App.Writer, cp.Mark())
	return nil
}

func keysExportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "the ledger for a log system, a line for each record; no digit of a key is in it", ArgsUsage: "[LEDGER]", Action: keysExport,
		Flags: []cli.Flag{configFlag(),
			&cli.StringFlag{Name: "format", Value: "json", Usage: "`FORMAT`: json, cef or syslog (CEF behind the header of RFC 5424)"},
			&cli.StringFlag{Name: "salt", Usage: "`REFERENCE` to a secret of this incident (file:, env: or exec:): ids of keys become pseudonyms"},
			&cli.IntFlag{Name: "after", Usage: "only records after number `N`, to go on where the last export ended"},
		},
		Description: "   unbrick keys export --format cef --salt file:incident.salt >> /var/log/unbrick.cef",
	}
}

func keysExport(c *cli.Context) error {
	name, err := ledgerName(c)
	if err != nil {
		return err
	}
	x := bitlocker.Exporter{W: c.App.Writer, Format: c.String("format")}
	if err := x.Check(); err != nil {
		return hinted(err, "see unbrick keys export --help")
	}
	if ref := secret.Ref(c.String("salt")); ref != "" {
		salt, err := ref.Resolve(c.Context)
		if err != nil {
			return hinted(err, "write --salt file:PATH, env:NAME or exec:COMMAND")
		}
		x.Salt = []byte(salt.Reveal())
	}
	f, err := os.Open(name)
	if err != nil {
		return hinted(fmt.Errorf("cannot read the ledger: %w", err), "-c names the configuration of the run")
	}
	defer f.Close()
	written := 0
	n, _, err := bitlocker.ReadLedger(f, func(e bitlocker.Event, hash string) error {
		if e.Seq <= c.Int("after") {
			return nil
		}
		written++
		return x.Write(e, hash)
	})
	say(c, "%d records exported, the last is number %d", written, n)
	return hinted(err, "what stands before it was exported; keep the file as it is: it is evidence")
}
