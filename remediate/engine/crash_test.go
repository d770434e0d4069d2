package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/remediate"
)

// A child process of the tests is this test binary with these set.
const (
	childState = "UNBRICK_TEST_STATE" // data source name of the state
	childWorld = "UNBRICK_TEST_WORLD" // URL of the world
	childPoint = "UNBRICK_TEST_POINT" // "when stage", where it kills itself; empty: nowhere
	childName  = "UNBRICK_TEST_NAME"  // of the executor
	childHosts = "UNBRICK_TEST_HOSTS" // how many at once
	childRung  = "UNBRICK_TEST_RUNG"  // how many at once by the first way, of all processes
	childLine  = "UNBRICK_TEST_LINE"  // its command, as it is written down
	childWatch = "UNBRICK_TEST_WATCH" // not empty: it looks after fixed hosts, and kills itself when the first comes to the point
)

func TestMain(m *testing.M) {
	if os.Getenv(childState) == "" {
		os.Exit(m.Run())
	}
	if err := child(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child works on the run until it ends, or kills this process when every host has come to the
// point or has its verdict.
func child() error {
	ctx := context.Background()
	s, err := Open(ctx, os.Getenv(childState), nil)
	if err != nil {
		return err
	}
	st, err := s.Status(ctx, "")
	if err != nil {
		return err
	}
	e := testEngine(s, os.Getenv(childWorld))
	e.Command.Line = os.Getenv(childLine)
	e.Executor, e.Lease = os.Getenv(childName), 2*time.Second
	e.Limits.Hosts, _ = strconv.Atoi(os.Getenv(childHosts))
	if n, err := strconv.Atoi(os.Getenv(childRung)); err == nil {
		e.Ladder = remediate.Ladder{{Way: "first", Hosts: n}}
	}
	if point := os.Getenv(childPoint); point != "" {
		k := &killer{point: point, left: st.Todo + st.Running}
		e.at, e.Events = k.at, k.event
		if os.Getenv(childWatch) != "" {
			k.left, e.Events = 1, nil
		}
	}
	if os.Getenv(childWatch) != "" {
		watched(&e)
	}
	_, err = New(e).Run(ctx)
	return err
}

type killer struct {
	point string
	mu    sync.Mutex
	left  int // hosts that neither are at the point nor have a verdict
}

func (k *killer) at(when, _ string, s remediate.Stage) {
	if strings.TrimSpace(when+" "+string(s)) == k.point {
		k.one()
		select {}
	}
}

func (k *killer) event(e Event) {
	if e.Verdict != "" {
		k.one()
	}
}

func (k *killer) one() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left == 0 {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			self.Kill()
		}
		select {}
	}
}

// startChild starts a process that works on the state.
func startChild(t testing.TB, state, world, point, name string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childState+"="+state, childWorld+"="+world, childPoint+"="+point, childName+"="+name)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = &strings.Builder{}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

