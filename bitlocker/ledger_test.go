package bitlocker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"unbrick/bitlocker"
	"unbrick/bitlocker/keytest"
	"unbrick/remediate/lab/testenv"
)

func open(t *testing.T, path string) *bitlocker.Ledger {
	t.Helper()
	l, err := bitlocker.OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func release(host string) bitlocker.Release {
	return bitlocker.Release{
		Query:     bitlocker.Query{ID: filing(host).ID, Host: host},
		Recipient: bitlocker.Recipient{Actor: "agent of " + host, Purpose: "repair", Run: "r1", Sealed: "SHA256:abc", Address: "10.1.2.3:4567"},
		Source:    "keyfile keys.csv",
	}
}

func record(t *testing.T, l *bitlocker.Ledger, hosts ...string) {
	t.Helper()
	for _, h := range hosts {
		if err := l.Record(t.Context(), release(h)); err != nil {
			t.Fatal(err)
		}
	}
}

// lines reads the ledger as any other program would.
func lines(t *testing.T, path string) (all []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

// verify checks the file and returns its number of records.
func verify(t *testing.T, path string) (int, string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n, head, err := bitlocker.VerifyLedger(f)
	if err != nil {
		t.Error(err)
	}
	return n, head
}

func TestLedger(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	record(t, l, "PC1", "PC2")
	l.Close()
	l = open(t, path)
	record(t, l, "PC3")

	all := lines(t, path)
	if len(all) != 3 {
		t.Fatalf("%d lines, want 3", len(all))
	}
	want := map[string]any{"seq": 3.0, "key_id": filing("PC3").ID.String(), "host": "PC3", "actor": "agent of PC3", "purpose": "repair",
		"run": "r1", "sealed": "SHA256:abc", "address": "10.1.2.3:4567", "source": "keyfile keys.csv", "prev": all[1]["hash"]}
	for k, v := range want {
		if all[2][k] != v {
			t.Errorf("%s is %v, want %v", k, all[2][k], v)
		}
	}
	if at, ok := all[2]["time"].(string); !ok || !strings.HasSuffix(at, "Z") {
		t.Errorf("time is %v, want UTC", all[2]["time"])
	}
	if all[2]["again"] != nil {
		t.Error("a first release is marked as a repetition")
	}
	n, head := verify(t, path)
	if m, h := l.Head(); n != 3 || m != 3 || h != head || head != all[2]["hash"] {
		t.Errorf("verified %d %s, the ledger says %d %s", n, head, m, h)
	}
	if fi, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600 (%v)", fi.Mode(), err)
	}
}

func TestLedgerMarksRepetitions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	record(t, l, "PC1", "PC2", "PC1")
	l.Close()
	l = open(t, path)       // a crash in between does not make it forget
	moved := release("PC1") // the same session, however its packets travel and whoever had the key
	moved.Address, moved.Source = "10.9.9.9:1", "elsewhere"
	if err := l.Record(t.Context(), moved); err != nil {
		t.Fatal(err)
	}
	other := release("PC1")
	other.Sealed = "SHA256:def" // another boot of the same host: another session
	if err := l.Record(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	var again []any
	for _, m := range lines(t, path) {
		again = append(again, m["again"])
	}
	if got, want := fmt.Sprint(again), "[<nil> <nil> 1 3 <nil>]"; got != want {
		t.Errorf("again: %s, want %s", got, want)
	}
}

func TestLedgerHoldsNoDigit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	pc1 := filing("PC1")
	b := bitlocker.Broker{Sources: []bitlocker.Source{escrow{name: "a", keys: []keytest.Filing{pc1}}}, Ledger: open(t, path)}
	if _, err := b.Release(t.Context(), bitlocker.Query{ID: pc1.ID, Host: "PC1"}, bitlocker.Recipient{Actor: "alice", Purpose: "shown to a person"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 || keytest.Leaks(pc1.Key, string(text)) {
		t.Errorf("the ledger shows the key: %v", err)
	}
}

// Whatever is done to a line, the ledger says which one it is and takes no further record.
func TestLedgerRefusesAfterTampering(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	record(t, open(t, path), "PC1", "PC2", "PC3", "PC4")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line := func(i int) []byte { return bytes.SplitAfter(whole, []byte("\n"))[i-1] }
	join := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	for _, test := range []struct {
		name string
		text []byte
		err  string
	}{
		{"a word changed", bytes.Replace(whole, []byte(`"host":"PC2"`), []byte(`"host":"PC9"`), 1), "line 2 of the ledger was changed: its hash is not that of its text"},
		{"last line changed", bytes.Replace(whole, []byte(`"host":"PC4"`), []byte(`"host":"PC9"`), 1), "line 4 of the ledger was changed: its hash is not that of its text"},
		{"a line removed", join(line(1), line(3), line(4)), "line 2 of the ledger does not follow the one before: lines were removed, added or exchanged"},
		{"first line removed", join(line(2), line(3), line(4)), "line 1 of the ledger does not follow the one before: lines were removed, added or exchanged"},
		{"lines exchanged", join(line(1), line(3), line(2), line(4)), "line 2 of the ledger does not follow the one before: lines were removed, added or exchanged"},
		{"a line twice", join(line(1), line(2), line(2), line(3)), "line 3 of the ledger does not follow the one before: lines were removed, added or exchanged"},
		{"an empty line", join(line(1), []byte("\n"), line(2)), "line 2 of the ledger is not a record"},
		{"something else", []byte("host,key_id,recovery_key\n"), "line 1 of the ledger is not a record"},
		{"zeros in the middle", join(line(1), make([]byte, 20), []byte("\n"), line(2)), "line 2 of the ledger is not a record"},
		{"a very long line", join(line(1), bytes.Repeat([]byte("x"), 1<<17), line(2)), "line 2 of the ledger is not a record: it is too long for one"},
		{"Windows line ends", bytes.ReplaceAll(whole, []byte("\n"), []byte("\r\n")), "line 1 of the ledger is not a record"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.jsonl")
			if err := os.WriteFile(path, test.text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := bitlocker.OpenLedger(path)
			var bad *bitlocker.LedgerError
			if !errors.As(err, &bad) || bad.Error() != test.err {
				t.Errorf("opened with %v\n want %s", err, test.err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, test.text) {
				t.Errorf("the evidence was changed (%v)", err)
			}
			n, _, err := bitlocker.VerifyLedger(bytes.NewReader(test.text))
			if !errors.As(err, &bad) || bad.Error() != test.err || n != bad.Line-1 {
				t.Errorf("verified %d, %v\n want %s", n, err, test.err)
			}
		})
	}
}

// A crash may stop the writing of a line after any byte.
func TestLedgerTornAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "whole.jsonl")
	l := open(t, path)
	record(t, l, "PC1")
	_, head := l.Head()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	record(t, l, "PC2")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	torn := map[string][]byte{"zeros": append(bytes.Clone(good), make([]byte, 100)...), "zeros and a line end": append(append(bytes.Clone(good), make([]byte, 100)...), "\"}\n"...)}
	for n := len(good) + 1; n < len(whole); n += 7 {
		torn[fmt.Sprint(n)] = whole[:n]
	}
	torn["all but the line end"] = whole[:len(whole)-1]
	for name, text := range torn {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.jsonl")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if n, h, err := bitlocker.VerifyLedger(bytes.NewReader(text)); n != 1 || h != head || err == nil {
				t.Errorf("before it is opened: %d records, %v; want one and an error", n, err)
			}
			l := open(t, path)
			record(t, l, "PC3")
			if n, _ := verify(t, path); n != 3 {
				t.Errorf("%d records, want the first, the note and the new one", n)
			}
			all := lines(t, path)
			if cut, _ := all[1]["cut"].(string); cut == "" || all[1]["host"] != nil || all[0]["host"] != "PC1" || all[2]["host"] != "PC3" {
				t.Errorf("records %v", all)
			}
		})
	}
}

