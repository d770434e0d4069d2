//go:build unix

package main

import "golang.org/x/sys/unix"

// withoutCore sees to it that a crash leaves no image of the memory, which may hold keys.
func withoutCore() error {
	return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
}
