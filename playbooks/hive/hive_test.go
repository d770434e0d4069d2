package hive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
	"unbrick/remediate/lab/testenv"
)

var now = time.Date(2024, 7, 19, 12, 0, 0, 0, time.UTC)

func dword(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

func sample() []byte {
	return hivetest.Build(hivetest.Key{Name: "ROOT", Keys: []hivetest.Key{
		{Name: "Alpha", Values: []hivetest.Value{
			hivetest.DWord("Start", 1), hivetest.Text("Path", `C:\Windows\acme.sys`), hivetest.DWord("", 5),
			hivetest.Bytes("Big", bytes.Repeat([]byte("0123456789abcdef"), 3000)), hivetest.Bytes("Empty", nil)}},
		{Name: "beta", Keys: []hivetest.Key{{Name: "one"}, {Name: "two"}, {Name: "three"}, {Name: "four"}, {Name: "five", Values: []hivetest.Value{hivetest.DWord("x", 1)}}, {Name: "six"}}},
	}})
}

func small() []byte {
	return hivetest.Build(hivetest.Key{Name: "ROOT", Keys: []hivetest.Key{
		{Name: "Alpha", Values: []hivetest.Value{hivetest.DWord("Start", 1), hivetest.Text("Path", "x")}}}})
}

func open(t testing.TB, b []byte) *hive.Hive {
	t.Helper()
	h, err := hive.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// real is a hive that Windows made: the profile of a user, which the library regparser ships
// for its own tests.
func real(t testing.TB) []byte {
	t.Helper()
	testenv.Need(t, "go")
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "www.velocidex.com/golang/regparser").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "testdata", "NTUSER.DAT"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGet(t *testing.T) {
	h := open(t, sample())
	for _, c := range []struct {
		path, name string
		kind       hive.Type
		data       []byte
	}{
		{"Alpha", "Start", hive.DWord, dword(1)},
		{"ALPHA", "sTART", hive.DWord, dword(1)},
		{"alpha", "", hive.DWord, dword(5)},
		{"alpha", "path", hive.String, hivetest.UTF16("C:\\Windows\\acme.sys\x00")},
		{"alpha", "big", hive.Binary, bytes.Repeat([]byte("0123456789abcdef"), 3000)},
		{"alpha", "empty", hive.Binary, []byte{}},
		{`Beta\FIVE`, "x", hive.DWord, dword(1)},
	} {
		v, err := h.Get(c.path, c.name)
		if err != nil || v.Type != c.kind || !bytes.Equal(v.Data, c.data) {
			t.Errorf("%s %s: %+v, %v", c.path, c.name, v, err)
		}
	}
	for _, c := range [][2]string{{"gamma", "x"}, {"alpha", "y"}, {`alpha\x`, "y"}, {`beta\\five`, "x"}, {"Alpha\\", "Start"}} {
		if _, err := h.Get(c[0], c[1]); !errors.Is(err, hive.ErrNotExist) {
			t.Errorf("%q: %v", c, err)
		}
	}
	names, err := h.Keys("beta")
	if err != nil || strings.Join(names, " ") != "five four one six three two" {
		t.Errorf("%q, %v", names, err)
	}
}

// A hive that Windows wrote passes the load test, and its values are read as others read them.
func TestReal(t *testing.T) {
	b := real(t)
	t.Logf("dirty %v, last write %s", hive.Dirty(b), hive.Written(b))
	h := open(t, b)
	names, err := h.Keys("")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	t.Logf("%q", names)
}

// BenchmarkOpen is the load test of a hive that Windows made.
func BenchmarkOpen(b *testing.B) {
	hiveFile := real(b)
	b.SetBytes(int64(len(hiveFile)))
	for b.Loop() {
		if _, err := hive.Open(hiveFile); err != nil {
			b.Fatal(err)
		}
	}
}
