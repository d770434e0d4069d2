//go:build unix

package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/lab/testenv/ports"
	"unbrick/remediate/schedule"
)

// A cluster is a PostgreSQL server of a test, on loopback.
type cluster struct {
	bin, data string
	port      int
	as        *syscall.Credential
	server    *exec.Cmd
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		testenv.Need(t, "/usr/lib/postgresql/15/bin/initdb")
	}
	slices.Sort(found)
	c := &cluster{bin: filepath.Dir(found[len(found)-1]), data: filepath.Join(t.TempDir(), "data")}
	if err := os.Mkdir(c.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // which PostgreSQL refuses to be
		c.dropRoot(t)
	}
	if out, err := c.command("initdb", "-D", c.data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	c.port = ports.ForTest(t, ports.TCP).Number
	c.start(t)
	t.Cleanup(func() { c.stop(syscall.SIGQUIT) })
	return c
}

func (c *cluster) dropRoot(t *testing.T) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		testenv.Missing(t, "the user postgres")
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	c.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	if err := os.Chown(c.data, uid, gid); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(c.data); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Setpgid: true}
	cmd.Dir = "/"
	return cmd
}

func (c *cluster) start(t testing.TB) {
	t.Helper()
	c.server = c.command("postgres", "-D", c.data, "-p", fmt.Sprint(c.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "max_connections=200")
	c.server.Stderr = io.Discard
	if err := c.server.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "PostgreSQL", func() bool {
		return exec.Command(filepath.Join(c.bin, "pg_isready"), "-q", "-h", "127.0.0.1", "-p", fmt.Sprint(c.port)).Run() == nil
	})
}

// stop ends the server: SIGQUIT is a crash.
func (c *cluster) stop(s syscall.Signal) {
	c.server.Process.Signal(s)
	c.server.Wait()
}

// database makes an empty database.
func (c *cluster) database(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(c.bin, "createdb"), "-h", "127.0.0.1", "-p", fmt.Sprint(c.port), "-U", "postgres", name).CombinedOutput()
	if err != nil {
		t.Fatalf("createdb: %v\n%s", err, out)
	}
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable&idle_in_transaction_session_timeout=1000", c.port, name)
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	for name, test := range map[string]func(*testing.T, *cluster, string){
		"verdicts": postgresVerdicts, "share": postgresShare, "rings": postgresRings, "services": postgresServices, "refresh": postgresRefresh, "takeover": postgresTakeOver,
		"claims": postgresClaims, "one name": postgresOneName, "killed": postgresKilled, "silent": postgresSilent("jump-b"), "silent, one name": postgresSilent("jump-a"),
	} {
		dsn := c.database(t, strings.NewReplacer(" ", "", ",", "").Replace(name))
		t.Run(name, func(t *testing.T) { test(t, c, dsn) })
	}
	t.Run("crash", func(t *testing.T) { postgresCrash(t, c, c.database(t, "crash")) })
}

