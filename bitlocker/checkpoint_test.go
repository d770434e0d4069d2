package bitlocker_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"unbrick/bitlocker"
	"unbrick/remediate/lab/testenv"
)

// checkpoints reads the file beside the ledger.
func checkpoints(t *testing.T, ledger string) []bitlocker.Checkpoint {
	t.Helper()
	b, err := os.ReadFile(bitlocker.CheckpointsName(ledger))
	if err != nil {
		t.Fatal(err)
	}
	all, err := bitlocker.ReadCheckpoints(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path)
	record(t, l, "PC1", "PC2")
	first, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Checkpoint(t.Context())
	if n, head := l.Head(); err != nil || first.Records != n || first.Head != head || again != first {
		t.Errorf("%+v, then %+v, %v", first, again, err)
	}
	record(t, l, "PC3")
	if err := l.Close(); err != nil { // signs what was written since
		t.Error(err)
	}
	all := checkpoints(t, path)
	if len(all) != 2 || all[0] != first || all[1].Records != 3 || all[1].Key != first.Key {
		t.Errorf("checkpoints %+v", all)
	}
	for _, name := range []string{path + ".key", bitlocker.CheckpointsName(path)} {
		if fi, err := os.Stat(name); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, fi.Mode(), err)
		}
	}
	l = open(t, path)
	l.Close() // wrote nothing, signs nothing
	if n := len(checkpoints(t, path)); n != 2 {
		t.Errorf("%d checkpoints, want 2", n)
	}
	a, err := bitlocker.AuditLedger(path, first.Mark(), bitlocker.Mark{Records: 3, Head: all[1].Head})
	if err != nil || a.Records != 3 || a.Head != all[1].Head || len(a.Checkpoints) != 2 {
		t.Errorf("audit %+v, %v", a, err)
	}
}

// A process that writes for days signs on its way.
func TestCheckpointEveryThousand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path)
	for i := range 1001 {
		record(t, l, fmt.Sprintf("PC%d", i))
	}
	if all := checkpoints(t, path); len(all) != 1 || all[0].Records != 1000 {
		t.Errorf("checkpoints %+v", all)
	}
}

// signed returns a ledger of four records with checkpoints at two and four, closed.
func signed(t *testing.T) (path string, lines [][]byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ledger")
	for _, hosts := range [][]string{{"PC1", "PC2"}, {"PC3", "PC4"}} {
		l := open(t, path)
		record(t, l, hosts...)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, bytes.SplitAfter(b, []byte("\n"))[:4]
}

func write(t *testing.T, name string, parts ...[]byte) {
	t.Helper()
	if err := os.WriteFile(name, bytes.Join(parts, nil), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rechain is what somebody does who knows how the ledger works: it changes a word and makes
// all hashes right again.
func rechain(lines [][]byte) (out []byte) {
	prev := strings.Repeat("0", 64)
	for i, line := range lines {
		body := string(line[:bytes.LastIndex(line, []byte(`,"hash":`))])
		if i == 0 {
			body = strings.Replace(body, "PC1", "PC9", 1)
		}
		at := strings.Index(body, `"prev":"`) + len(`"prev":"`)
		body = body[:at] + prev + body[at+64:]
		h := sha256.Sum256([]byte(body))
		prev = hex.EncodeToString(h[:])
		out = fmt.Appendf(out, "%s,\"hash\":\"%s\"}\n", body, prev)
	}
	return out
}

func TestAuditNoticesWhatWasDone(t *testing.T) {
	const cut = "the ledger has 3 records and a checkpoint saw 4: its tail was cut off"
	for _, test := range []struct {
		name string
		do   func(t *testing.T, path string, lines [][]byte)
		mark bool // the last checkpoint was kept elsewhere
		err  string
	}{
		{"nothing", func(*testing.T, string, [][]byte) {}, true, ""},
		{"the tail cut off", func(t *testing.T, path string, lines [][]byte) { write(t, path, lines[:3]...) }, false, cut},
		{"the tail cut off and the checkpoints removed", func(t *testing.T, path string, lines [][]byte) {
			write(t, path, lines[:3]...)
			os.Remove(bitlocker.CheckpointsName(path))
		}, true, cut},
		{"that, and nobody kept a checkpoint", func(t *testing.T, path string, lines [][]byte) {
			write(t, path, lines[:3]...)
			os.Remove(bitlocker.CheckpointsName(path))
		}, false, ""}, // what it cannot notice
		{"written anew", func(t *testing.T, path string, lines [][]byte) { write(t, path, rechain(lines)) }, false,
			"line 2 of the ledger is not the one that checkpoint 2:"},
		{"written anew, checkpoints removed", func(t *testing.T, path string, lines [][]byte) {
			write(t, path, rechain(lines))
			os.Remove(bitlocker.CheckpointsName(path))
		}, true, "line 4 of the ledger is not the one that checkpoint 4:"},
		{"a word changed", func(t *testing.T, path string, lines [][]byte) {
			write(t, path, lines[0], bytes.Replace(lines[1], []byte("PC2"), []byte("PC9"), 1), lines[2], lines[3])
		}, false, "line 2 of the ledger was changed"},
		{"half a checkpoint, as after a crash", func(t *testing.T, path string, _ [][]byte) {
			f, _ := os.OpenFile(bitlocker.CheckpointsName(path), os.O_APPEND|os.O_WRONLY, 0)
			fmt.Fprint(f, `{"records":5,"he`)
			f.Close()
		}, true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			path, lines := signed(t)
			var marks []bitlocker.Mark
			if test.mark {
				marks = append(marks, checkpoints(t, path)[1].Mark())
			}
			test.do(t, path, lines)
			_, err := bitlocker.AuditLedger(path, marks...)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), test.err)) {
				t.Errorf("error %v\n want %s", err, test.err)
			}
		})
	}
}