// template makes a state with every fault, on which DBOS has made its tables already.
func template(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "template.db")
	s := openTest(t, path)
	e := testEngine(s, "")
	e.Sites = []string{"nowhere"}
	begin(t, s, names(faults())...)
	if _, err := New(e).Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func crashState(t testing.TB, template []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unbrick.db")
	if err := os.WriteFile(path, template, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// finish gives the command again, and checks that everything is as if it had never been killed.
func finish(t *testing.T, path string, w *world, url string) {
	t.Helper()
	s := openTest(t, path)
	settle(t, testEngine(s, url))
	got := verdicts(t, s)
	same(t, got, faults())
	w.check(t, got)
	st, err := s.Status(context.Background(), "")
	if err != nil || st.Todo != 0 || st.Running != 0 || st.Run.State != "ended" {
		t.Errorf("status %+v, %v", st.Count, err)
	}
	for v, n := range st.Verdicts {
		for _, have := range got {
			if have == v {
				n--
			}
		}
		if n != 0 {
			t.Errorf("the counters say %d more hosts %s than there are", n, v)
		}
	}
}

// settle does the run until no host waits any more.
func settle(t testing.TB, e Engine) Summary {
	t.Helper()
	for {
		if sum := runs(t, e); speak(t, e.Store) == 0 {
			return sum
		}
	}
}

// speak has the person say of every host that waits that it is done, or cannot be.
func speak(t testing.TB, s *Store) (n int) {
	t.Helper()
	for r, err := range s.Results(context.Background(), "", "waiting") {
		if err != nil {
			t.Fatal(err)
		}
		if r.Verdict != remediate.Waiting || r.Reason != "a technician" {
			t.Errorf("%s waits: %q %q", r.Host, r.Verdict, r.Reason)
		}
		what := remediate.Done
		if strings.HasPrefix(r.Host, "person ") {
			what = remediate.GaveUp
		}
		if err := s.Wake(context.Background(), "", r.Host, remediate.Note{By: "kim", What: what}); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// points are all the moments at which a process can end that make a difference.
func points() []string {
	var all []string
	for _, s := range remediate.Stages() {
		for _, when := range []string{"before", "effect", "after", "recorded"} {
			all = append(all, when+" "+string(s))
		}
	}
	return append(all, "ended", "parked", "handed over")
}

// Killed at any step of any host, with whatever fault, the run ends as if it had not been.
func TestKilledAtEveryStep(t *testing.T) {
	state := template(t)
	for _, point := range points() {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			killed(t, state, point)
		})
	}
}

// So it does when it is killed at one step and then, taken up again, at another.
func TestKilledTwice(t *testing.T) {
	state := template(t)
	for _, pair := range [][]string{
		{"effect enter", "effect leave"}, {"after check", "effect enter"}, {"effect repair", "before leave"},
		{"effect leave", "after confirm"}, {"effect enter", "effect enter"}, {"recorded repair", "ended"},
	} {
		t.Run(strings.Join(pair, ", "), func(t *testing.T) {
			t.Parallel()
			killed(t, state, pair...)
		})
	}
}

func killed(t *testing.T, state []byte, points ...string) {
	w := newWorld(t, names(faults())...)
	url := w.serve(t)
	path := crashState(t, state)
	for _, point := range points {
		cmd := startChild(t, path, url, point, "")
		cmd.Wait()
		if got := cmd.ProcessState.String(); got != "signal: killed" {
			t.Fatalf("at %q the child ended with %s: %s", point, got, cmd.Stderr)
		}
		if out := cmd.Stderr.(*strings.Builder).String(); out != "" {
			t.Errorf("DBOS spoke to the user: %s", out)
		}
	}
	finish(t, path, w, url)
}

// Killed at any moment, again and again, the run ends as if it had not been.
func TestKilledAtRandom(t *testing.T) {
	state := template(t)
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, names(faults())...)
			url := w.serve(t)
			path := crashState(t, state)
			for range 5 {
				cmd := startChild(t, path, url, "", "")
				time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond) // the moment is what is tried
				cmd.Process.Kill()
				cmd.Wait()
			}
			finish(t, path, w, url)
		})
	}
}

// watched makes an engine look after hosts that it fixed.
func watched(e *Engine) { e.Watch, e.Look, e.Attempts = time.Hour, 10*time.Millisecond, 2 }

