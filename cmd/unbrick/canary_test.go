package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/remediate/lab"
	"unbrick/remediate/lab/testenv"
)

// TestNoCore: the program may not leave a core file, however it ends.
func TestNoCore(t *testing.T) {
	testenv.Need(t, "/proc/self/limits")
	l := startTestLab(t, lab.Options{Hosts: 3, Plain: true})
	s := unbrick(t, runOn(l)...)
	done := s.start(t)
	waitForActions(l, 2, done)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^Max core file size +0 +0 `).Match(limits) {
		t.Errorf("a core file may be written:\n%s", limits)
	}
	s.Process.Kill() // the run itself is what other tests are about
	<-done
}

// TestNoSecretGetsOut does a whole run with the log at its loudest, then every command that
// reads, and looks for each recovery key and for the passwords of controllers and of Windows in all that
// was written or printed.
func TestNoSecretGetsOut(t *testing.T) {
	l := startTestLab(t, lab.Options{Hosts: 24})
	state := filepath.Join(l.Dir, "unbrick.db")
	config := filepath.Join(l.Dir, "unbrick.yaml")
	said := map[string]string{}
	temp := filepath.Join(l.Dir, "temp") // temporary files are looked into as well
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"doctor", "-c", config},
		runOn(l, "--json", "--log", filepath.Join(l.Dir, "debug.log")),
		{"report", "--state", state},
		{"report", "--state", state, "--format", "json"},
		{"status", "--state", state, "--json"},
		{"keys", "check", "-c", config, "--json"},
		{"keys", "rotate", "-c", config, "--soak", "0s", "--json"},
		{"keys", "audit", "-c", config},
	} {
		s := unbrick(t, args...)
		s.Env = append(s.Env, "TMPDIR="+temp)
		watched := commandLines(s.start(t))
		said["the process list during "+args[0]] = <-watched
		said[strings.Join(args, " ")] = s.stdout.String() + s.stderr.String()
	}
	bySource := map[string]bool{}
	err := filepath.WalkDir(l.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch filepath.Base(name) {
		case "keys.csv", "bmc-password", "windows-password":
			return nil // where they are meant to be
		}
		b, err := os.ReadFile(name)
		said[name], bySource[filepath.Base(name)] = string(b), true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, must := range []string{"debug.log", "unbrick.db", "unbrick.ledger", "actions.jsonl"} {
		if !bySource[must] {
			t.Errorf("%s was not written: nothing was looked for in it", must)
		}
	}
	keys := labKeys(t, l)
	if !strings.Contains(said[filepath.Join(l.Dir, "unbrick.ledger")], "repair") {
		t.Error("no key was released: there was nothing to get out")
	}
	// Any six digits of a key count as a leak, and parts of a second have nine at random.
	clock := regexp.MustCompile(`:\d\d\.\d{1,9}(Z|[+-]\d\d:\d\d)"`)
	for where, text := range said {
		text = clock.ReplaceAllString(text, `"`)
		for _, k := range keys {
			if keytest.Leaks(k, text) {
				t.Errorf("a recovery key is in %s", where)
			}
		}
		if strings.Contains(text, "lab-only") {
			t.Errorf("a password of the lab is in %s", where)
		}
	}
}

// commandLines returns, once done is closed, the command lines of this program's processes and
// of all that they start, as seen until then; nothing where the system does not show them.
func commandLines(done <-chan struct{}) <-chan string {
	all := make(chan string, 1)
	go func() {
		seen := map[string]bool{}
		for {
			names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, name := range names {
				b, _ := os.ReadFile(name)
				env, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "environ"))
				if strings.Contains(string(env), asProgram) { // children inherit it
					seen[string(b)] = true
				}
			}
			select {
			case <-done:
				all <- strings.Join(slices.Collect(maps.Keys(seen)), "\n")
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	return all
}

func labKeys(t *testing.T, l *lab.Lab) (keys []bitlocker.Key) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.Dir, "keys.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Split(strings.TrimSpace(line), ",")
		if k, err := bitlocker.ParseKey(fields[len(fields)-1]); err == nil {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		t.Fatal("the lab has no keys")
	}
	return keys
}