func TestChangedCheckpointsAreNoticed(t *testing.T) {
	path, _ := signed(t)
	other, _ := signed(t)
	b, _ := os.ReadFile(bitlocker.CheckpointsName(path))
	lines := bytes.SplitAfter(b, []byte("\n"))
	foreign, _ := os.ReadFile(bitlocker.CheckpointsName(other))
	for name, test := range map[string]struct {
		text []byte
		err  string
	}{
		"fewer records":  {bytes.Replace(b, []byte(`"records":4`), []byte(`"records":3`), 1), "line 2 of the checkpoints was changed"},
		"another time":   {bytes.Replace(b, []byte(`"time":"2`), []byte(`"time":"1`), 1), "line 1 of the checkpoints was changed"},
		"exchanged":      {append(bytes.Clone(lines[1]), lines[0]...), "line 2 of the checkpoints has 2 records, fewer than the 4 before"},
		"another's":      {append(bytes.Clone(lines[0]), foreign...), "line 2 of the checkpoints is signed by another key"},
		"something else": {[]byte("{}\n"), "line 1 of the checkpoints is not a checkpoint"},
		"more behind it": {bytes.Replace(b, []byte("}\n"), []byte("} {}\n"), 1), "line 1 of the checkpoints is not a checkpoint"},
		"not JSON":       {[]byte("hello\n"), "line 1 of the checkpoints is not a checkpoint"},
		"one more field": {bytes.Replace(b, []byte(`{"records"`), []byte(`{"note":"x","records"`), 1), "line 1 of the checkpoints is not a checkpoint"},
	} {
		if _, err := bitlocker.ReadCheckpoints(bytes.NewReader(test.text)); err == nil || !strings.HasPrefix(err.Error(), test.err) {
			t.Errorf("%s: error %v\n want %s", name, err, test.err)
		}
	}
}

// The law: with any byte changed, the checkpoints are refused or say the same.
func FuzzReadCheckpoints(f *testing.F) {
	path := filepath.Join(f.TempDir(), "ledger")
	for range 2 {
		l, err := bitlocker.OpenLedger(path)
		if err != nil {
			f.Fatal(err)
		}
		if err := errors.Join(l.Record(f.Context(), release("PC1")), l.Close()); err != nil {
			f.Fatal(err)
		}
	}
	whole, err := os.ReadFile(bitlocker.CheckpointsName(path))
	if err != nil {
		f.Fatal(err)
	}
	want, err := bitlocker.ReadCheckpoints(bytes.NewReader(whole))
	if err != nil || len(want) != 2 {
		f.Fatal(len(want), err)
	}
	for i, b := range []byte("\n 9\"{}Aa\x00") {
		f.Add(uint(i*37), b)
	}
	f.Fuzz(func(t *testing.T, at uint, b byte) {
		text := bytes.Clone(whole)
		text[at%uint(len(text))] = b
		got, err := bitlocker.ReadCheckpoints(bytes.NewReader(text))
		if err != nil {
			return
		}
		for i, c := range got { // a line end that was changed leaves one the fewer
			if c.Records != want[i].Records || c.Head != want[i].Head || !c.Time.Equal(want[i].Time) {
				t.Errorf("byte %d changed to %q: %+v", at, b, c)
			}
		}
	})
}