// postgresRings treats hosts in rings and in the order of the plan, with one way that is halted.
func postgresRings(t *testing.T, _ *cluster, dsn string) {
	ctx := context.Background()
	s := openTest(t, dsn)
	_, err := s.Begin(ctx, Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		for i := range 40 {
			p := yardHost(i, fmt.Sprintf("h%02d@%s", i, []string{"SYD", "MEL"}[i%2]))
			p.Model = []string{"A", "B"}[i%2]
			if i < 2 {
				p.Host.Tier = inventory.Dependency
			}
			if !yield(p) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	var does []string
	for i := 1; i < 40; i += 2 {
		does = append(does, fmt.Sprintf("repair redfish h%02d: fails", i))
	}
	y := newYard(does...)
	e := y.engine(s, "redfish")
	e.Baselines, e.Plan, e.Replan, e.Limits.PerSite = map[string]float64{}, planOf(e), 10*time.Millisecond, 10
	sum := runs(t, e)
	if sum.Verdicts[remediate.Fixed] != 20 || sum.Verdicts[remediate.Failed] != 3 || len(sum.Halts) == 0 || !strings.Contains(sum.Halted, "redfish on B: all of the first 3 failed") {
		t.Errorf("%+v", sum)
	}
	if _, err := s.ResumeHalted(ctx, "", "kim"); err != nil {
		t.Fatal(err)
	}
	if halts, err := s.Halts(ctx, ""); err != nil || len(halts) != 0 {
		t.Errorf("%+v, %v", halts, err)
	}
	if err := s.Pin(ctx, "", "MEL", Pin{Until: time.Now().Add(time.Hour), By: "kim", Anyway: true}); err != nil {
		t.Fatal(err)
	}
	y.does = nil
	if sum := runs(t, e); sum.Verdicts[remediate.Fixed] != 37 || sum.Ended.IsZero() {
		t.Errorf("%+v", sum)
	}
}

// postgresClaims has two processes treat hosts that others claim meanwhile, at a site that may switch
// on so many a minute, with their commands written down.
func postgresClaims(t *testing.T, _ *cluster, dsn string) {
	ctx := context.Background()
	s, other := openTest(t, dsn), openTest(t, dsn)
	_, err := s.Begin(ctx, Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		for i, name := range []string{"h@SYD", "i@SYD", "j@SYD"} {
			if !yield(yardHost(i, name)) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	mine, err := other.Claim(ctx, inventory.Host{Name: "H"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var held *HeldError
	if _, err := s.Claim(ctx, inventory.Host{Name: "h"}, time.Hour); !errors.As(err, &held) || held.By == nil {
		t.Errorf("%v", err)
	}
	if err := mine.renew(ctx); err != nil {
		t.Error(err)
	}
	began := time.Now()
	var both []*running
	for _, name := range []string{"jump-a", "jump-b"} {
		e := newYard().engine(s, "redfish")
		e.Executor, e.Limits.PowerPerMinute, e.Command.Line = name, 600, "unbrick run --as "+name
		both = append(both, start(t, dsn, e))
	}
	eventually(t, "all but one are fixed", func() bool {
		st, err := s.Status(ctx, "")
		return err == nil && st.Verdicts[remediate.Fixed] == 2 && st.Todo == 1 && st.Workers == 2 && len(st.Fixes) == 1 && st.Left == nil
	})
	mine.Release()
	for _, r := range both {
		if sum, err := r.end(); err != nil || !sum.Done() {
			t.Errorf("%+v, %v", sum, err)
		}
	}
	if d := time.Since(began); d < 500*time.Millisecond {
		t.Errorf("six times power within %s", d)
	}
	if all, err := s.Commands(ctx, result(t, s, "h").Inventory.Name); err != nil || len(all) != 0 {
		t.Errorf("commands of no run: %+v, %v", all, err)
	}
	r, _ := s.Run(ctx, "")
	if all, err := s.Commands(ctx, r.ID); err != nil || len(all) != 2 || all[1].Line != "unbrick run --as jump-b" {
		t.Errorf("%+v, %v", all, err)
	}
}

// postgresServices holds a host for a service whose treatment takes too long, by a way with a rate.
func postgresServices(t *testing.T, _ *cluster, dsn string) {
	ctx := context.Background()
	s := openTest(t, dsn)
	_, err := s.Begin(ctx, Run{FleetDigest: "f"}, func(yield func(Planned) bool) {
		for i, name := range []string{"pc@MEL", "ad@SYD"} {
			p := yardHost(i, name)
			if i == 1 {
				p.Host.Labels = map[string]string{"service": "ad"}
			}
			if !yield(p) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	y := newYard()
	y.hold, y.entered = make(chan struct{}), make(chan string, 10)
	e := y.engine(s, "redfish")
	e.Baselines, e.PerHour, e.Plan, e.Limits.PerTechnician = map[string]float64{}, map[string]int{"redfish": 3_600_000}, planOf(e), 1
	e.Ladder[0].Stop = remediate.Stop{Failures: 5}
	e.Plan.Rates = schedule.NewRates()
	e.Plan.Rates.Assume("redfish", schedule.Assumption{Minutes: 0.001})
	r := start(t, dsn, e)
	if host := <-y.entered; host != "ad" {
		t.Errorf("%s comes first", host)
	}
	inFlight(t, r.other, 1)
	eventually(t, "it takes too long", func() bool {
		n := 0
		err := r.other.db().QueryRow(`SELECT COUNT(*) FROM outcomes WHERE result = 'bad'`).Scan(&n)
		return err == nil && n == 1
	})
	if st, err := r.other.Status(ctx, ""); err != nil || st.Service == nil || st.Service.Name != "identity" {
		t.Errorf("%+v, %v", st.Service, err)
	}
	close(y.hold)
	if sum, err := r.end(); err != nil || !sum.Done() {
		t.Errorf("%+v, %v", sum, err)
	}
}

func postgresVerdicts(t *testing.T, _ *cluster, dsn string) {
	all := names(faults())
	w := newWorld(t, all...)
	s := openTest(t, dsn)
	begin(t, s, all...)
	if err := s.Create(context.Background(), "k", []byte("\x00v")); err != nil {
		t.Fatal(err)
	}
	settle(t, testEngine(s, w.serve(t)))
	got := verdicts(t, s)
	same(t, got, faults())
	w.check(t, got)
}

// Two processes share a run and its limits, and no host is treated by both.
func postgresShare(t *testing.T, _ *cluster, dsn string) {
	var hosts []string
	for i := range 40 {
		hosts = append(hosts, fmt.Sprintf("none#%d", i))
	}
	w := newWorld(t, hosts...)
	url := w.serve(t)
	s := openTest(t, dsn)
	begin(t, s, hosts...)
	a := startChild(t, dsn, url, "", "jump-a", childHosts+"=3", childRung+"=4")
	b := startChild(t, dsn, url, "", "jump-b", childHosts+"=3", childRung+"=4")
	if err := a.Wait(); err != nil {
		t.Error(err, a.Stderr)
	}
	if err := b.Wait(); err != nil {
		t.Error(err, b.Stderr)
	}
	w.check(t, verdicts(t, s))
	if w.most > 4 {
		t.Errorf("%d by one way at once, limit 4", w.most)
	}
	for _, h := range hosts {
		if n := w.calls["enter "+h]; n != 1 {
			t.Errorf("%s was entered %d times", h, n)
		}
	}
	for _, name := range []string{"jump-a", "jump-b"} {
		var n int
		if err := s.db().QueryRow(`SELECT COUNT(*) FROM hosts WHERE executor = $1 AND verdict = 'fixed'`, name).Scan(&n); err != nil || n == 0 {
			t.Errorf("%s did %d hosts, %v", name, n, err)
		}
	}
}

// A process that is killed loses its hosts to another one, which goes on where they were.
func postgresTakeOver(t *testing.T, _ *cluster, dsn string) {
	var hosts []string
	for i := range 8 {
		hosts = append(hosts, fmt.Sprintf("held#%d", i))
	}
	w := newWorld(t, hosts...)
	url := w.serve(t)
	s := openTest(t, dsn)
	begin(t, s, hosts...)
	a := startChild(t, dsn, url, "", "jump-a", childHosts+"=4")
	b := startChild(t, dsn, url, "", "jump-b", childHosts+"=4")
	eventually(t, "all in repair", func() bool { return w.count("repair") == len(hosts) })
	a.Process.Kill()
	a.Wait()
	close(w.hold)
	if err := b.Wait(); err != nil {
		t.Error(err, b.Stderr)
	}
	got := verdicts(t, s)
	w.check(t, got)
	for _, h := range hosts {
		if n := w.calls["enter "+h]; n != 1 || got[h] != remediate.Fixed {
			t.Errorf("%s ended %q and was entered %d times", h, got[h], n)
		}
	}
}

// A process that was silent for longer than its lease does nothing more when it wakes up,
// whether another one has its hosts by now or one that took its name.
func postgresSilent(name string) func(*testing.T, *cluster, string) {
	return func(t *testing.T, _ *cluster, dsn string) {
		w := newWorld(t, "held#1", "held#2")
		url := w.serve(t)
		s := openTest(t, dsn)
		begin(t, s, "held#1", "held#2")
		a := startChild(t, dsn, url, "", "jump-a")
		eventually(t, "repair", func() bool { return w.count("repair") == 2 })
		a.Process.Signal(syscall.SIGSTOP)
		eventually(t, "end of the lease", func() (over bool) {
			err := s.db().QueryRow(`SELECT COUNT(*) = 0 FROM workers WHERE lease > EXTRACT(EPOCH FROM clock_timestamp()) * 1000`).Scan(&over)
			return err == nil && over
		})
		b := startChild(t, dsn, url, "", name)
		eventually(t, "takeover", func() bool { return w.count("repair") == 4 })
		for _, m := range w.machines {
			close(m.free) // a could go on, were it for the repair
		}
		a.Process.Signal(syscall.SIGCONT)
		a.Wait()
		if out := a.Stderr.(*strings.Builder).String(); a.ProcessState.ExitCode() != 1 || !strings.Contains(out, "another process took over") {
			t.Errorf("%s: %s", a.ProcessState, out)
		}
		if w.count("leave") > 0 {
			t.Error("it went on")
		}
		close(w.hold)
		if err := b.Wait(); err != nil {
			t.Error(err, b.Stderr)
		}
		w.check(t, verdicts(t, s))
		if n, m := w.count("enter"), w.count("leave"); n != 2 || m != 2 {
			t.Errorf("entered %d times, left %d times", n, m)
		}
	}
}

func (w *world) count(op string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for call, k := range w.calls {
		if strings.HasPrefix(call, op+" ") {
			n += k
		}
	}
	return n
}

// Two processes never work under one name.
func postgresOneName(t *testing.T, _ *cluster, dsn string) {
	w := newWorld(t, "held#1")
	url := w.serve(t)
	s := openTest(t, dsn)
	begin(t, s, "held#1")
	a := startChild(t, dsn, url, "", "jump-a")
	eventually(t, "repair", func() bool { return w.count("repair") == 1 })
	b := startChild(t, dsn, url, "", "jump-a")
	b.Wait()
	if out := b.Stderr.(*strings.Builder).String(); b.ProcessState.ExitCode() != 1 || !strings.Contains(out, "as jump-a (pid "+fmt.Sprint(a.Process.Pid)) {
		t.Errorf("%s: %s", b.ProcessState, out)
	}
	close(w.hold)
	if err := a.Wait(); err != nil {
		t.Error(err, a.Stderr)
	}
	w.check(t, verdicts(t, s))
}

// A process that is killed and started again under its name goes on at once.
func postgresKilled(t *testing.T, _ *cluster, dsn string) {
	all := names(faults())
	w := newWorld(t, all...)
	url := w.serve(t)
	s := openTest(t, dsn)
	begin(t, s, all...)
	for _, point := range []string{"effect enter", "recorded repair"} {
		a := startChild(t, dsn, url, point, "jump-a")
		a.Wait()
		if got := a.ProcessState.String(); got != "signal: killed" {
			t.Fatalf("%s: %s", got, a.Stderr)
		}
	}
	for {
		a := startChild(t, dsn, url, "", "jump-a")
		if err := a.Wait(); err != nil {
			t.Fatal(err, a.Stderr)
		}
		if speak(t, s) == 0 {
			break
		}
	}
	got := verdicts(t, s)
	same(t, got, faults())
	w.check(t, got)
}

// A database that crashes and comes back costs no host its verdict.
func postgresCrash(t *testing.T, c *cluster, dsn string) {
	all := names(faults())
	for i := range 30 {
		all = append(all, fmt.Sprintf("none#%d", i))
	}
	w := newWorld(t, all...)
	s := openTest(t, dsn)
	begin(t, s, all...)
	e := testEngine(s, w.serve(t))
	e.Limits.Hosts = 10
	ended := make(chan bool, 2*len(all))
	e.Events = func(e Event) {
		if e.Verdict != "" {
			ended <- true
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		settle(t, e)
	}()
	for range 3 {
		for range 8 {
			select {
			case <-ended:
			case <-done:
			}
		}
		c.stop(syscall.SIGQUIT)
		c.start(t)
	}
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("the run did not end")
	}
	got := verdicts(t, s)
	same(t, got, faults())
	w.check(t, got)
}
