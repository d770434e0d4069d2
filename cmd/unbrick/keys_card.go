package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/bitlocker"
	"unbrick/bitlocker/card"
	"unbrick/inventory/secret"
)

func keysCardCommand() *cli.Command {
	return &cli.Command{
		Name: "card", Usage: "a page for the person at each host: bar codes, the key in groups, what to do", ArgsUsage: "HOST...", Action: keysCard,
		Flags: personFlags(
			&cli.StringFlag{Name: "out", Usage: "`DIR` for the pages, HTML and PNG, readable by you alone"},
			&cli.StringFlag{Name: "playbook", Usage: "`NAME` or file of a playbook, whose steps are to be on the page too"},
			&cli.StringFlag{Name: "admin", Value: "Administrator", Usage: "`NAME` of the local administrator"},
			&cli.BoolFlag{Name: "laps", Usage: "with the password of the local administrator from the escrows (Active Directory, Entra ID); each counts as a key"},
			&cli.StringFlag{Name: "admin-password", Usage: "`REFERENCE` to the password (LAPS): file:, env: or exec:, never the password; for one host"},
		),
		Description: personRules + `
The pages are the keys: nothing of them is shown here. Print them or send them sealed, and remove them.

   unbrick keys card SYD-00012 SYD-00013 -i fleet.csv --keys keys.csv --out cards --reason INC0012345`,
	}
}

func keysCard(c *cli.Context) error {
	args, err := arguments(c, 1, -1)
	if err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		return usage("the pages are written there: --out cards", "no directory for the pages")
	}
	password, err := adminPassword(c, len(args))
	if err != nil {
		return err
	}
	steps, err := playbookSteps(c.String("playbook"))
	if err != nil {
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
	files, err := cardFiles(out, wanted)
	if err != nil {
		return err
	}
	purpose, asked := "card for a person", wanted
	if password.Reveal() != "" || c.Bool("laps") {
		purpose = "card for a person, with the password of a local administrator"
	}
	if c.Bool("laps") {
		if err := d.havePasswords(); err != nil {
			return err
		}
		asked = withPasswords(wanted)
	}
	to, err := d.admit(c.Context, purpose, asked)
	if err != nil {
		return err
	}
	for i, q := range wanted {
		file, err := openCard(files[i])
		if err != nil {
			return hinted(fmt.Errorf("cannot write the page of host %s: %w", q.Host, err), fmt.Sprintf("%d of %d pages were written to %s; this key was not given out", i, len(wanted), out))
		}
		key, err := d.broker.Release(c.Context, q, to)
		if err != nil {
			file.drop()
			return hinted(err, fmt.Sprintf("%d of %d pages were written to %s", i, len(wanted), out))
		}
		page := card.Card{Host: q.Host, Site: d.site(q.Host), ID: q.ID, Key: key, Admin: c.String("admin"), Password: password,
			Steps: steps, Actor: to.Actor, Reason: to.Reason, Made: time.Now()}
		if c.Bool("laps") {
			d.addPassword(c, &page, to)
		}
		if err := file.write(page); err != nil {
			return hinted(fmt.Errorf("cannot write the page of host %s: %w", q.Host, err), "its key is on the ledger as given to you all the same")
		}
		say(c, "%s: %s.html and .png", q.Host, files[i])
	}
	say(c, "on the ledger: %d keys given to %s; remove the files when they are printed", len(wanted), to.Actor)
	return nil
}

// adminPassword resolves --admin-password. One password is not that of several hosts.
func adminPassword(c *cli.Context, hosts int) (secret.Value, error) {
	ref := secret.Ref(c.String("admin-password"))
	if ref == "" {
		return secret.Value{}, nil
	}
	if c.Bool("laps") {
		return secret.Value{}, usage("give one of the two", "--laps and --admin-password both name a password")
	}
	if hosts != 1 {
		return secret.Value{}, usage("draw the cards one by one", "--admin-password is of one host, not of %d", hosts)
	}
	v, err := ref.Resolve(c.Context)
	return v, hinted(err, "write --admin-password file:PATH, env:NAME or exec:COMMAND")
}

// playbookSteps says what a person does who does by hand what the playbook does.
func playbookSteps(name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	pb, err := openPlaybook(name)
	if err != nil {
		return nil, err
	}
	steps := []string{"When the disk is open: Troubleshoot, Advanced options, Command Prompt. All names below are in the folder Windows of that disk; it may have another letter than C."}
	for _, s := range pb.Steps {
		steps = append(steps, "Do this: "+s.String())
	}
	return append(steps, "Restart without the scanner and look whether Windows comes up."), nil
}

// cardFiles makes the directory and returns the name of each page without its ending. None of
// the pages is there yet: a key is not given out for a page that is there.
func cardFiles(dir string, wanted []bitlocker.Query) ([]string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, hinted(fmt.Errorf("cannot make the directory of the pages: %w", err), "--out names another")
	}
	names := make([]string, len(wanted))
	seen := map[string]bool{}
	for i, q := range wanted {
		names[i] = filepath.Join(dir, fileName(q.Host)+"-"+q.ID.String()[:8])
		if seen[names[i]] {
			return nil, usage("name each host once", "host %s is there twice", q.Host)
		}
		seen[names[i]] = true
		if _, err := os.Lstat(names[i] + ".html"); !errors.Is(err, fs.ErrNotExist) {
			return nil, usage("remove it, or give another directory with --out", "%s is there already", names[i]+".html")
		}
	}
	return names, nil
}

// fileName keeps of a host's name what is harmless in that of a file.
func fileName(host string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, host), ".")
}

// site returns where the inventory says that a host is.
func (d *desk) site(host string) string {
	if d.fleet == nil {
		return ""
	}
	for _, h := range d.fleet.Hosts {
		if bitlocker.SameHost(h.Name, host) {
			return h.Site
		}
	}
	return ""
}
