package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate/swap"
)

func cleanupCommand() *cli.Command {
	return &cli.Command{
		Name: "cleanup", Usage: "what volume swaps left behind, and what removes it", Action: cleanup,
		Flags: []cli.Flag{configFlag(), stateFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "offline", Usage: "do not ask the platforms which snapshots are still there"}},
		Description: `Lists volumes that are not back on their instances, and snapshots that were made before volumes
were moved. Nothing is removed by it: the snapshots are what is left if a repair went wrong. The
platforms are asked which are still there; those that somebody removed since are not named again.`,
	}
}

// A leftover is what a swap left behind.
type leftover struct {
	Host     string    `json:"host"`
	Way      string    `json:"way"`
	What     string    `json:"what"` // volume or snapshot
	Name     string    `json:"name"`
	Instance string    `json:"instance"`
	Since    time.Time `json:"since"`
	Run      string    `json:"run"`
	Remove   string    `json:"remove"`            // what puts it right
	Unasked  string    `json:"unasked,omitempty"` // why its platform was not asked whether it is there

	entry swap.Entry
}

func cleanup(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	cfg, err := settings(c)
	if err != nil {
		return err
	}
	if err := stateExists(cfg.State); err != nil {
		return err
	}
	store, err := openStore(c, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	journal := swap.NewJournal(store)
	entries, err := journal.All(c.Context)
	if err != nil {
		return err
	}
	left := leftovers(entries)
	if !c.Bool("offline") {
		k := &kit{cfg: cfg, store: store}
		defer k.Close()
		a := asking{finders: k.finders(), forget: journal.Forget, patience: askedFor}
		if left, err = a.ask(c.Context, left); err != nil {
			return err
		}
		for _, line := range unasked(left) {
			say(c, "%s", line)
		}
	}
	if c.Bool("json") {
		return printJSON(c, left)
	}
	for _, l := range left {
		fmt.Fprintln(c.App.Writer, l)
	}
	if len(left) == 0 {
		say(c, "nothing is left behind")
	}
	return nil
}

// String is a line of the list.
func (l leftover) String() string {
	since := "since " + l.Since.Local().Format("2006-01-02 15:04")
	if l.Unasked != "" {
		since += ", not asked"
	}
	return fmt.Sprintf("%s  %-8s  %s (%s)  %s: %s", l.Host, l.What, l.Name, l.Instance, since, l.Remove)
}

// leftovers says what to do about each entry of the journal.
func leftovers(entries []swap.Entry) []leftover {
	left := []leftover{}
	for _, e := range entries {
		l := leftover{Host: e.Host, Way: e.Way, Instance: e.Instance, Since: e.At, Run: e.Run, entry: e}
		if !e.Ended {
			l.What, l.Name = "volume", e.Slot.Name
			l.Remove = "unbrick run (the same run again) or unbrick fix " + e.Host + " puts it back"
			left = append(left, l)
		}
		if e.Snapshot && !e.Gone {
			l.What, l.Name, l.Remove = "snapshot", e.Mark, removal(e)
			left = append(left, l)
		}
	}
	return left
}
