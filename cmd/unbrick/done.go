package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"unbrick/remediate"
	"unbrick/remediate/engine"
)

func doneCommand() *cli.Command {
	return &cli.Command{
		Name: "done", Usage: "say what came of a host that waited for a person", ArgsUsage: "HOST", Action: done,
		Flags: []cli.Flag{stateFlag(), configFlag(), runFlag(),
			&cli.StringFlag{Name: "by", Usage: "`WHO` did it (default: your login)"},
			&cli.BoolFlag{Name: "failed", Usage: "it could not be done"},
			&cli.StringFlag{Name: "note", Usage: "what else to put on record, as `TEXT`"}},
		Description: `The word is a claim: the host counts as fixed when its Windows is seen up. unbrick status
lists what hosts wait for.

   unbrick done SYD-00012 --by alice
   unbrick done SYD-00012 --by alice --failed --note 'the disk clicks'`,
	}
}

func done(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	note := remediate.Note{By: c.String("by"), What: remediate.Done, Text: c.String("note")}
	if note.By == "" {
		note.By = operator()
	}
	if c.Bool("failed") {
		note.What = remediate.GaveUp
	}
	return withStore(c, func(s *engine.Store) error {
		err := s.Wake(c.Context, c.String("run"), args[0], note)
		if asked := (*engine.NotAskedError)(nil); errors.As(err, &asked) && asked.State != "done" {
			return hinted(err, "the word is not kept; the run looks by itself whether a host is up before it touches it, and unbrick cancel takes one out of it")
		}
		if err != nil {
			return hinted(err, "unbrick status --json lists what hosts wait for; unbrick report, which do")
		}
		if note.What == remediate.GaveUp {
			say(c, "noted; the run gives %s up", args[0])
		} else {
			say(c, "noted; the run takes %s up again and looks whether it is up", args[0])
		}
		if st, err := s.Status(c.Context, c.String("run")); err == nil && st.Workers == 0 {
			commands, _ := s.Commands(c.Context, st.Run.ID) // the rest is as true without them
			say(c, "no process is at work on the run: %s does so", again(st, commands))
		}
		return nil
	})
}
