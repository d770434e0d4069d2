package engine

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"

	"unbrick/remediate"
)

func openTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func begin(t testing.TB, s *Store, hosts ...string) Run {
	t.Helper()
	r, err := s.Begin(context.Background(), Run{Playbook: "test", Source: []byte("x"), FleetDigest: "f"}, testHosts(hosts...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func verdicts(t testing.TB, s *Store) map[string]remediate.Verdict {
	t.Helper()
	all := map[string]remediate.Verdict{}
	for r, err := range s.Results(context.Background(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all[r.Host] = r.Verdict
		t.Logf("%-20s %-12s %-7s attempts %d %q %q", r.Host, r.Verdict, r.Route, len(r.Attempts), r.Reason, r.Evidence)
	}
	return all
}

func same(t testing.TB, got, want map[string]remediate.Verdict) {
	t.Helper()
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s ended %q, want %q", name, got[name], v)
		}
	}
}

// Every fault of a machine leads to the verdict that the state table says.
func TestVerdicts(t *testing.T) {
	want := faults()
	w := newWorld(t, names(want)...)
	s := openTest(t, filepath.Join(t.TempDir(), "unbrick.db"))
	begin(t, s, names(want)...)
	e := testEngine(s, w.serve(t))
	if sum := runs(t, e); sum.Verdicts[remediate.Waiting] != 5 || !sum.Ended.IsZero() || sum.Done() {
		t.Errorf("while hosts wait: %+v", sum)
	}
	if n := speak(t, s); n != 5 {
		t.Errorf("%d hosts wait", n)
	}
	sum := runs(t, e)
	got := verdicts(t, s)
	same(t, got, want)
	w.check(t, got)
	if sum.Hosts != len(want) || sum.Verdicts[remediate.Fixed] != 9 || sum.Ended.IsZero() || sum.Done() {
		t.Errorf("summary %+v", sum)
	}
}
