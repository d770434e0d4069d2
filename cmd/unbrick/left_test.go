package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/lab"
)

// A run that was killed in the middle says what is not put back and which command does it, wherever
// it is asked; that command does.
func TestLeftInTheMiddle(t *testing.T) {
	l := startTestLab(t, lab.Options{Hosts: 8, Plain: true})
	s := unbrick(t, runOn(l)...)
	done := s.start(t)
	waitForActions(l, 4, done)
	s.Process.Kill()
	<-done
	state := filepath.Join(l.Dir, "unbrick.db")
	says := func(code int, want string, args ...string) string {
		t.Helper()
		c := unbrick(t, args...)
		got := c.run(t)
		out := c.stdout.String() + c.stderr.String()
		if got != code || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", args, got, code, want, out)
		}
		return out
	}
	out := says(exitDone, "and no process is at work on them: the run's command, given again, cd ", "status", "--state", state)
	if !strings.Contains(out, "no process is at work on it\n") || !strings.Contains(out, "&& unbrick run ") {
		t.Errorf("%s", out)
	}
	out = says(exitDone, `"command": "unbrick run `, "status", "--state", state, "--json")
	var st struct {
		Left struct {
			Hosts int `json:"hosts"`
		} `json:"left"`
	}
	if err := json.Unmarshal([]byte(out), &st); err != nil || st.Left.Hosts == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	inside := says(exitDone, `"host":`, "report", "--state", state, "--format", "json")
	var hosts []reportLine
	if err := json.Unmarshal([]byte(inside), &hosts); err != nil {
		t.Fatal(err)
	}
	for _, h := range hosts {
		if h.Verdict != "" || h.Started == nil {
			continue
		}
		says(exitUsage, "no process is at work on the run", "fix", h.Host, "-c", filepath.Join(l.Dir, "unbrick.yaml"))
		says(exitInterrupted, "and no process is at work on them", "cancel", h.Host, "--state", state)
		says(exitUsage, "puts it back", "fix", h.Host, "-c", filepath.Join(l.Dir, "unbrick.yaml"))
		break
	}
	out = says(exitInterrupted, `"command": "unbrick run `, "cancel", "--all", "--state", state, "--json")
	if !strings.Contains(out, `"hosts": `) {
		t.Errorf("%s", out)
	}
	says(exitNotAll, "see unbrick report", runOn(l)...)
	for _, left := range l.Leftovers() {
		if !strings.Contains(left, "sessions") { // a process that is killed cannot log out
			t.Errorf("not put back: %s", left)
		}
	}
	if out := says(exitDone, "8 hosts", "status", "--state", state); strings.Contains(out, "no process") {
		t.Errorf("%s", out)
	}
}
