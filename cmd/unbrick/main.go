// Command unbrick brings a fleet of Windows hosts that no longer boot back to work, the sites
// that open first, first.
package main

import "os"

func main() {
	os.Exit(execute(os.Args, os.Stdout, os.Stderr))
}
