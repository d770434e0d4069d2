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
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "unbrick-agent", version, "repairs a host that booted the rescue image; it does nothing elsewhere.\nunbrick image build puts it into one.")
		os.Exit(2)
	}
	linux.Boot(version)
}
