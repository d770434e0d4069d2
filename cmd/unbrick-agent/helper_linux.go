package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"

	"unbrick/remediate/rescue/agent/linux"
)

// helper serves disks that are hung on this machine, or does what goes before: "enrol" and
// "check". It returns the exit code.
func helper(args []string) int {
	what := ""
	if len(args) > 0 && (args[0] == "enrol" || args[0] == "check") {
		what, args = args[0], args[1:]
	}
	f := flag.NewFlagSet("unbrick-agent helper "+what, flag.ExitOnError)
	config := f.String("config", "/etc/unbrick-helper.json", "what unbrick image helper --config-out wrote, or helper enrol; keep it from others")
	mounts, server, id := new(string), linux.HelperFile{}, new(string)
	if what == "" {
		f.StringVar(mounts, "mounts", "/run/unbrick", "where volumes are mounted")
	} else {
		f.StringVar(&server.URL, "url", "", "of the rescue server")
		f.StringVar(&server.Pin, "pin", "", "SHA-256 of its public key")
	}
	if what == "enrol" {
		f.StringVar(id, "id", "", "of the enrolment; its token is the first line on standard input")
	}
	f.Parse(args)
	server.Name = *config
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var err error
	switch ctx := context.Background(); what {
	case "enrol":
		err = server.Enrol(ctx, version, *id, os.Stdin, log)
	case "check":
		err = server.Check(ctx, version, log)
	default:
		err = linux.ServeHelper(version, *config, *mounts, log)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "unbrick-agent:", err)
		return 1
	}
	return 0
}