// Killed when a fixed host goes down again, before or after that is written down, and then at a
// step of its second treatment, the run treats it once more, and counts the relapse once.
func TestKilledAtRelapse(t *testing.T) {
	for _, points := range [][]string{
		{"reopen"}, {"reopened"}, {"reopen", "reopened"}, {"reopen", "effect enter"}, {"reopened", "effect check"},
		{"reopened", "recorded repair"}, {"reopened", "effect leave"}, {"reopened", "effect confirm"}, {"reopened", "ended"},
	} {
		t.Run(strings.Join(points, ", "), func(t *testing.T) {
			t.Parallel()
			path, s, w, url := setup(t, "none#1", "none#2")
			for i, point := range points {
				cmd := startChild(t, path, url, point, "", childWatch+"=yes")
				if i == 0 {
					eventually(t, "both are fixed", func() bool {
						st, err := s.Status(context.Background(), "")
						return err == nil && st.Verdicts[remediate.Fixed] == 2
					})
					w.relapse("none#1")
				}
				cmd.Wait()
				if got := cmd.ProcessState.String(); got != "signal: killed" {
					t.Fatalf("at %q the child ended with %s: %s", point, got, cmd.Stderr)
				}
			}
			e := testEngine(s, url)
			watched(&e)
			r := start(t, path, e)
			eventually(t, "it is fixed once more", func() bool {
				var climb string
				err := r.other.db().QueryRow(`SELECT climb FROM hosts WHERE host = 'none#1' AND verdict = 'fixed'`).Scan(&climb)
				return err == nil && strings.Contains(climb, `"relapses":1`)
			})
			r.Stop()
			r.end()
			var rows, harm int
			err := s.db().QueryRow(`SELECT (SELECT COUNT(*) FROM audit WHERE reason LIKE '%down again%'),
				(SELECT COUNT(*) FROM outcomes WHERE result = 'harm')`).Scan(&rows, &harm)
			if err != nil || rows != 1 || harm != 1 {
				t.Errorf("%d relapses in the audit, %d outcomes, %v", rows, harm, err)
			}
			got := verdicts(t, s)
			same(t, got, map[string]remediate.Verdict{"none#1": remediate.Fixed, "none#2": remediate.Fixed})
			w.check(t, got)
			if st, err := s.Status(context.Background(), ""); err != nil || st.Verdicts[remediate.Fixed] != 2 || st.OnTime != 2 || st.Todo+st.Running != 0 {
				t.Errorf("%+v, %v", st.Count, err)
			}
		})
	}
}

// So it does with a host that a person repaired: somebody is sent again, and the old word does not
// count.
func TestKilledAtRelapseByHand(t *testing.T) {
	ctx := context.Background()
	for _, points := range [][]string{{"reopen"}, {"reopened"}, {"reopen", "reopened"}, {"reopened", "parked"}, {"reopened", "effect repair"}} {
		t.Run(strings.Join(points, ", "), func(t *testing.T) {
			t.Parallel()
			path, s, w, url := setup(t, "repair waits#1")
			if sum := settle(t, testEngine(s, url)); !sum.Done() {
				t.Fatalf("%+v", sum)
			}
			if _, err := s.db().Exec(`UPDATE runs SET state = 'running', ended = 0`); err != nil { // as one that looks after it
				t.Fatal(err)
			}
			w.relapse("repair waits#1")
			for _, point := range points {
				cmd := startChild(t, path, url, point, "", childWatch+"=yes")
				cmd.Wait()
				if got := cmd.ProcessState.String(); got != "signal: killed" {
					t.Fatalf("at %q the child ended with %s: %s", point, got, cmd.Stderr)
				}
			}
			e := testEngine(s, url)
			watched(&e)
			r := start(t, path, e)
			eventually(t, "it waits again", func() bool {
				return result(t, r.other, "repair waits#1").State == "waiting"
			})
			r.Stop()
			r.end()
			if h := result(t, s, "repair waits#1"); h.Evidence != "" || h.Report.Agent != "" || len(h.Report.Volumes) > 0 {
				t.Errorf("what is left of the treatment before: %+v", h)
			}
			if sum := settle(t, testEngine(s, url)); !sum.Done() || sum.OnTime != 1 {
				t.Errorf("%+v", sum)
			}
			w.check(t, verdicts(t, s))
			if err := s.Wake(ctx, "", "repair waits#1", remediate.Note{By: "kim", What: remediate.Done}); err == nil {
				t.Error("it has not ended")
			}
		})
	}
}
