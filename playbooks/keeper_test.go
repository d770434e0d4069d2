package playbooks_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"unbrick/playbooks"
)

func fileOf(path, content string) playbooks.File {
	sum := sha256.Sum256([]byte(content))
	return playbooks.File{Path: path, Size: int64(len(content)), ModTime: bad, SHA256: hex.EncodeToString(sum[:]), Faulty: true, Why: "x"}
}

// lines returns the files of the index.
func lines(t *testing.T, dir string) []playbooks.File {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "index.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var files []playbooks.File
	for line := range strings.Lines(string(b)) {
		var f playbooks.File
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Logf("%q: %v", line, err)
			continue
		}
		files = append(files, f)
	}
	return files
}

func TestDirKeeper(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "quarantine", "host")
	k, err := playbooks.NewDirKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, twin, b := fileOf("Windows/a.sys", "one"), fileOf("Windows.old/a.sys", "one"), fileOf("b.sys", "two")
	for _, f := range []playbooks.File{a, twin, b, a, twin} {
		content := map[string]string{a.SHA256: "one", b.SHA256: "two"}[f.SHA256]
		if err := k.Keep(f, strings.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if got := lines(t, dir); len(got) != 3 || got[0] != a || got[1] != twin || got[2] != b {
		t.Errorf("%+v", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 { // two contents and the index
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, a.SHA256)); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// What does not match what was announced is not kept, and leaves nothing behind.
func TestDirKeeperRefuses(t *testing.T) {
	dir := t.TempDir()
	k, err := playbooks.NewDirKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := fileOf("a.sys", "one")
	escape := f
	escape.SHA256 = "../../a"
	for _, c := range []struct {
		f       playbooks.File
		content string
	}{{f, "on"}, {f, "onee"}, {f, "eno"}, {f, ""}, {escape, "one"}, {playbooks.File{Path: "a.sys"}, ""}} {
		if err := k.Keep(c.f, strings.NewReader(c.content)); err == nil {
			t.Errorf("%q was kept as %+v", c.content, c.f)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "index.jsonl"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := k.Keep(f, strings.NewReader("one")); err == nil {
		t.Error("a file was kept without a line in the index")
	}
}

// A line that a crash cut off spoils no other.
func TestDirKeeperTornLine(t *testing.T) {
	dir := t.TempDir()
	k, err := playbooks.NewDirKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := fileOf("a.sys", "one")
	if err := os.WriteFile(filepath.Join(dir, "index.jsonl"), []byte(`{"path":"a.s`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Keep(f, strings.NewReader("one")); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, dir); len(got) != 1 || got[0] != f {
		t.Errorf("%+v", got)
	}
}

func TestDirKeeperConcurrent(t *testing.T) {
	dir := t.TempDir()
	k, err := playbooks.NewDirKeeper(dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, path := range []string{"a", "b", "c", "d"} {
		wg.Go(func() {
			if err := k.Keep(fileOf(path, "same"), strings.NewReader("same")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := lines(t, dir); len(got) != 4 {
		t.Errorf("%+v", got)
	}
}
