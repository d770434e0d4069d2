package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate"
)

func TestRecords(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, filepath.Join(t.TempDir(), "unbrick.db"))
	if _, err := s.Load(ctx, "tls/bmc-1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of nothing: %v", err)
	}
	if err := s.Create(ctx, "tls/bmc-1", []byte{0, 1, 2}); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(ctx, "tls/bmc-1", []byte{3}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Create again: %v", err)
	}
	if b, err := s.Load(ctx, "tls/bmc-1"); string(b) != "\x00\x01\x02" || err != nil {
		t.Errorf("Load: %v, %v", b, err)
	}
}

// The state is readable by its owner alone, with all the files beside it.
func TestMode(t *testing.T) {
	path, s, _, url := setup(t, "none")
	runs(t, testEngine(s, url))
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if fi, err := os.Stat(f); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, fi.Mode(), err)
		}
	}
}

// What cannot be a state is refused with what to do about it.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "fleet.csv")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("name,redfish\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	s := openTest(t, newer)
	if _, err := s.db().Exec(`UPDATE unbrick SET version = 99`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{garbage, "file is not a database"},
		{dir, "is it a state of unbrick"},
		{filepath.Join(dir, "no", "such.db"), "--state"},
		{newer, fmt.Sprintf("newer unbrick (schema 99, this one knows %d)", schemaVersion)},
		{"postgres://nobody:hunter2@127.0.0.1:1/none?connect_timeout=1", "postgres://nobody:xxxxx@127.0.0.1:1"},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		if strings.HasPrefix(c.path, "postgres") {
			cancel() // or it would be patient
		}
		_, err := Open(ctx, c.path, nil)
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%s): %v, want %q", c.path, err, c.want)
		}
	}
}

func TestBegin(t *testing.T) {
	ctx := context.Background()
	_, s, w, url := setup(t, "none#1", "repair fails#2")
	first, err := s.Run(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	same := Run{Playbook: "test", Source: []byte("x"), FleetDigest: "f"}
	again := func(r Run) Run {
		t.Helper()
		got, err := s.Begin(ctx, r, func(func(Planned) bool) { t.Error("the hosts were read again") })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := again(same); got.ID != first.ID {
		t.Errorf("the same fleet and playbook begin run %s, not %s", got.ID, first.ID)
	}
	for _, c := range []struct{ source, fleet, want string }{
		{"x", "g", "another fleet;"}, {"y", "f", "another playbook;"}, {"y", "g", "another fleet and another playbook;"},
	} {
		_, err := s.Begin(ctx, Run{Playbook: "test", Source: []byte(c.source), FleetDigest: c.fleet}, testHosts())
		var other *OtherRunError
		if !errors.As(err, &other) || other.Have.ID != first.ID || other.Left != 2 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	sum := runs(t, testEngine(s, url))
	calls := len(w.calls)
	if got := again(same); got.ID != first.ID {
		t.Errorf("run again when it has ended, it is run %s, not %s", got.ID, first.ID)
	}
	if got := runs(t, testEngine(s, url)); len(w.calls) != calls || got.Ended != sum.Ended || got.Verdicts[remediate.Fixed] != 1 {
		t.Errorf("run again when it has ended: %+v, want %+v", got, sum)
	}
	next, err := s.Begin(ctx, Run{Playbook: "test", Source: []byte("x"), FleetDigest: "g"}, testHosts("none#3"))
	if err != nil || next.ID == first.ID {
		t.Errorf("another fleet when it has ended: %v, %v", next.ID, err)
	}
}

// A run that was not stored to the end is not there.
func TestBeginHalfway(t *testing.T) {
	ctx := context.Background()
	s := openTest(t, filepath.Join(t.TempDir(), "unbrick.db"))
	r := Run{Playbook: "test", FleetDigest: "f"}
	if _, err := s.Begin(ctx, r, testHosts("none#1", "none#2", "none#1")); err == nil || !strings.Contains(err.Error(), "two hosts have one name") {
		t.Errorf("one name twice: %v", err)
	}
	func() {
		defer func() { recover() }()
		s.Begin(ctx, r, func(yield func(Planned) bool) {
			for i := range loadChunk + 1 {
				for p := range testHosts(fmt.Sprint("none#", i)) {
					yield(p)
				}
			}
			panic("killed")
		})
	}()
	got, err := s.Begin(ctx, r, testHosts("none#1", "none#2"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Status(ctx, got.ID)
	if err != nil || st.Hosts != 2 || len(st.Sites) != 2 || len(verdicts(t, s)) != 2 {
		t.Errorf("%+v, %v", st.Count, err)
	}
}

// A disk that is full before a run begins stops it there. One that fills up during a run ends
// it; nothing is done that cannot be written down, and the run goes on when there is space.
func TestDiskFull(t *testing.T) {
	ctx := context.Background()
	all := names(faults())
	path := filepath.Join(t.TempDir(), "unbrick.db")
	s := openTest(t, path)
	grow := func(pages int) {
		var n int
		if err := s.db().QueryRow(`PRAGMA page_count`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if _, err := s.db().Exec(fmt.Sprintf(`PRAGMA max_page_count = %d`, n+pages)); err != nil {
			t.Fatal(err)
		}
	}
	grow(0)
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("none#%d", i))
	}
	if _, err := s.Begin(ctx, Run{FleetDigest: "f"}, testHosts(many...)); err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("begun on a full disk: %v", err)
	}
	grow(1000)
	begin(t, s, all...)
	w := newWorld(t, all...)
	url := w.serve(t)
	for _, pages := range []int{0, 1, 2, 3, 4} {
		e := New(testEngine(s, url))
		begun := false
		e.at = func(when, _ string, _ remediate.Stage) {
			if !begun && when == "before" { // DBOS has made its tables
				begun = true
				grow(pages)
			}
		}
		e.Limits.Hosts = 1
		_, err := e.Run(ctx)
		t.Logf("%d pages: %v", pages, err)
		if pages == 0 && (err == nil || !strings.Contains(err.Error(), "full")) {
			t.Errorf("with %d pages left the run ended with %v", pages, err)
		}
		s.Close()
		s = openTest(t, path)
	}
	settle(t, testEngine(s, url))
	got := verdicts(t, s)
	same(t, got, faults())
	w.check(t, got)
	for r, err := range s.Results(ctx, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(r.Reason, "given up") {
			t.Errorf("%s was given up because the disk was full: %s", r.Host, r.Reason)
		}
	}
}
