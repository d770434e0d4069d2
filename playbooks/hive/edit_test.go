package hive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
)

func edit(t testing.TB, b []byte) *hive.Editor {
	t.Helper()
	e, err := open(t, b).Edit(now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Data grows, shrinks, moves into the value and out of it; what was there can be told by
// nothing but the value.
func TestSet(t *testing.T) {
	b := sample()
	for i, size := range []int{0, 1, 4, 5, 40, 8, 1000, 999, 3, 1500, 2, 1500} {
		e := edit(t, b)
		want := bytes.Repeat([]byte{byte(i + 1)}, size)
		if err := e.Set("alpha", "path", hive.Binary, want); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		next, err := e.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		v, err := open(t, next).Get("Alpha", "Path")
		if err != nil || v.Type != hive.Binary || !bytes.Equal(v.Data, want) {
			t.Errorf("%d bytes: %+v, %v", size, v, err)
		}
		if len(next) != len(b) || hive.Dirty(next) || !hive.Written(next).Equal(now) {
			t.Errorf("%d bytes, dirty %v, written %s", len(next), hive.Dirty(next), hive.Written(next))
		}
		b = next
	}
	if err := edit(t, b).Set("Alpha", "Path", hive.Binary, make([]byte, 8000)); !errors.Is(err, hive.ErrFull) {
		t.Errorf("more than there is room for: %v", err)
	}
	if err := edit(t, b).Set("Alpha", "Big", hive.DWord, dword(1)); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]string{{"Alpha", "none"}, {"none", "Path"}} {
		if err := edit(t, b).Set(c[0], c[1], hive.DWord, nil); !errors.Is(err, hive.ErrNotExist) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func TestDelete(t *testing.T) {
	e := edit(t, sample())
	for _, name := range []string{"path", "", "EMPTY", "Big", "Start"} {
		if err := e.Delete("Alpha", name); err != nil {
			t.Fatal(name, err)
		}
		if err := e.Delete("Alpha", name); !errors.Is(err, hive.ErrNotExist) {
			t.Error(name, err)
		}
	}
	for _, key := range []string{"one", "two", "three", "four", "five", "six"} {
		if err := e.DeleteKey(`beta\` + key); err != nil {
			t.Fatal(key, err)
		}
		if b, err := e.Bytes(); err != nil {
			t.Fatal(key, b != nil, err)
		}
	}
	if err := e.DeleteKey("Alpha"); err != nil {
		t.Fatal(err)
	}
	b, err := e.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if got := ours(t, b); !reflect.DeepEqual(got, []string{"", `\beta`}) || !reflect.DeepEqual(hivex(t, b), got) {
		t.Errorf("%q is left", got)
	}
	if err := edit(t, sample()).DeleteKey("beta"); err == nil {
		t.Error("a key with keys below it was removed")
	}
	if err := edit(t, sample()).DeleteKey(""); err == nil {
		t.Error("the root key was removed")
	}
	primary, _, _, _ := crashed(t)
	if _, err := open(t, primary).Edit(now); err == nil {
		t.Error("a dirty hive was changed without its logs")
	}
}

// Every byte that matters: the load test names what is wrong, and where.
func TestDamage(t *testing.T) {
	b := sample()
	at := func(what string) int {
		i := bytes.Index(b, []byte(what))
		if i < 0 {
			t.Fatal(what)
		}
		return i
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		name string
		hurt func(b []byte)
		want string
	}{
		{"no hive", func(b []byte) { clear(b[:4]) }, "does not begin as a hive does"},
		{"checksum", func(b []byte) { b[20] ^= 1 }, "checksum"},
		{"bin", func(b []byte) { b[4096] = 'x' }, "at 0x1000: no hive bin begins here"},
		{"bin at another place", func(b []byte) { b[4100] = 1 }, "says that it is at"},
		{"size of a bin", func(b []byte) { le.PutUint32(b[4104:], 100) }, "a hive bin has 100 bytes"},
		{"size of a cell", func(b []byte) { le.PutUint32(b[4096+32:], 12) }, "a cell has 12 bytes"},
		{"free cell", func(b []byte) { le.PutUint32(b[at("vk\x04\x00")-4:], 32) }, "a free cell is in use"},
		{"signature of a key", func(b []byte) { b[at("Alpha")-76] = 'x' }, "not \"nk\""},
		{"parent", func(b []byte) { b[at("Alpha")-76+16] ^= 8 }, "does not belong to the key that lists it"},
		{"name of a key", func(b []byte) { b[at("Alpha")-4] = 0xff }, "name of a key is longer"},
		{"number of subkeys", func(b []byte) { b[at("ROOT")-76+20]++ }, "2 are listed"},
		{"number of values", func(b []byte) { b[at("Alpha")-76+36] = 100 }, "list of 100 values is longer"},
		{"list", func(b []byte) { b[at("lh\x02\x00")] = 'x' }, "a list of subkeys begins with"},
		{"a key twice", func(b []byte) { i := at("lh\x02\x00"); copy(b[i+4:i+8], b[i+12:]) }, "in use twice"},
		{"list into nowhere", func(b []byte) { b[at("lh\x02\x00")+6] = 0xff }, "there is no cell"},
		{"data", func(b []byte) { b[at("Path")-12] ^= 4 }, "there is no cell"},
		{"size of data", func(b []byte) { b[at("Path")-15] = 1 }, "data of"},
		{"security", func(b []byte) { b[at("sk")] = 'x' }, "not \"sk\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := bytes.Clone(b)
			c.hurt(b)
			if c.name != "checksum" {
				hivetest.Seal(b[:512])
			}
			_, err := hive.Open(b)
			var damage *hive.DamageError
			if !errors.As(err, &damage) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	for n := range len(b) / 512 {
		if _, err := hive.Open(b[:n*512]); err == nil {
			t.Fatalf("%d of %d bytes pass the load test", n*512, len(b))
		}
	}
}

// Law: whatever the bytes, nothing panics, and what passes the load test can be read to its
// end and changed, and is then as asked for.
func FuzzOpen(f *testing.F) {
	f.Add(small(), uint16(40)) // large seeds make the fuzzer slow
	f.Add(hivetest.BCD(hivetest.Loader), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		if len(b) >= 512 {
			b = bytes.Clone(b)
			hivetest.Seal(b) // so that more than the base block is read
		}
		h, err := hive.Open(b)
		if err != nil {
			return
		}
		path, name := first(t, h, "", 0)
		if name == nil || hive.Dirty(b) {
			return
		}
		data := bytes.Repeat([]byte{7}, int(n)%2000)
		e, err := h.Edit(now)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Set(path, *name, hive.Binary, data); errors.Is(err, hive.ErrFull) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		next, err := e.Bytes()
		if err != nil {
			return // what shares cells with something that nobody reaches
		}
		if v, err := open(t, next).Get(path, *name); err != nil || !bytes.Equal(v.Data, data) {
			t.Errorf("%s %s: %+v, %v", path, *name, v, err)
		}
		if w, err := hive.Plan(b, next, nil); err != nil {
			t.Error(err)
		} else if r, err := hive.Recover(w.Begun, hive.Log{Content: w.Log}); err != nil || !bytes.Equal(r.Primary[4096:], next[4096:]) {
			t.Error(err)
		}
	})
}

// first returns the first value that is found.
func first(t *testing.T, h *hive.Hive, path string, depth int) (string, *string) {
	values, err := h.Values(path)
	if err != nil {
		return "", nil // two keys of one name: the path leads to the other
	}
	if len(values) > 0 {
		return path, &values[0].Name
	}
	keys, err := h.Keys(path)
	if err != nil || depth > 5 {
		return "", nil
	}
	for _, k := range keys {
		if p, name := first(t, h, strings.TrimPrefix(path+`\`+k, `\`), depth+1); name != nil {
			return p, name
		}
	}
	return "", nil
}

// Law: whatever hive and logs, Recover does not panic; what it returns is clean, passes the
// load test, and is what came in if that was clean.
func FuzzRecover(f *testing.F) {
	primary, _, one, two := crashedOf(f, small())
	f.Add(primary, one.Content, two.Content, true)
	f.Add(primary[:600], one.Content, two.Content, false)
	f.Add(small(), one.Content, []byte(nil), false)
	old := plan(f, small(), 2, nil, oldLog(f))
	f.Add(old.Begun, old.Log, two.Content, true)
	f.Fuzz(func(t *testing.T, primary, one, two []byte, seal bool) {
		logs := []hive.Log{{Name: "1", Content: slices.Clone(one)}, {Name: "2", Content: slices.Clone(two)}}
		for _, l := range logs {
			if seal && len(l.Content) > 600 {
				hivetest.Seal(l.Content)
				reseal(l.Content)
			}
		}
		was := bytes.Clone(primary)
		r, err := hive.Recover(primary, logs...)
		if !bytes.Equal(primary, was) {
			t.Error("the primary file was written to")
		}
		if err != nil {
			return
		}
		if !hive.Dirty(primary) {
			if !bytes.Equal(r.Primary, primary) {
				t.Error("a clean hive was changed")
			}
			return
		}
		if _, err := hive.Open(r.Primary); err != nil || hive.Dirty(r.Primary) {
			t.Error(fmt.Sprint("dirty or damaged after the replay: ", err))
		}
	})
}

// reseal makes the hashes of a log's first entry right, so that what it says is looked at.
func reseal(b []byte) {
	const seed = 0xc5554e7a884def82
	le := binary.LittleEndian
	e := b[512:]
	if n := int(le.Uint32(e[4:])); n >= 512 && n <= len(e) {
		le.PutUint64(e[24:], hive.Marvin(seed, e[40:n]))
		le.PutUint64(e[32:], hive.Marvin(seed, e[:32]))
	}
}
