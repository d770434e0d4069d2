package hive_test

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
	"unbrick/remediate/lab/testenv"
)

// A node is a key as hivexml prints it.
type node struct {
	Name   string `xml:"name,attr"`
	Values []struct {
		Type     string   `xml:"type,attr"`
		Key      string   `xml:"key,attr"`
		Encoding string   `xml:"encoding,attr"`
		Value    string   `xml:"value,attr"`
		Strings  []string `xml:"string"`
	} `xml:"value"`
	Nodes []node `xml:"node"`
}

// hivex returns what libhivex reads in a hive, a line per key and value.
func hivex(t testing.TB, b []byte) []string {
	t.Helper()
	testenv.Need(t, "hivexml")
	out, err := exec.Command("hivexml", file(t, b)).Output()
	if err != nil {
		t.Fatalf("hivexml: %v", err)
	}
	var top struct {
		Root node `xml:"node"`
	}
	if err := xml.Unmarshal(out, &top); err != nil {
		t.Fatal(err)
	}
	var lines []string
	var walk func(path string, n node)
	walk = func(path string, n node) {
		lines = append(lines, path)
		for _, v := range n.Values {
			text := v.Value
			if v.Encoding == "base64" {
				b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
				if err != nil {
					t.Fatal(err)
				}
				text = string(b)
			}
			lines = append(lines, fmt.Sprintf("%s = %s %q %q", path, v.Key, text, v.Strings))
		}
		for _, n := range n.Nodes {
			walk(path+`\`+n.Name, n)
		}
	}
	walk("", top.Root)
	slices.Sort(lines)
	return lines
}

func file(t testing.TB, b []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "hive")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// ours returns the same lines, as this package reads them.
func ours(t testing.TB, b []byte) []string {
	t.Helper()
	h := open(t, b)
	var lines []string
	var walk func(path string)
	walk = func(path string) {
		lines = append(lines, path)
		values, err := h.Values(strings.TrimPrefix(path, `\`))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			lines = append(lines, path+" = "+line(v))
		}
		keys, err := h.Keys(strings.TrimPrefix(path, `\`))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			walk(path + `\` + k)
		}
	}
	walk("")
	slices.Sort(lines)
	return lines
}

func line(v hive.Value) string {
	text, list := string(v.Data), []string(nil)
	switch {
	case v.Type == hive.DWord && len(v.Data) == 4:
		text = fmt.Sprint(int32(binary.LittleEndian.Uint32(v.Data)))
	case v.Type == hive.QWord && len(v.Data) == 8:
		text = fmt.Sprint(int64(v.Number()))
	case v.Type == hive.String || v.Type == hive.ExpandString:
		text = v.Text()
	case v.Type == hive.MultiString:
		text, list = "", strings.Split(strings.TrimRight(utf16Text(v.Data), "\x00"), "\x00")
	}
	return fmt.Sprintf("%s %q %q", v.Name, text, list)
}

func utf16Text(b []byte) string {
	var units []uint16
	for pair := range slices.Chunk(b[:len(b)/2*2], 2) {
		units = append(units, binary.LittleEndian.Uint16(pair))
	}
	return string(utf16.Decode(units))
}

// What is read is what libhivex reads: of a hive that Windows made, and of built ones.
func TestAsHivex(t *testing.T) {
	for name, b := range map[string][]byte{"windows": real(t), "sample": sample(), "system": hivetest.System(map[string]uint32{"a": 1, "b": 4}),
		"bcd": hivetest.BCD(hivetest.Loader)} {
		t.Run(name, func(t *testing.T) {
			theirs, mine := hivex(t, b), ours(t, b)
			if len(mine) < 5 || !reflect.DeepEqual(theirs, mine) {
				for i := range min(len(mine), len(theirs)) {
					if mine[i] != theirs[i] {
						t.Fatalf("line %d of %d, %d: ours\n%.300s\ntheirs\n%.300s", i, len(mine), len(theirs), mine[i], theirs[i])
					}
				}
				t.Fatalf("%d lines and %d of theirs", len(mine), len(theirs))
			}
		})
	}
}

// What was written, others read, and nothing else has changed.
func TestEditAsHivex(t *testing.T) {
	for name, b := range map[string][]byte{"windows": real(t), "sample": sample()} {
		t.Run(name, func(t *testing.T) {
			path, value := "Alpha", "Path"
			if name == "windows" {
				path, value = `Control Panel\Desktop`, "Wallpaper"
			}
			before := hivex(t, b)
			e, err := open(t, b).Edit(now)
			if err != nil {
				t.Fatal(err)
			}
			is := `D:\a longer path than the one that was there\` + strings.Repeat("x", 100)
			if err := e.Set(path, value, hive.String, hivetest.UTF16(is+"\x00")); err != nil {
				t.Fatal(err)
			}
			next, err := e.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			after := hivex(t, next)
			if !reflect.DeepEqual(after, ours(t, next)) {
				t.Error("read in two ways")
			}
			gone, come := differ(before, after), differ(after, before)
			if len(gone) != 1 || len(come) != 1 || !strings.HasPrefix(come[0], `\`+path+" = "+value) || !strings.Contains(come[0], "longer path") {
				t.Errorf("gone %q, come %q", gone, come)
			}
		})
	}
}

// differ returns the lines of a that b does not have.
func differ(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { _, ok := slices.BinarySearch(b, s); return ok })
}

// An independent writer of hives, hivexsh, changes one that this package wrote, and the
// other way round.
func TestHivexWrites(t *testing.T) {
	testenv.Need(t, "hivexsh")
	name := file(t, sample())
	c := exec.Command("hivexsh", "-w", name)
	c.Stdin = strings.NewReader("cd \\Alpha\nadd New\ncd New\nsetval 2\nStart\ndword:4\nPath\nstring:C:\\x\ncommit\nquit\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	h := open(t, b)
	v, err := h.Get(`alpha\new`, "start")
	if err != nil || v.Number() != 4 {
		t.Fatalf("%+v, %v", v, err)
	}
	e, err := h.Edit(now)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.DeleteKey(`Alpha\New`); err != nil {
		t.Fatal(err)
	}
	next, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(hivex(t, next), hivex(t, sample())) {
		t.Error("a key that hivexsh made was not removed as if it had never been")
	}
}

// reged, of chntpw, reads what was written.
func TestReged(t *testing.T) {
	testenv.Need(t, "reged")
	e, err := open(t, hivetest.System(map[string]uint32{"acme": 0, "other": 1})).Edit(now)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Set(`ControlSet001\Services\acme`, "Start", hive.DWord, dword(4)); err != nil {
		t.Fatal(err)
	}
	if err := e.Delete(`ControlSet001\Services\acme`, "ErrorControl"); err != nil {
		t.Fatal(err)
	}
	next, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.reg")
	if said, err := exec.Command("reged", "-x", file(t, next), `P`, `ControlSet001\Services`, out).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), "\r", "")
	acme, other, _ := strings.Cut(text, `Services\other]`)
	if !strings.Contains(acme, `"Start"=dword:00000004`) || strings.Contains(acme, "ErrorControl") ||
		!strings.Contains(other, `"Start"=dword:00000001`) || !strings.Contains(other, "ErrorControl") {
		t.Errorf("reged reads %s", text)
	}
}
