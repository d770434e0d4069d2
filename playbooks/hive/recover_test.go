package hive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"www.velocidex.com/golang/regparser"

	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
)

// The values are of C#'s and Rust's tests of the same hash.
func TestMarvin(t *testing.T) {
	for _, c := range []struct {
		seed uint64
		in   []byte
		want uint64
	}{
		{0x004fb61a001bdbcc, nil, 0x30ed35c100cd3c7d},
		{0x004fb61a001bdbcc, []byte{0xaf}, 0x48e73fc77d75ddc1},
		{0x004fb61a001bdbcc, []byte{0xe7, 0x0f}, 0xb5f6e1fc485dbff8},
		{0x004fb61a001bdbcc, []byte{0x37, 0xf4, 0x95}, 0xf0b07c789b8cf7e8},
		{0x004fb61a001bdbcc, []byte{0x86, 0x42, 0xdc, 0x59}, 0x7008f2e87e9cf556},
		{0x004fb61a001bdbcc, []byte{0x15, 0x3f, 0xb7, 0x98, 0x26}, 0xe6c08c6da2afa997},
		{0x004fb61a001bdbcc, []byte{0xab, 0x42, 0x7e, 0xa8, 0xd1, 0x0f, 0xc7}, 0xe11847e4f0678c41},
		{0x804fb61a001bdbcc, nil, 0x10a9d5d3996fd65d},
		{0x804fb61a001bdbcc, []byte{0xaf}, 0x68201f91960ebf91},
	} {
		if got := hive.Marvin(c.seed, c.in); got != c.want {
			t.Errorf("%x: %#x, want %#x", c.in, got, c.want)
		}
	}
}

