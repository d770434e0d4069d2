package main

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"unbrick/remediate"
	"unbrick/remediate/engine"
	"unbrick/remediate/lab"
)

func labFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "hosts", Value: 60, Usage: "`N` simulated hosts"},
		&cli.Uint64Flag{Name: "seed", Value: 1, Usage: "the same `SEED` makes the same fleet"},
		&cli.DurationFlag{Name: "pace", Value: 300 * time.Millisecond, Usage: "how long a host takes for the short things, as its self-test"},
	}
}

func labCommand() *cli.Command {
	return &cli.Command{
		Name: "lab", Usage: "a simulated fleet on loopback, to point any command at", Action: labRun,
		Flags: append(labFlags(),
			&cli.StringFlag{Name: "dir", Value: "unbrick-lab", Usage: "`FOLDER` for fleet.csv, keys.csv, unbrick.yaml and actions.jsonl"},
			&cli.IntFlag{Name: "persons", Usage: "add `N` hosts that nobody reaches from afar: a run waits for a person"},
			&cli.StringFlag{Name: "clouds", Usage: "add virtual hosts on simulated `PLATFORMS`: " + strings.Join(lab.Clouds(), ",") + ", or all"},
			&cli.BoolFlag{Name: "vm", Usage: "add two hosts that are real: QEMU, UEFI Secure Boot, NTFS, one with BitLocker (Linux)"}),
		Description: `Runs until Ctrl-C. actions.jsonl says what every host really saw.

   unbrick lab --hosts 100 --dir lab &
   unbrick run -c lab/unbrick.yaml

With --clouds, virtual hosts are found on simulated platforms and repaired on a helper there:

   unbrick lab --hosts 0 --clouds all --dir lab &
   . lab/clouds.env && unbrick run -c lab/unbrick.yaml

Hosts of --persons wait until unbrick done says that somebody was there; the run ends without
them if it is given --no-wait.`,
	}
}

func labRun(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	ctx, first, cancel := interruptible(c.Context, c.App.ErrWriter)
	defer cancel()
	l, err := startLab(c, c.String("dir"))
	if err != nil {
		return err
	}
	config := filepath.Join(c.String("dir"), "unbrick.yaml")
	command := "unbrick run -c " + config
	if c.IsSet("clouds") {
		command = ". " + filepath.Join(c.String("dir"), "clouds.env") + " && " + command
	}
	say(c, "%d hosts are listening; in another terminal:\n  %s", len(l.Hosts()), command)
	select {
	case <-first:
	case <-ctx.Done():
	}
	return l.Close()
}

func startLab(c *cli.Context, dir string) (*lab.Lab, error) {
	var clouds []string
	switch names := c.String("clouds"); names {
	case "":
	case "all":
		clouds = lab.Clouds()
	default:
		clouds = strings.Split(names, ",")
	}
	l, err := lab.Start(c.Context, lab.Options{
		Hosts: c.Int("hosts"), Seed: c.Uint64("seed"), Pace: c.Duration("pace"), Dir: dir, VM: c.Bool("vm"), Persons: c.Int("persons"),
		Clouds: clouds, Say: func(line string) { say(c, "%s", line) },
	})
	return l, hinted(err, "--hosts, --persons, --clouds, --dir and --pace say what lab to build")
}

func demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "all of it on a simulated fleet: plan, run, report; nothing to install", Action: demo,
		Flags: append(labFlags(), logFlag(),
			&cli.StringFlag{Name: "dir", Usage: "`FOLDER` to keep the lab's files and the state in (default: a temporary one)"}),
		Description: "Some hosts cannot be repaired, on purpose. Exit code 0 means that every host ended as it\ndeserved.\n\n   unbrick demo --hosts 200",
	}
}

func demo(c *cli.Context) (err error) {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	dir := c.String("dir")
	if dir == "" {
		if dir, err = os.MkdirTemp("", "unbrick-demo-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	l, err := startLab(c, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	cfg, err := loadConfig(filepath.Join(dir, "unbrick.yaml"))
	if err != nil {
		return err
	}
	fleet, err := loadFleet(c, cfg)
	if err != nil {
		return err
	}
	printPlan(c.App.Writer, makePlan(cfg, fleet, time.Now(), cfg.Playbook), false)
	fmt.Fprintln(c.App.Writer)
	err = carryOut(c, cfg, fleet, "")
	var f *failure
	if err != nil && !(errors.As(err, &f) && f.code == exitNotAll) {
		return err
	}
	return compare(c, cfg, l)
}

// compare prints the report and holds it against what the lab knows that it built.
func compare(c *cli.Context, cfg *config, l *lab.Lab) error {
	store, err := openStore(c, cfg)
	if err != nil {
		return err
	}
	defer store.Close()
	st, err := store.Status(c.Context, "")
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.Writer)
	if err := writeReport(c.App.Writer, "text", st, store.Results(c.Context, st.Run.ID, "")); err != nil {
		return err
	}
	right, by, err := judge(c.App.Writer, l, store.Results(c.Context, st.Run.ID, ""))
	if err != nil {
		return err
	}
	left := l.Leftovers()
	for _, line := range left {
		fmt.Fprintf(c.App.Writer, "not put back: %s\n", line)
	}
	fmt.Fprintf(c.App.Writer, "\nby way: %s\n", by)
	hosts := len(l.Hosts())
	fmt.Fprintf(c.App.Writer, "%d of %d hosts ended as the lab knows they should; nothing left in any controller: %t\n", right, hosts, len(left) == 0)
	if right < hosts || len(left) > 0 {
		return exitWith(exitNotAll)
	}
	return nil
}

// judge holds results against what the lab knows and prints those that differ. It returns how
// many do not, and how many hosts came back by each way, in words.
func judge(w io.Writer, l *lab.Lab, results iter.Seq2[engine.Result, error]) (right int, by string, err error) {
	truth, ways := l.Truth(), l.Ways()
	count := map[string]int{}
	for r, err := range results {
		if err != nil {
			return 0, "", err
		}
		switch way := ways[r.Host]; {
		case r.Verdict != truth[r.Host]:
			fmt.Fprintf(w, "%s is %s and should be %s\n", r.Host, r.Verdict, truth[r.Host])
		case way != "" && way != r.Route:
			fmt.Fprintf(w, "%s is %s by %s and should be so by %s\n", r.Host, r.Verdict, r.Route, way)
		default:
			right++
		}
		switch {
		case r.Verdict == remediate.Healthy && ways[r.Host] == "":
			count["up by itself"]++
		case r.Verdict.Done():
			count[fmt.Sprintf("%s by %s", r.Verdict, r.Route)]++
		}
	}
	parts := []string{}
	for _, what := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%d %s", count[what], what))
	}
	return right, strings.Join(parts, ", "), nil
}
