// Package testenv says what a test needs from the machine it runs on.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// Need skips the test, by name, on a machine that lacks one of the programs or files (a name
// with a slash is a path). Where UNBRICK_CI is set nothing may be skipped: the test fails.
func Need(t testing.TB, things ...string) {
	t.Helper()
	for _, thing := range things {
		if _, err := exec.LookPath(thing); err == nil {
			continue
		}
		if _, err := os.Stat(thing); err == nil {
			continue
		}
		Missing(t, thing)
	}
}

// Missing skips the test for want of thing, or fails it where UNBRICK_CI is set.
func Missing(t testing.TB, thing string) {
	t.Helper()
	if os.Getenv("UNBRICK_CI") != "" {
		t.Fatalf("this machine lacks %s, and no test may be skipped here: .ci/test installs it", thing)
	}
	t.Skipf("needs %s", thing)
}
