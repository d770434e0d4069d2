// Command unbrick-agent is the fixer: in WinPE the program that startnet.cmd starts.
package main

import (
	"flag"
	"fmt"
	"os"

	"unbrick/remediate/rescue/agent/windows"
)

// version is set when an image is built.
var version = "dev"

func main() {
	stay := windows.Usual()
	f := flag.NewFlagSet("unbrick-agent winpe", flag.ExitOnError)
	f.DurationVar(&stay.Disks, "disks", stay.Disks, "how long disks may take to appear")
	f.StringVar(&stay.End, "end", stay.End, "what becomes of the host afterwards: wait (to be powered off, then reboot), reboot or poweroff")
	f.DurationVar(&stay.Wait, "wait", stay.Wait, "how long to wait to be powered off")
	f.DurationVar(&stay.Limit, "limit", stay.Limit, "how long the whole stay may take before the host reboots")
	if len(os.Args) < 2 || os.Args[1] != "winpe" {
		fmt.Fprintln(os.Stderr, "unbrick-agent", version, "repairs a host that booted WinPE from an image of unbrick; it does nothing elsewhere.\nunbrick image winpe puts it into one.")
		os.Exit(2)
	}
	f.Parse(os.Args[2:])
	if err := stay.Check(); err != nil {
		fmt.Fprintln(os.Stderr, "unbrick-agent:", err)
		os.Exit(2)
	}
	if err := windows.Boot(version, stay); err != nil {
		fmt.Fprintln(os.Stderr, "unbrick-agent:", err)
		os.Exit(1)
	}
}
