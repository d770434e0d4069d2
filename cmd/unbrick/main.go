// Command unbrick brings a fleet of Windows hosts that no longer boot back to work, the sites
// that open first, first.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := withoutCore(); err != nil {
		fmt.Fprintf(os.Stderr, "unbrick: a crash may leave a core file: %v\n", err)
	}
	os.Exit(execute(os.Args, os.Stdout, os.Stderr))
}
