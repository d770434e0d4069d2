package engine

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A state of the first version is brought up to this one, and its run goes on.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "unbrick.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := openSQLite(path, 0, "journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join("testdata", "schema1.sql"))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{string(old), `INSERT INTO unbrick (version) VALUES (1)`,
		`INSERT INTO runs (id, playbook, source, playbook_digest, fleet_digest, options, state, started) VALUES ('r', 'test', '', '', 'f', '{}', 'running', 1)`,
		`INSERT INTO sites (run, site, todo, fixed) VALUES ('r', '', 1, 1)`,
		`INSERT INTO hosts (run, host, site, grp, due, ord, data) VALUES ('r', 'h', '', '', 0, 0,
			'{"name":"h","tier":"normal","routes":[{"driver":"redfish","address":"10.0.0.1"}]}')`,
		`INSERT INTO hosts (run, host, site, grp, due, ord, data, state, verdict) VALUES ('r', 'i', '', '', 0, 1,
			'{"name":"i","tier":"normal"}', 'done', 'fixed')`,
		`INSERT INTO audit (run, host, attempt, step, route, stage, outcome, reason, started, ended) VALUES ('r', 'i', 1, 1, 'redfish', 'check', 'ok', '', 1, 2)`} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	y := newYard()
	for range 2 { // the second time there is nothing to bring up
		s := openTest(t, path)
		if sum := runs(t, y.engine(s, "redfish")); !sum.Done() || sum.Hosts != 2 || len(y.calls) != 4 {
			t.Errorf("%+v, %s", sum, y.calls)
		}
		if h := result(t, s, "i"); len(h.Attempts) != 1 || h.Attempts[0].Route != "redfish" {
			t.Errorf("%+v", h)
		}
		s.Close()
	}
	indexes := ""
	s := openTest(t, path)
	if err := s.db().QueryRowContext(context.Background(), `SELECT group_concat(name) FROM sqlite_master WHERE type = 'index'`).Scan(&indexes); err != nil ||
		strings.Contains(indexes, "hosts_todo") || !strings.Contains(indexes, "hosts_next") {
		t.Error(indexes, err)
	}
}
