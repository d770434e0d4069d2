package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the options of a command before its arguments, because the library takes
// every word after the first argument as another argument, without an error: "fix HOST
// --dry-run" would then not be dry. What follows "--" stays as it is.
func flagsFirst(app *cli.App, args []string) ([]string, error) {
	if len(args) < 2 {
		return args, nil
	}
	done, rest := []string{args[0]}, args[1:]
	flags, list := app.Flags, app.Commands
	for len(rest) > 0 {
		c := command(list, rest[0])
		if c == nil {
			break
		}
		done, rest = append(done, rest[0]), rest[1:]
		flags, list = c.Flags, c.Subcommands
	}
	var options, words []string
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		if word == "--" {
			words = append(words, rest...)
			break
		}
		if len(word) < 2 || word[0] != '-' {
			words = append(words, word)
			continue
		}
		options = append(options, word)
		name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
		if !joined && takesValue(flags, name) {
			if len(rest) == 0 {
				return nil, usage("see "+strings.Join(done, " ")+" --help", "option %s needs a value", word)
			}
			options, rest = append(options, rest[0]), rest[1:]
		}
	}
	if len(words) > 0 {
		words = append([]string{"--"}, words...)
	}
	return append(append(done, options...), words...), nil
}

func command(list []*cli.Command, name string) *cli.Command {
	for _, c := range list {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func takesValue(flags []cli.Flag, name string) bool {
	for _, f := range flags {
		for _, n := range f.Names() {
			if n != name {
				continue
			}
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
