package main

import (
	"flag"
	"fmt"
	"log/slog"
	"os"

	"unbrick/remediate/rescue/agent/linux"
)

// helper serves disks that are hung on this machine. It returns the exit code.
func helper(args []string) int {
	f := flag.NewFlagSet("unbrick-agent helper", flag.ExitOnError)
	config := f.String("config", "/etc/unbrick-helper.json", "what unbrick image helper --config wrote; keep it from others")
	mounts := f.String("mounts", "/run/unbrick", "where volumes are mounted")
	f.Parse(args)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := linux.ServeHelper(version, *config, *mounts, log); err != nil {
		fmt.Fprintln(os.Stderr, "unbrick-agent:", err)
		return 1
	}
	return 0
}