func TestLedgerNoticesWhatIsDoneToTheFile(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		do   func(path string) error
		err  string
	}{
		{"removed", os.Remove, "the file was moved or removed while in use; put it back, or start again with a new one"},
		{"replaced", func(p string) error { return errors.Join(os.Rename(p, p+".1"), os.WriteFile(p, nil, 0o600)) },
			"the file was moved or removed while in use; put it back, or start again with a new one"},
		{"emptied", func(p string) error { return os.Truncate(p, 0) }, "the file has become shorter: records were removed from it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && test.name != "emptied" {
				testenv.Missing(t, "a system that lets an open file go")
			}
			path := filepath.Join(dir, test.name)
			l := open(t, path)
			record(t, l, "PC1")
			if err := test.do(path); err != nil {
				t.Fatal(err)
			}
			if err := l.Record(t.Context(), release("PC2")); err == nil || err.Error() != test.err {
				t.Errorf("error %v\n want %s", err, test.err)
			}
		})
	}
}

func TestLedgerCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	paths := map[string]string{"no directory": filepath.Join(dir, "none", "ledger"), "a directory": dir}
	if runtime.GOOS != "windows" {
		paths["a device"] = "/dev/null"
	}
	for name, path := range paths {
		if _, err := bitlocker.OpenLedger(path); err == nil || !strings.HasPrefix(err.Error(), "cannot open ledger") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// What could not be read again is not written.
func TestLedgerRefusesARecordTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	long := release("PC1")
	long.Purpose = strings.Repeat("why ", 20000)
	if err := l.Record(t.Context(), long); err == nil {
		t.Error("recorded")
	}
	record(t, l, "PC2")
	if n, _ := verify(t, path); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
}

// Each of these is to the others what another process would be: it has a file of its own.
func TestLedgersOfOneFile(t *testing.T) {
	const each = 20
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	var wg sync.WaitGroup
	for i := range 4 {
		l := open(t, path)
		for j := range 2 {
			wg.Go(func() {
				for k := range each {
					if err := l.Record(t.Context(), release(fmt.Sprintf("PC%d-%d-%d", i, j, k))); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if n, _ := verify(t, path); n != 4*2*each {
		t.Errorf("%d records, want %d", n, 4*2*each)
	}
}

func TestRecordEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Record(ctx, release("PC1")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if n, _ := verify(t, path); n != 0 {
		t.Error("it was recorded all the same")
	}
}

// The law: no single byte of a ledger can be changed unnoticed.
func FuzzVerifyLedger(f *testing.F) {
	path := filepath.Join(f.TempDir(), "ledger.jsonl")
	l, err := bitlocker.OpenLedger(path)
	if err != nil {
		f.Fatal(err)
	}
	for _, h := range []string{"PC1", "PC2", "PC1"} {
		if err := l.Record(context.Background(), release(h)); err != nil {
			f.Fatal(err)
		}
	}
	l.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	for i, b := range []byte("\n \x00\"0{}") {
		f.Add(uint(i*151), b)
	}
	f.Add(uint(len(whole)-1), byte('\r'))
	f.Fuzz(func(t *testing.T, at uint, b byte) {
		text := bytes.Clone(whole)
		at %= uint(len(text))
		if text[at] == b {
			return
		}
		text[at] = b
		n, _, err := bitlocker.VerifyLedger(bytes.NewReader(text))
		if err == nil || n > bytes.Count(whole[:at], []byte("\n")) {
			t.Errorf("byte %d changed to %q: %d records are good, error %v", at, b, n, err)
		}
	})
}
