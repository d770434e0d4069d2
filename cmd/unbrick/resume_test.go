package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"unbrick/remediate/lab"
)

// TestKilled kills the program with SIGKILL again and again, wherever it happens to be, and
// gives the same command until it ends by itself: every host ends as it should, none was
// started with the rescue image twice, and nothing is left in any BMC.
func TestKilled(t *testing.T) {
	l := startTestLab(t, lab.Options{Hosts: 12})
	kills := 0
	for {
		s := unbrick(t, runOn(l)...)
		done := s.start(t)
		if kills < 6 {
			waitForActions(l, 4, done) // something happens in every life
			s.Process.Kill()
			kills++
		}
		<-done
		if s.ProcessState.Exited() {
			if code := s.ProcessState.ExitCode(); code != exitNotAll {
				t.Fatalf("exit code %d after %d kills:\n%s", code, kills, s.stderr.String())
			}
			break
		}
	}
	checkVerdicts(t, l)
	for host, n := range rescues(t, l) {
		if n > 1 {
			t.Errorf("%s was started with the rescue image %d times", host, n)
		}
	}
	for _, left := range l.Leftovers() {
		if !strings.Contains(left, "sessions") { // a process that is killed cannot log out
			t.Errorf("not put back: %s", left)
		}
	}
}

// TestInterrupted sends SIGINT once: what is under way ends, exit code 4, and the same command
// goes on.
func TestInterrupted(t *testing.T) {
	l := startTestLab(t, lab.Options{Hosts: 20, Plain: true})
	limitHosts(t, l, 3)
	s := unbrick(t, runOn(l)...)
	done := s.start(t)
	waitForActions(l, 6, done)
	s.Process.Signal(syscall.SIGINT)
	<-done
	if code := s.ProcessState.ExitCode(); code != exitInterrupted {
		t.Fatalf("exit code %d, want %d:\n%s", code, exitInterrupted, s.stderr.String())
	}
	for _, left := range l.Leftovers() {
		if strings.Contains(left, "sessions") {
			t.Errorf("a stage was not let end: %s", left)
		}
	}
	limitHosts(t, l, 32)
	again := unbrick(t, runOn(l)...)
	if code := again.run(t); code != exitDone {
		t.Fatalf("exit code %d, want 0:\n%s", code, again.stderr.String())
	}
	checkVerdicts(t, l)
}

// limitHosts writes into the lab's configuration how many hosts are treated at once.
func limitHosts(t *testing.T, l *lab.Lab, n int) {
	t.Helper()
	name := filepath.Join(l.Dir, "unbrick.yaml")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "limits:") {
			line = fmt.Sprintf("limits: {hosts: %d, per_site: 12}\n", n)
		}
		lines = append(lines, line)
	}
	if err := os.WriteFile(name, []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
}

// checkVerdicts compares the report with what the lab knows.
func checkVerdicts(t *testing.T, l *lab.Lab) {
	t.Helper()
	s := unbrick(t, "report", "--format", "json", "--state", filepath.Join(l.Dir, "unbrick.db"))
	if code := s.run(t); code != exitDone {
		t.Fatalf("report: exit code %d: %s", code, s.stderr.String())
	}
	var report []reportLine
	if err := json.Unmarshal(s.stdout.Bytes(), &report); err != nil {
		t.Fatalf("the report is not JSON: %v", err)
	}
	truth := l.Truth()
	if len(report) != len(truth) {
		t.Errorf("the report has %d hosts, the lab %d", len(report), len(truth))
	}
	for _, r := range report {
		if r.Verdict != truth[r.Host] {
			t.Errorf("%s is %s and should be %s: %s", r.Host, r.Verdict, truth[r.Host], r.Reason)
		}
	}
}

// waitForActions returns when the hosts have seen n actions of a BMC more than now, or done
// is closed.
func waitForActions(l *lab.Lab, n int, done <-chan struct{}) {
	want := len(bmcActions(l)) + n
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(bmcActions(l)) < want {
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// bmcActions returns what the BMCs were made to do, without what hosts did by themselves.
func bmcActions(l *lab.Lab) (actions []lab.Action) {
	for _, a := range allActions(l) {
		switch a.Action {
		case "power", "insert", "eject", "override":
			actions = append(actions, a)
		}
	}
	return actions
}

func rescues(t *testing.T, l *lab.Lab) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, a := range allActions(l) {
		if a.Action == "rescue image" {
			n[a.Host]++
		}
	}
	if len(n) == 0 {
		t.Fatal("no host booted the rescue image")
	}
	return n
}

func allActions(l *lab.Lab) (actions []lab.Action) {
	f, err := os.Open(filepath.Join(l.Dir, "actions.jsonl"))
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var a lab.Action
		if json.Unmarshal(lines.Bytes(), &a) == nil {
			actions = append(actions, a)
		}
	}
	return actions
}
