package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"
)

func initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Usage: "ask a few questions and write a commented unbrick.yaml", Action: initialise,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "`FILE` to write", Value: "unbrick.yaml"},
			&cli.BoolFlag{Name: "force", Usage: "write it even if it is there"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "ask nothing: what no option says has its default"},
		}, questionFlags()...),
		Description: `An option for each question answers it beforehand. It asks for no secret and writes none: the
file says where secrets are, and the end of the output how to put them there. Nothing is
reached and nothing but these files is changed: the configuration, sites.csv beside it if a
country or a time zone is given, and an empty folder secrets.

   unbrick init
   unbrick init --yes --source netbox --url https://netbox.corp.example --ways redfish,winrm`,
	}
}

func initialise(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	out := c.String("out")
	if _, err := os.Lstat(out); err == nil && !c.Bool("force") {
		return usage("--out names another file; --force replaces this one", "%s is there already", out)
	}
	a, err := newInterview(c).all()
	if err != nil {
		return err
	}
	b := newBlueprint(a)
	text := b.text()
	sites, err := b.sites(c.Context, filepath.Dir(out))
	if err != nil {
		return err
	}
	written, err := b.write(out, text, sites, c.Bool("force"))
	if err != nil {
		return err
	}
	b.tell(c, out, written)
	return nil
}

// write writes the files, after every command's own reader has taken the configuration. Sites
// that are there are somebody's work, and stay.
func (b *blueprint) write(out, text, sites string, force bool) (written []string, err error) {
	dir := filepath.Dir(out)
	draft := filepath.Join(dir, fmt.Sprintf(".unbrick-init-%d.yaml", os.Getpid()))
	if err := writeNew(draft, []byte(text)); err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", out, err)
	}
	defer os.Remove(draft)
	cfg, err := loadConfig(draft)
	if err == nil && complete(b.answers["source"]) {
		_, err = openSources(cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("these answers make no configuration that can be used: %w", err)
	}
	if force {
		err = os.Rename(draft, out)
	} else {
		err = writeNew(out, []byte(text))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write %s: %w", out, err)
	}
	written = append(written, out)
	if sites != "" {
		table := filepath.Join(dir, sitesFile)
		switch err := writeNew(table, []byte(sites)); {
		case err == nil:
			written = append(written, table)
		case errors.Is(err, fs.ErrExist):
			b.notes = append(b.notes, table+" was there and stays as it is")
		default:
			return written, fmt.Errorf("cannot write %s: %w", table, err)
		}
	}
	if b.folder {
		err = os.MkdirAll(filepath.Join(dir, secretsFolder), 0o700)
	}
	return written, err
}

// tell says what was written, which secrets are to be put where, and what comes next.
func (b *blueprint) tell(c *cli.Context, out string, written []string) {
	for _, name := range written {
		say(c, "written: %s", name)
	}
	if len(b.secrets) > 0 {
		say(c, "\nput these where the configuration looks for them; a file with mode 0600, one line, nothing else in it:")
		for _, s := range b.secrets {
			say(c, "  %-34s %s", s.ref, s.what)
		}
	}
	for _, n := range b.notes {
		say(c, "\n%s", n)
	}
	with := ""
	if out != "unbrick.yaml" {
		with = " -c " + out
	}
	say(c, "\nnext:")
	say(c, "  %-40s the rescue image, once, on Debian", "unbrick image build")
	say(c, "  %-40s is all there that a run needs?", "unbrick doctor"+with)
	say(c, "  %-40s who first, and why; nothing is touched", "unbrick plan"+with)
}
