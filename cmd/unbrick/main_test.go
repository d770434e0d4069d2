package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"unbrick/remediate/lab"
)

// asProgram makes the test binary be unbrick itself.
const asProgram = "UNBRICK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	if dir := os.Getenv(asBareLoop); dir != "" {
		os.Exit(explain(os.Stderr, bareLoop(dir)))
	}
	testscript.Main(m, map[string]func(){"unbrick": main})
}

// TestScript tells sessions, each from its start to its end, as a user would type them.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"await": await, "drawings": drawings, "assets": assets},
	})
}

// await waits, in a script, until a file is there: what runs in the background has come so
// far.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	for range 3000 {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	ts.Fatalf("%s does not come", args[0])
}

// startTestLab starts a lab for a test, whose pace is fast.
func startTestLab(t testing.TB, o lab.Options) *lab.Lab {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Pace == 0 {
		o.Pace = 20 * time.Millisecond
	}
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A session is unbrick in a process of its own.
type session struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
}

func unbrick(t testing.TB, args ...string) *session {
	t.Helper()
	s := &session{Cmd: exec.CommandContext(t.Context(), os.Args[0], args...)}
	s.Env = append(os.Environ(), asProgram+"=1")
	s.Stdout, s.Stderr = &s.stdout, &s.stderr
	return s
}

// start begins the session and returns a channel that is closed at its end.
func (s *session) start(t testing.TB) <-chan struct{} {
	t.Helper()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		s.Wait()
		close(done)
	}()
	return done
}

// run starts the session and returns its exit code at its end.
func (s *session) run(t testing.TB) int {
	t.Helper()
	if err := s.Run(); err != nil && s.ProcessState == nil {
		t.Fatal(err)
	}
	return s.ProcessState.ExitCode()
}

// runOn gives the arguments of a run on the lab's fleet.
func runOn(l *lab.Lab, more ...string) []string {
	return append([]string{"run", "-c", filepath.Join(l.Dir, "unbrick.yaml")}, more...)
}
