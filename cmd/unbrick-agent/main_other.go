//go:build !linux

// Command unbrick-agent is the fixer: the first process of the rescue image.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "unbrick-agent runs in the Linux rescue image; the form that runs in WinPE comes in a later release.")
	os.Exit(2)
}