// plan sets Alpha\Start and Alpha\Path of a hive.
func plan(t testing.TB, old []byte, start uint32, log []byte, logs ...hive.Log) hive.Write {
	t.Helper()
	e, err := open(t, old).Edit(now)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(e.Set("Alpha", "Start", hive.DWord, dword(start)),
		e.Set("Alpha", "Path", hive.String, hivetest.UTF16(fmt.Sprintf("a path that needs a cell of its own %d\x00", start))))
	if err != nil {
		t.Fatal(err)
	}
	next, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w, err := hive.Plan(old, next, log, logs...)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func start(t testing.TB, b []byte) uint64 {
	t.Helper()
	v, err := open(t, b).Get("Alpha", "Start")
	if err != nil {
		t.Fatal(err)
	}
	return v.Number()
}

// oldLog is a log of the format before Windows 8.1, which tells Plan to write one.
func oldLog(t testing.TB) hive.Log {
	b := sample()[:512]
	binary.LittleEndian.PutUint32(b[28:], 1)
	hivetest.Seal(b)
	return hive.Log{Name: "LOG1", Content: b}
}

// Law: wherever a write is cut off, the hive is the old one or becomes the new one.
func TestWriteCutOff(t *testing.T) {
	for name, formats := range map[string][]hive.Log{"new format": nil, "old format": {oldLog(t)}} {
		t.Run(name, func(t *testing.T) {
			old := sample()
			stale := hive.Log{Name: "LOG2", Content: plan(t, old, 2, nil, formats...).Log}
			old = plan(t, old, 2, nil).Done
			w := plan(t, old, 3, stale.Content, formats...)
			files := [2][]byte{old, stale.Content}
			for i, next := range [][]byte{w.Log, w.Begun, w.Filled, w.Done} {
				of := &files[0]
				if i == 0 {
					of = &files[1]
				}
				was := *of
				for at := 0; at <= len(next); at += 512 {
					*of = slices.Concat(next[:at], was[min(at, len(was)):])
					check(t, fmt.Sprintf("step %d at %d", i, at), i, files[0], hive.Log{Name: "LOG1"}, hive.Log{Name: "LOG2", Content: files[1]})
				}
				*of = next
			}
			if start(t, files[0]) != 3 || hive.Dirty(files[0]) {
				t.Error("the write did not come to its end")
			}
		})
	}
}

func check(t *testing.T, where string, step int, primary []byte, logs ...hive.Log) {
	t.Helper()
	r, err := hive.Recover(primary, logs...)
	if err != nil {
		t.Fatalf("%s: %v", where, err)
	}
	if got := start(t, r.Primary); got != 3 && (step > 1 || got != 2) || hive.Dirty(r.Primary) {
		t.Fatalf("%s: Start is %d, dirty %v", where, got, hive.Dirty(r.Primary))
	}
	if hive.Dirty(primary) != (r.Entries > 0) {
		t.Fatalf("%s: %d changes were replayed", where, r.Entries)
	}
}

// crashed returns a hive whose two logs hold two changes that follow each other, as Windows
// leaves them when it switches from one to the other.
func crashed(t testing.TB) (primary []byte, want []byte, one, two hive.Log) {
	return crashedOf(t, sample())
}

func crashedOf(t testing.TB, old []byte) (primary []byte, want []byte, one, two hive.Log) {
	first := plan(t, old, 2, nil)
	// The second change counts on from the first, which was never written to the hive.
	mid := bytes.Clone(first.Done)
	le := binary.LittleEndian
	seq := le.Uint32(first.Log[4:])
	le.PutUint32(mid[4:], seq)
	le.PutUint32(mid[8:], seq)
	hivetest.Seal(mid[:512])
	second := plan(t, mid, 3, nil)
	return first.Begun, second.Done, hive.Log{Name: "LOG1", Content: first.Log}, hive.Log{Name: "LOG2", Content: second.Log}
}

func TestTwoLogs(t *testing.T) {
	primary, want, one, two := crashed(t)
	for _, logs := range [][]hive.Log{{one, two}, {two, one}} {
		r, err := hive.Recover(primary, logs...)
		if err != nil || r.Entries != 2 || len(r.Logs) != 2 || !bytes.Equal(r.Primary[4096:], want[4096:]) || hive.Dirty(r.Primary) {
			t.Errorf("%d changes of %q, %v", r.Entries, r.Logs, err)
		}
	}
	if r, err := hive.Recover(primary, one); err != nil || start(t, r.Primary) != 2 {
		t.Error(err)
	}
	// The second alone leaves a gap: what it builds on is lost.
	var lost *hive.LostError
	if _, err := hive.Recover(primary, two); !errors.As(err, &lost) || !strings.Contains(err.Error(), "begins with change 9") {
		t.Error(err)
	}
	// Without a base block the logs have a copy of it.
	broken := bytes.Clone(primary)
	clear(broken[:512])
	r, err := hive.Recover(broken, one, two)
	if err != nil || start(t, r.Primary) != 3 || !bytes.Equal(r.Primary[4096:], want[4096:]) {
		t.Error(err)
	}
}

// RecoverHive, of a program that others wrote for forensics, makes the same of two logs. It
// reads a log up to the entry that has the second sequence number in the log's base block.
func TestAsRegparser(t *testing.T) {
	primary, want, one, two := crashed(t)
	dir := t.TempDir()
	open := func(name string, b []byte) *os.File {
		b = bytes.Clone(b)
		if name != "SYSTEM" {
			binary.LittleEndian.PutUint32(b[8:], binary.LittleEndian.Uint32(b[4:])+1)
			b = append(b, "HvLE\x00\x02\x00\x00\x00\x00\x00\x00"...)
			b = binary.LittleEndian.AppendUint32(b, binary.LittleEndian.Uint32(b[4:])+1)
			b = append(b, make([]byte, 512)...)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	t.Setenv("TMPDIR", dir)
	f, err := regparser.RecoverHive(open("SYSTEM", primary), open("LOG1", one.Content), open("LOG2", two.Content))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	theirs, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(theirs[4096:], want[4096:]) {
		t.Errorf("the bins differ, %v", err)
	}
}

func TestRecoverRefuses(t *testing.T) {
	primary, _, one, _ := crashed(t)
	flip := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	later := plan(t, plan(t, sample(), 5, nil).Done, 6, nil)
	for _, c := range []struct {
		name, want string
		primary    []byte
		logs       []hive.Log
	}{
		{"no log", "no log continues it", primary, nil},
		{"empty log", "LOG1 is empty; no log continues it", primary, []hive.Log{{Name: "LOG1"}}},
		{"header flipped", "LOG1: at 0x0: the checksum of the base block is wrong", primary, []hive.Log{{Name: "LOG1", Content: flip(one.Content, 100)}}},
		{"entry flipped", "an entry was not written to its end", primary, []hive.Log{{Name: "LOG1", Content: flip(one.Content, 1000)}}},
		{"log cut off", "an entry has", primary, []hive.Log{{Name: "LOG1", Content: one.Content[:1024]}}},
		{"log of an older state", "ends with change 8, and the hive has", later.Begun, []hive.Log{one}},
		{"no base block, and a log of long ago", "LOG1 is older than the hive", append(make([]byte, 512), plan(t, sample(), 5, nil).Done[512:]...), []hive.Log{ancient(one)}},
		{"not a log", "is not a transaction log", primary, []hive.Log{{Name: "LOG1", Content: sample()}}},
		{"still damaged", "1 changes were replayed, and it is still damaged", flip(primary, bytes.Index(primary, []byte("0123456789abcdef"))-4+16352), []hive.Log{one}},
		{"nothing there", "no log continues it", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := hive.Recover(c.primary, c.logs...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// ancient is a log that was written a year before.
func ancient(l hive.Log) hive.Log {
	b := bytes.Clone(l.Content)
	binary.LittleEndian.PutUint64(b[12:], binary.LittleEndian.Uint64(b[12:])-365*24*3600*1e7)
	hivetest.Seal(b[:512])
	return hive.Log{Name: l.Name, Content: b}
}

// A hive that is torn in the middle of a write, with pages that no longer hold together, is
// whole again after the replay.
func TestTorn(t *testing.T) {
	old := real(t)
	e, err := open(t, old).Edit(now)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Set(`Control Panel\Desktop`, "Wallpaper", hive.String, hivetest.UTF16(strings.Repeat("long", 300)+"\x00")); err != nil {
		t.Fatal(err)
	}
	next, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w, err := hive.Plan(old, next, nil)
	if err != nil {
		t.Fatal(err)
	}
	torn := bytes.Clone(w.Begun)
	pages := 0
	for at := 4096; at < len(torn); at += 4096 {
		if !bytes.Equal(old[at:at+4096], next[at:at+4096]) {
			clear(torn[at : at+4096])
			pages++
		}
	}
	if _, err := hive.Open(torn); err == nil || pages < 2 {
		t.Fatalf("%d pages are torn, and it passes the load test: %v", pages, err)
	}
	r, err := hive.Recover(torn, hive.Log{Name: "LOG1", Content: w.Log})
	if err != nil || !bytes.Equal(r.Primary[4096:], next[4096:]) {
		t.Error(err)
	}
}
