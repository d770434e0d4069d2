package rescue_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestConversation(t *testing.T) {
	l := newLab(t, nil)
	c := l.machine.volumes[0]
	filed := l.lock(c)
	l.escrow.filed = append(l.escrow.filed, filed)
	rep, err, a := l.repair()
	if err != nil || a.err != nil {
		t.Fatalf("repair: %v, agent: %v\n%s", err, a.err, l.logs)
	}
	if l.has(bad) || !l.has(good) {
		t.Errorf("the faulty file is there: %t, the good one: %t", l.has(bad), l.has(good))
	}
	removed := rep.Result.Removed()
	if len(removed) != 1 || removed[0].Path != bad || removed[0].SHA256 == "" {
		t.Fatalf("removed: %+v", removed)
	}
	kept, err := os.ReadFile(filepath.Join(l.cfg.Dir, "quarantine", removed[0].SHA256))
	if err != nil || string(kept) != string(channel("bad")) {
		t.Errorf("quarantine: %q, %v", kept, err)
	}
	if n := len(l.ledger.releases); n != 1 || l.ledger.releases[0].ID != filed.ID || l.ledger.releases[0].Run != "r1" {
		t.Errorf("ledger: %+v", l.ledger.releases)
	}
	if len(rep.Released) != 1 || rep.Released[0] != filed.ID.String() {
		t.Errorf("released: %v", rep.Released)
	}
	again, err := l.s.Repair(t.Context(), l.target, l.pb)
	if err != nil || len(again.Result.Removed()) != 1 {
		t.Errorf("asked again: %+v, %v", again, err)
	}
}

// What one host costs the server and an agent together: image, hello, one key, one file,
// report; on disk, in memory records.
func BenchmarkConversation(b *testing.B) {
	l := newLab(b, func(l *lab) { l.cfg.Log = nil })
	for n := 0; b.Loop(); n++ {
		l.target.Attempt = n + 1
		l.machine.volumes = []*volume{{name: "C", v: windows()}}
		l.escrow.filed = append(l.escrow.filed[:0], l.lock(l.machine.volumes[0]))
		if rep, err, _ := l.repair(); err != nil || len(rep.Result.Removed()) != 1 {
			b.Fatal(rep, err)
		}
	}
}