// A ledger that has lost records takes no more, so no key leaves, and what is left stays as it is.
func TestLedgerCutBehindItsCheckpointIsRefused(t *testing.T) {
	const cut = "the ledger has %d records and a checkpoint saw 4: its tail was cut off"
	for _, test := range []struct {
		name string
		keep func(lines [][]byte) []byte
		err  string
	}{
		{"one line left", func(l [][]byte) []byte { return l[0] }, fmt.Sprintf(cut, 1)},
		{"nothing left", func([][]byte) []byte { return nil }, fmt.Sprintf(cut, 0)},
		{"cut within a line, as a crash does", func(l [][]byte) []byte { return bytes.Join([][]byte{l[0], l[1], l[2], l[3][:40]}, nil) }, fmt.Sprintf(cut, 3)},
		{"written anew", rechain, "line 4 of the ledger is not the one that checkpoint 4:"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path, lines := signed(t)
			left := test.keep(lines)
			write(t, path, left)
			if _, err := bitlocker.OpenLedger(path); err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v\n want %s", err, test.err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, left) {
				t.Errorf("the evidence was changed (%v)", err)
			}
		})
	}
}

func TestSignKeyThatCannotBeTrusted(t *testing.T) {
	if runtime.GOOS == "windows" {
		testenv.Missing(t, "file modes")
	}
	for name, test := range map[string]struct {
		do  func(key string) error
		err string
	}{
		"others may read it": {func(k string) error { return os.Chmod(k, 0o644) }, "others may read"},
		"it is gone":         {os.Remove, "no such file"},
		"it is no key":       {func(k string) error { return os.WriteFile(k, []byte("x"), 0o600) }, "not a key in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := signed(t)
			if err := test.do(path + ".key"); err != nil {
				t.Fatal(err)
			}
			l := open(t, path)
			record(t, l, "PC5") // a release that is on record is not held up
			if _, err := l.Checkpoint(t.Context()); err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %s", err, test.err)
			}
		})
	}
}

// The law: whatever is a mark reads back as itself.
func FuzzParseMark(f *testing.F) {
	for _, s := range []string{"4:9f86d081884c7d65", " 12:9F86D081884C7D659A2F\n", "", ":", "4:9f86", "-1:9f86d081884c7d65", "4:9f86d081884c7d6g"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := bitlocker.ParseMark(s)
		if err != nil {
			return
		}
		if back, err := bitlocker.ParseMark(m.String()); err != nil || back != m || len(m.Head) < 16 || m.Records < 0 {
			t.Errorf("%q is %+v, and that %+v, %v", s, m, back, err)
		}
	})
}

func TestRecordIf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, path)
	record(t, l, "PC1") // to a program: none of a person's business
	no := errors.New("no")
	person := release("PC2")
	person.Actor, person.Person, person.Reason = "alice", true, "INC1"
	if err := l.RecordIf(t.Context(), bitlocker.Event{Release: &person}, func([]bitlocker.Event) error { return no }); err != no {
		t.Errorf("error %v", err)
	}
	asked := bitlocker.Request{Actor: "alice", Keys: []bitlocker.Query{person.Query}, Nonce: "1"}
	for i, e := range []bitlocker.Event{{Asked: &asked}, {Approved: &bitlocker.Approval{Request: asked.Hash(), Actor: "bob"}}, {Release: &person}} {
		err := l.RecordIf(t.Context(), e, func(past []bitlocker.Event) error {
			if len(past) != i {
				t.Errorf("before record %d there were %d", i, len(past))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	past, err := open(t, path).Past(t.Context()) // read from the file, it is the same
	if err != nil || len(past) != 3 || past[0].Asked.Hash() != asked.Hash() || past[1].Approved.Actor != "bob" || past[2].Seq != 4 || past[2].Reason != "INC1" {
		text, _ := json.Marshal(past)
		t.Errorf("past %s, %v", text, err)
	}
}
