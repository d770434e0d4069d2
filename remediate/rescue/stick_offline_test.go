package rescue_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"unbrick/bitlocker/keytest"
	"unbrick/playbooks"
	"unbrick/remediate/rescue"
	"unbrick/remediate/rescue/agent"
	"unbrick/remediate/rescue/wire"
)

// A screen is a terminal whose person answers each time that the first block is asked for.
type screen struct {
	mu      sync.Mutex
	answers []string
	typed   []byte
	shown   bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Contains(b, []byte("block 1 of")) && len(s.typed) == 0 && len(s.answers) > 0 {
		s.typed, s.answers = []byte(s.answers[0]), s.answers[1:]
	}
	return s.shown.Write(b)
}

func (s *screen) Typed(ctx context.Context) (byte, error) {
	s.mu.Lock()
	if len(s.typed) > 0 {
		c := s.typed[0]
		s.typed = s.typed[1:]
		s.mu.Unlock()
		return c, nil
	}
	s.mu.Unlock()
	<-ctx.Done()
	return 0, ctx.Err()
}

// offline runs the agent of a stick on the lab's machine without a server.
func (w *walk) offline(dir string, answers ...string) (wire.Report, error, *screen) {
	s := &screen{answers: answers}
	o := quick
	o.Log = slog.New(slog.NewTextHandler(w.logs, nil))
	rep, err := agent.RunOffline(w.t.Context(), w.machine, w.cfg, o, s, agent.Folder(dir))
	return rep, err, s
}

func TestOffline(t *testing.T) {
	w := newWalk(t, nil)
	filed, wrong := w.lock(w.machine.volumes[0]), filing("pc1")
	dir := t.TempDir()
	rep, err, s := w.offline(dir, wrong.Key.Reveal()+"\r", strings.ReplaceAll(filed.Key.Reveal(), "-", "")+"\r")
	if err != nil || rep.Error != "" || w.has(bad) || !w.has(good) {
		t.Fatalf("%+v, %v\n%s", rep, err, w.logs)
	}
	if len(rep.Released) != 1 || rep.Released[0] != filed.ID.String() {
		t.Errorf("released %v", rep.Released)
	}
	if !strings.Contains(s.shown.String(), filed.ID.String()[:8]) {
		t.Errorf("the person cannot tell which card it is:\n%s", s.shown.String())
	}

	reports, err := w.s.Sticks().Read(t.Context(), dir)
	if err != nil || len(reports) != 1 {
		t.Fatalf("%d reports, %v", len(reports), err)
	}
	r := reports[0]
	result, err := r.Result()
	if err != nil || len(result.Result.Removed()) != 1 || !strings.Contains(result.Agent, "stick "+w.cfg.Stick.ID+", carried by Alice Jones") {
		t.Errorf("%+v, %v", result, err)
	}
	if r.By != "Alice Jones" || r.Identity.Serial != "B5TK1" || filepath.Base(r.File) != "B5TK1-4c4c4544.json" || len(r.Lost) != 0 || len(r.Copies) != 1 {
		t.Errorf("%+v", r)
	}
	if b, err := os.ReadFile(r.Copies[0]); err != nil || string(b) != string(channel("bad")) {
		t.Errorf("the copy is %q, %v", b, err)
	}
	for _, f := range []keytest.Filing{filed, wrong} {
		if keytest.Leaks(f.Key, s.shown.String()) || keytest.Leaks(f.Key, w.logs.String()) || keytest.Leaks(f.Key, allFiles(t, dir)) {
			t.Error("a typed key is on the console, in the log or on the stick")
		}
	}
}

// allFiles returns the names and contents of all files below dir.
func allFiles(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		all.WriteString(name)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestOfflineWithoutKey(t *testing.T) {
	w := newWalk(t, nil)
	w.lock(w.machine.volumes[0])
	dir := t.TempDir()
	rep, err, _ := w.offline(dir, "\r")
	if err != nil || rep.Result.Verdict() != playbooks.Locked || !strings.Contains(rep.Volumes[0].Error, "no key for it") || !w.has(bad) {
		t.Errorf("%+v, %v", rep, err)
	}
	reports, err := w.s.Sticks().Read(t.Context(), dir)
	if err != nil || len(reports) != 1 {
		t.Fatalf("%d reports, %v", len(reports), err)
	}
	if _, err := reports[0].Result(); err == nil || final(err) {
		t.Errorf("a volume whose key another may have: %v", err)
	}
}

// full is a stick with no room for copies.
type full struct{ agent.Folder }

func (f full) Write(name string, b []byte) error {
	if strings.HasPrefix(name, wire.StickQuarantine) {
		return errors.New("no space left on device")
	}
	return f.Folder.Write(name, b)
}

func TestOfflineKeepsACopyOrTheFile(t *testing.T) {
	w := newWalk(t, nil)
	rep, err := agent.RunOffline(t.Context(), w.machine, w.cfg, quick, &screen{}, full{agent.Folder(t.TempDir())})
	if err != nil || !w.has(bad) || len(rep.Result.Removed()) != 0 || !strings.Contains(rep.Volumes[0].Error, "no space left") {
		t.Errorf("%+v, %v", rep, err)
	}
}

// TestReadStick spoils what is on a stick.
func TestReadStick(t *testing.T) {
	w := newWalk(t, nil)
	dir := t.TempDir()
	for range 2 { // a second stay does not write over the first
		if _, err, _ := w.offline(dir); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, wire.StickReports, "B5TK1-4c4c4544.json")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	sticks := w.s.Sticks()
	if reports, err := sticks.Read(t.Context(), dir); err != nil || len(reports) != 2 {
		t.Fatalf("%d reports, %v", len(reports), err)
	}
	elsewhere, err := rescue.OpenSticks(filepath.Join(t.TempDir(), "other"), w.records)
	if err != nil {
		t.Fatal(err)
	}
	if reports, err := elsewhere.Read(t.Context(), dir); err == nil || len(reports) != 0 {
		t.Errorf("another server's key reads %d reports, %v", len(reports), err)
	}
	for what, tt := range map[string]struct {
		spoil func(string) string
		says  string
	}{
		"another host":  {func(s string) string { return strings.Replace(s, "B5TK1", "B5TK2", 1) }, "made or changed by somebody else"},
		"another stick": {func(s string) string { return strings.Replace(s, w.cfg.Stick.ID, "00000000", 1) }, "no such stick"},
		"cut off":       {func(s string) string { return s[:len(s)/2] }, "not a report"},
		"empty":         {func(string) string { return "" }, "not a report"},
		"too long":      {func(s string) string { return s + strings.Repeat(" ", 4<<20) }, "more than"},
	} {
		if err := os.WriteFile(name, []byte(tt.spoil(string(whole))), 0o600); err != nil {
			t.Fatal(err)
		}
		reports, err := sticks.Read(t.Context(), dir)
		wantErr(t, err, tt.says, name)
		if len(reports) != 1 {
			t.Errorf("%s: %d of the other reports", what, len(reports))
		}
	}
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(string(whole), "  ", "\t")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, wire.StickQuarantine)); err != nil {
		t.Fatal(err)
	}
	reports, err := sticks.Read(t.Context(), dir)
	if err != nil || len(reports) != 2 || len(reports[0].Lost)+len(reports[1].Lost) != 1 {
		t.Errorf("formatted anew, and without copies: %+v, %v", reports, err)
	}
	if _, err := sticks.Read(t.Context(), t.TempDir()); err == nil {
		t.Error("an empty folder is a stick")
	}
}
