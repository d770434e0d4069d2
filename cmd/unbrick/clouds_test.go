package main

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"unbrick/remediate/lab"
)

// TestCloudsKilled kills the program with SIGKILL when instances are stopped, when volumes hang on
// helpers, when they boot the rescue image themselves, and when they start again. The same command goes on each time; in the end every
// instance is as it was, with its own volume, and every snapshot that there is has an owner.
func TestCloudsKilled(t *testing.T) {
	t.Parallel() // it waits most of the time
	l := startTestLab(t, lab.Options{Clouds: lab.Clouds()})
	config := filepath.Join(l.Dir, "unbrick.yaml")
	kills := []string{"off", "on the helper", "rescue image", "on the helper", "on"}
	for n := 0; ; n++ {
		s := unbrick(t, "run", "-c", config)
		s.Env = append(s.Env, l.Environment()...)
		done := s.start(t)
		if n < len(kills) {
			waitForPower(l, kills[n], done)
			s.Process.Kill()
		}
		<-done
		if s.ProcessState.Exited() {
			if code := s.ProcessState.ExitCode(); code != exitNotAll {
				t.Fatalf("exit code %d in life %d:\n%s", code, n+1, s.stderr.String())
			}
			break
		}
	}
	checkVerdicts(t, l)
	for _, left := range l.Leftovers() {
		t.Errorf("not put back: %s", left)
	}
	named := map[string]int{}
	for _, e := range cleanupOf(t, l, config) {
		if named[e.Way]++; e.What != "snapshot" || e.Unasked != "" {
			t.Errorf("left behind: %+v", e)
		}
	}
	for way, n := range l.Snapshots() {
		if n != named[way] {
			t.Errorf("%s has %d snapshots, and unbrick cleanup names %d", way, n, named[way])
		}
	}
}

func cleanupOf(t *testing.T, l *lab.Lab, config string) (left []leftover) {
	t.Helper()
	s := unbrick(t, "cleanup", "-c", config, "--json")
	s.Env = append(s.Env, l.Environment()...)
	if code := s.run(t); code != exitDone {
		t.Fatalf("cleanup: exit code %d: %s", code, s.stderr.String())
	}
	if err := json.Unmarshal(s.stdout.Bytes(), &left); err != nil {
		t.Fatal(err)
	}
	return left
}

// waitForPower returns when one more instance went off or on, or one more volume is worked on
// on the helper, or done is closed.
func waitForPower(l *lab.Lab, what string, done <-chan struct{}) {
	seen := func() (n int) {
		for _, a := range allActions(l) {
			if a.Action == what || a.Action == "power" && a.Detail == what {
				n++
			}
		}
		return n
	}
	before := seen()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for seen() == before {
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}
