// Command unbrick-agent is the fixer: the first process of the rescue image.
package main

import (
	"fmt"
	"os"

	"unbrick/remediate/rescue/agent/linux"
)

// version is set when an image is built.
var version = "dev"

func main() {
	if os.Getpid() != 1 && len(os.Args) > 1 && os.Args[1] == "helper" {
		os.Exit(helper(os.Args[2:]))
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "unbrick-agent", version, "repairs a host that booted the rescue image, and with the word helper the disks that are hung on a helper; it does nothing elsewhere.\nunbrick image build puts it into one.")
		os.Exit(2)
	}
	linux.Boot(version)
}
