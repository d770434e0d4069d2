package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// execute runs one command line and returns its exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	app := newApp(stdout, stderr)
	args, err := flagsFirst(app, args)
	if err == nil {
		err = app.RunContext(context.Background(), args)
	}
	return explain(stderr, err)
}

func newApp(stdout, stderr io.Writer) *cli.App {
	return &cli.App{
		Name:  "unbrick",
		Usage: "bring Windows hosts that no longer boot back to work, the sites that open first, first",
		Description: `A run reads the fleet, decides who is first, reaches each host by the cheapest way that works,
takes the faulty file away, puts the host back and proves that Windows is up. It may be cut off
anywhere: the same command resumes.

   unbrick demo                                try all of it on a simulated fleet
   unbrick init                                write unbrick.yaml by a few questions
   unbrick doctor -c unbrick.yaml              is all there that a run needs?
   unbrick plan -i fleet.csv                   who first, and why; nothing is touched
   unbrick run -i fleet.csv -c unbrick.yaml    do it

Exit codes: 0 every host fixed or healthy, 1 some are not, 2 usage or input, 3 halted by the
stop rule, 4 interrupted (run again to resume).`,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		HideVersion:               true,
		EnableBashCompletion:      true,
		Suggest:                   true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {}, // execute decides
		OnUsageError:              usageError,
		Action:                    noCommand,
		Commands:                  commands(),
	}
}

// commands lists every command of the program.
func commands() []*cli.Command {
	list := []*cli.Command{
		demoCommand(), labCommand(), planCommand(), runCommand(), fixCommand(),
		statusCommand(), pauseCommand(), resumeCommand(), pinCommand(), unpinCommand(), cancelCommand(), retryCommand(), doneCommand(), cleanupCommand(),
		reportCommand(), inventoryCommand(), keysCommand(), playbookCommand(), imageCommand(),
		initCommand(), doctorCommand(),
	}
	for _, c := range list {
		prepare(c)
	}
	return list
}

func prepare(c *cli.Command) {
	c.OnUsageError = usageError
	c.CustomHelpTemplate = helpTemplate
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		prepare(sub)
	}
	if len(c.Subcommands) > 0 {
		c.Action = noCommand
	}
}

// helpTemplate is the library's, with the example under its own heading.
const helpTemplate = `{{.Usage}}

USAGE:
   {{.HelpName}}{{if .VisibleCommands}} COMMAND{{end}}{{if .VisibleFlags}} [options]{{end}}{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}
{{if .Description}}
{{.Description}}
{{end}}{{if .VisibleCommands}}
COMMANDS:{{range .VisibleCommands}}
   {{.Name}}{{"\t"}}{{.Usage}}{{end}}
{{end}}{{if .VisibleFlags}}
OPTIONS:{{range .VisibleFlags}}
   {{.}}{{end}}
{{end}}`

func usageError(c *cli.Context, err error, _ bool) error {
	return usage(fmt.Sprintf("see %s --help", c.Command.HelpName), "%v", err)
}

func noCommand(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowSubcommandHelp(c)
	}
	return usage(fmt.Sprintf("see %s --help for the commands", strings.TrimSpace(c.Command.HelpName)), "no command %q", c.Args().First())
}

// arguments returns the positional arguments of a command: at least min, at most max
// (-1: any number).
func arguments(c *cli.Context, min, max int) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < min || max >= 0 && len(args) > max {
		return nil, usage(fmt.Sprintf("usage: %s %s", c.Command.HelpName, c.Command.ArgsUsage),
			"%s takes %s, not %d", c.Command.HelpName, count(min, max), len(args))
	}
	return args, nil
}

func count(min, max int) string {
	switch {
	case max < 0:
		return fmt.Sprintf("%d or more arguments", min)
	case max == 0:
		return "no arguments"
	case min == max && min == 1:
		return "one argument"
	case min == max:
		return fmt.Sprintf("%d arguments", min)
	}
	return fmt.Sprintf("%d to %d arguments", min, max)
}

// interruptible returns a context that ends at the second SIGINT or SIGTERM, and a channel
// that is closed at the first: what is begun may end, nothing new is begun.
func interruptible(parent context.Context, stderr io.Writer) (context.Context, <-chan struct{}, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	first := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		select {
		case <-signals:
			fmt.Fprintln(stderr, "stopping: no further host is begun, stages under way end; once more to stop now")
			close(first)
		case <-ctx.Done():
			return
		}
		select {
		case <-signals:
			fmt.Fprintln(stderr, "stopping now; the same command resumes")
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, first, cancel
}
