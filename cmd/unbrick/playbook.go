package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
)

func playbookCommand() *cli.Command {
	return &cli.Command{
		Name:  "playbook",
		Usage: "what is looked for on a volume and what is done about it",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "the playbooks that the program brings along", Action: playbookList, Flags: []cli.Flag{jsonFlag()}},
			{Name: "show", Usage: "the text of a playbook", ArgsUsage: "PLAYBOOK", Action: playbookShow,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "schema", Usage: "print the JSON schema of all playbooks instead"}}},
			{Name: "check", Usage: "is a playbook right? says every mistake with its line and column", ArgsUsage: "FILE...", Action: playbookCheck,
				Description: "   unbrick playbook check vendor-x.yaml"},
			{Name: "try", Usage: "a dry run on a disk image or a folder: what is there, and what would change", ArgsUsage: "PLAYBOOK IMAGE|DIR",
				Action: playbookTry, Flags: []cli.Flag{jsonFlag()},
				Description: "Reads a raw disk image (GPT, MBR or one NTFS volume), or a folder that holds a copy of a\nvolume, and changes nothing.\n\n   unbrick playbook try crowdstrike-291 /var/images/sydney-0001.img"},
		},
	}
}

func playbookList(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	type row struct{ Name, Title string }
	var rows []row
	for _, name := range playbooks.Embedded() {
		pb, err := playbooks.Open(name)
		if err != nil {
			return err
		}
		rows = append(rows, row{pb.Name, pb.Title})
	}
	if c.Bool("json") {
		return printJSON(c, rows)
	}
	for _, r := range rows {
		fmt.Fprintf(c.App.Writer, "%-20s %s\n", r.Name, r.Title)
	}
	return nil
}

func playbookShow(c *cli.Context) error {
	if c.Bool("schema") {
		_, err := c.App.Writer.Write(playbooks.Schema())
		return err
	}
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	pb, err := openPlaybook(args[0])
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(pb.Source())
	return err
}

func playbookCheck(c *cli.Context) error {
	args, err := arguments(c, 1, -1)
	if err != nil {
		return err
	}
	var wrong []error
	for _, name := range args {
		pb, err := playbooks.Open(name)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		say(c, "%s: right. %s", name, pb.Title)
		for _, s := range pb.Steps {
			say(c, "  %s", s)
		}
	}
	return hinted(errors.Join(wrong...), "unbrick playbook show --schema prints what a playbook may hold")
}

func playbookTry(c *cli.Context) error {
	args, err := arguments(c, 2, 2)
	if err != nil {
		return err
	}
	pb, err := openPlaybook(args[0])
	if err != nil {
		return err
	}
	result, err := diskimage.Try(pb, args[1])
	if err != nil {
		return hinted(err, "give a raw disk image, or a folder with a copy of the volume")
	}
	if c.Bool("json") {
		return printJSON(c, result)
	}
	printResult(c.App.Writer, result, "would remove")
	return nil
}

// printValue says what was found of one value in a registry or boot store.
func printValue(w io.Writer, v playbooks.Value) {
	what, is := "keep", ""
	switch {
	case v.Faulty && v.Is == "":
		what = "cannot mend"
	case v.Faulty:
		what, is = "would change", " to "+v.Is
	}
	fmt.Fprintf(w, "    %-12s %s  %s%s: %s\n", what, strings.TrimSpace(v.Path+" "+v.Name), v.Was, is, v.Why)
}

func openPlaybook(name string) (*playbooks.Playbook, error) {
	pb, err := playbooks.Open(name)
	return pb, hinted(err, "unbrick playbook list names those that are built in")
}

// printResult says what was found on every volume, a line each for volume, Windows and file.
func printResult(w io.Writer, r playbooks.Result, removing string) {
	if len(r.Volumes) == 0 {
		fmt.Fprintln(w, "no volume that can hold Windows was found")
	}
	for _, v := range r.Volumes {
		fmt.Fprintf(w, "%s: %s\n", v.Volume, v.Verdict)
		if v.Error != "" {
			fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(v.Error, "\n", "\n  "))
		}
		for _, f := range v.Findings {
			fmt.Fprintf(w, "  %s: %s\n", f.Root, f.Verdict)
			for _, file := range f.Files {
				what := "keep"
				if file.Faulty {
					what = removing
				}
				fmt.Fprintf(w, "    %-12s %s  %d bytes, written %s, sha256 %.12s: %s\n", what, file.Path, file.Size,
					file.ModTime.UTC().Format(time.RFC3339), file.SHA256, file.Why)
			}
			for _, val := range f.Values {
				printValue(w, val)
			}
		}
	}
	if !r.Affected() {
		fmt.Fprintln(w, "nothing would change")
	}
}
