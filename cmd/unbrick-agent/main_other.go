//go:build !linux && !windows

// Command unbrick-agent is the fixer: the first process of the rescue image.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "unbrick-agent runs in the Linux rescue image and in WinPE.")
	os.Exit(2)
}
