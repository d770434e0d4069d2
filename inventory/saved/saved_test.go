package saved_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/saved"
	"unbrick/inventory/sourcetest"
)

// A list is a source of these hosts and notes. Its end is an error, if it has one.
type list struct {
	hosts []inventory.Host
	notes []*inventory.RowError // before the last host
	err   error
}

func (l list) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for i, h := range l.hosts {
			if i == len(l.hosts)-1 {
				for _, n := range l.notes {
					if !yield(inventory.Host{}, n) {
						return
					}
				}
			}
			if !yield(h, nil) {
				return
			}
		}
		if l.err != nil {
			yield(inventory.Host{}, l.err)
		}
	}
}

type extra struct{ list }

func (extra) Supplements() {}

func hosts(names ...string) (all []inventory.Host) {
	for _, n := range names {
		all = append(all, inventory.Host{
			Name: n, Serial: "S" + n, UUID: "4c4c4544-0044-3510-8052-b4c04f4b3333", MAC: []string{"52:54:00:12:34:56"},
			Address: n + ".corp", Site: "SYD", Country: "AU", Region: "apac", TimeZone: "Australia/Sydney", Opens: "24x7", Technician: "t",
			Tier: inventory.Dependency, Group: "g", Routes: []inventory.Route{{Driver: "redfish", Address: "https://10.0.0.1/<a>"}},
			Labels: map[string]string{"model": "X\n1"}, State: inventory.Retired,
			From:      []inventory.Origin{{Source: "s", Place: "p", Line: 3, Seen: time.Date(2024, 7, 19, 4, 9, 1, 2, time.UTC), Lag: time.Hour}},
			Conflicts: []inventory.Conflict{{Field: "site", Says: []inventory.Said{{Value: "a", Source: "b", Place: "c"}}}},
		})
	}
	return all
}

// save makes a file of one source, "netbox".
func save(t testing.TB, path string, src inventory.Source) {
	t.Helper()
	w := saved.NewWriter(filepath.Dir(path))
	defer w.Close()
	if err := w.Record(t.Context(), saved.Section{Name: "netbox", Kind: "netbox", Config: "c"}, src, nil); err != nil {
		t.Fatal(err)
	}
	publish(t, w, path, "netbox")
}

func publish(t testing.TB, w *saved.Writer, path string, names ...string) {
	t.Helper()
	f, err := w.Fleet(names)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Publish(path); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, path string) *saved.Fleet {
	t.Helper()
	f, err := saved.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// drain returns all that a source yields.
func drain(src inventory.Source) (all []inventory.Host, notes []*inventory.RowError, last error) {
	for h, err := range src.Hosts(context.Background()) {
		var note *inventory.RowError
		switch {
		case errors.As(err, &note):
			notes = append(notes, note)
		case err != nil:
			last = err
		default:
			all = append(all, h)
		}
	}
	return all, notes, last
}

func TestSource(t *testing.T) {
	saveAs := func(src inventory.Source) func(*testing.T) inventory.Source {
		return func(t *testing.T) inventory.Source {
			path := filepath.Join(t.TempDir(), "unbrick.fleet")
			save(t, path, src)
			return open(t, path).Source("netbox")
		}
	}
	names := []string{"a", "b", "c"}
	sourcetest.Run(t, sourcetest.Case{
		Names: names,
		Good:  saveAs(list{hosts: hosts(names...)}),
		Bad:   saveAs(list{hosts: hosts(names...), notes: []*inventory.RowError{{Place: "p", Reason: "r", Want: "w"}}}),
		Broken: func(t *testing.T) inventory.Source {
			path := filepath.Join(t.TempDir(), "unbrick.fleet")
			save(t, path, list{hosts: hosts(names...)})
			f := open(t, path)
			f.Close()
			return f.Source("netbox")
		},
	})
}

// Everything of a host and of what was wrong comes back, and nobody else may read the file.
func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "unbrick.fleet")
	want := list{hosts: hosts("a", "b"), notes: []*inventory.RowError{{Place: "p", Line: 2, Column: "c", Value: "v", Reason: "r", Want: "w", Warning: true}}}
	save(t, path, want)
	f := open(t, path)
	got, notes, err := drain(f.Source("netbox"))
	if err != nil || !reflect.DeepEqual(got, want.hosts) || !reflect.DeepEqual(notes, want.notes) {
		t.Errorf("got %+v %v %v", got, notes, err)
	}
	if s := f.Sections[0]; s.Hosts != 2 || s.Notes != 1 || s.Config != "c" || time.Since(s.Read) > time.Hour || s.Supplement {
		t.Errorf("%+v", s)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A file of which any byte is another, or the end is missing, yields an error: never other hosts.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "unbrick.fleet")
	save(t, path, list{hosts: hosts("a", "b", "c")})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, "damaged")
	try := func(what string, b []byte) {
		if err := os.WriteFile(damaged, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := saved.Open(damaged)
		if err != nil {
			return
		}
		defer f.Close()
		src := f.Source("netbox")
		if src == nil {
			t.Errorf("%s: the source is gone", what)
			return
		}
		if all, _, err := drain(src); err == nil {
			t.Errorf("%s: %d hosts and no error", what, len(all))
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		try(fmt.Sprintf("byte %d of %d", i, len(good)), b)
		try(fmt.Sprintf("%d of %d bytes", i, len(good)), good[:i])
	}
	try("one byte more", append(bytes.Clone(good), 0))
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := saved.Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	for text, want := range map[string]string{
		"":                                    "not a saved fleet",
		"name,site\na,SYD\n":                  "not a saved fleet",
		"{\"unbrick_fleet\":2}\nabc\n":        "it has version 2, and this program reads version 1",
		"{\"unbrick_fleet\":1}\nabc\n":        "its first line was changed",
		strings.Repeat("x", 2<<20):            "not a saved fleet",
		"{\"unbrick_fleet\":1,\"sources\":[]": "not a saved fleet",
	} {
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := saved.Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v, want %s", text, err, want)
		}
	}
}

// A source that fails leaves the earlier file as it is, and its hosts can be taken over from it.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "unbrick.fleet")
	save(t, path, list{hosts: hosts("a", "b")})
	old := open(t, path)
	w := saved.NewWriter(dir)
	defer w.Close()
	down := errors.New("it is down")
	err := w.Record(t.Context(), saved.Section{Name: "netbox"}, list{hosts: hosts("a"), err: down}, nil)
	if !errors.Is(err, down) {
		t.Fatalf("a source that fails: %v", err)
	}
	if !w.Keep(old, "netbox", "q", err.Error()) || w.Keep(old, "glpi", "", "") {
		t.Error("what is kept is not what there is")
	}
	w.Miss(saved.Section{Name: "glpi", Kind: "glpi"}, "no route")
	if err := w.Record(t.Context(), saved.Section{Name: "leases"}, extra{list{hosts: hosts("c")}}, nil); err != nil {
		t.Fatal(err)
	}
	publish(t, w, path, "leases", "netbox", "glpi")
	f := open(t, path)
	all, _, err := drain(f.Source("netbox"))
	if s := f.Section("netbox"); err != nil || len(all) != 2 || s.Failed != "it is down" || s.Config != "q" || s.Missing || !s.Read.Equal(old.Sections[0].Read) {
		t.Errorf("%+v: %d hosts, %v", s, len(all), err)
	}
	if s := f.Section("glpi"); f.Source("glpi") != nil || !s.Missing || s.Failed != "no route" {
		t.Errorf("%+v", s)
	}
	if _, ok := f.Source("leases").(inventory.Supplement); !ok || f.Sections[0].Name != "leases" {
		t.Error("what was a supplement is none")
	}
	if all, _, err := drain(old.Source("netbox")); err != nil || len(all) != 2 { // its file has no name any more
		t.Errorf("the earlier file: %d hosts, %v", len(all), err)
	}
	if names, err := filepath.Glob(filepath.Join(dir, ".unbrick*")); err != nil || len(names) != 1 { // until w is closed
		t.Errorf("%v, %v", names, err)
	}
}

// What another configuration brought is kept, and not used, from file to file.
func TestPark(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "unbrick.fleet")
	save(t, path, list{hosts: hosts("a", "b")})
	for _, park := range []bool{true, true, false} {
		old := open(t, path)
		w := saved.NewWriter(dir)
		if park && !w.Park(old, "netbox", "it is down") || !park && !w.Keep(old, "netbox", "q", "it is down") {
			t.Error("there is nothing to take")
		}
		publish(t, w, path, "netbox")
		w.Close()
		f := open(t, path)
		if s := f.Section("netbox"); s.Parked() != park || s.Missing != park || s.Hosts != 2 || (f.Source("netbox") == nil) != park {
			t.Errorf("parked is %v: %+v", park, s)
		}
	}
	if all, _, err := drain(open(t, path).Source("netbox")); err != nil || len(all) != 2 {
		t.Errorf("%d hosts, %v", len(all), err)
	}
}

// Without Publish nothing remains.
func TestNothingRemains(t *testing.T) {
	dir := t.TempDir()
	w := saved.NewWriter(dir)
	if err := w.Record(t.Context(), saved.Section{Name: "a"}, list{hosts: hosts("a")}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := w.Fleet([]string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	if all, _, err := drain(f.Source("a")); err != nil || len(all) != 1 {
		t.Errorf("%d hosts, %v", len(all), err)
	}
	f.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// Rows of many batches come in their order, and a reader may stop in the middle of them.
func TestManyRows(t *testing.T) {
	const n = 20_000
	all := make([]inventory.Host, n)
	for i := range all {
		all[i] = inventory.Host{Name: fmt.Sprintf("pc-%05d", i), Tier: inventory.Normal, Labels: map[string]string{"x": strings.Repeat("y", 40)}}
	}
	path := filepath.Join(t.TempDir(), "unbrick.fleet")
	save(t, path, list{hosts: all})
	src := open(t, path).Source("netbox")
	if got, _, err := drain(src); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("%d hosts, %v", len(got), err)
	}
	i := 0
	for h, err := range src.Hosts(t.Context()) {
		if i++; err != nil || h.Name != all[i-1].Name || i == n/2 {
			break
		}
	}
	if i != n/2 {
		t.Errorf("stopped after %d", i)
	}
}

// TestLongRows: what can be saved can be read, however long a value is.
func TestLongRows(t *testing.T) {
	for _, size := range []int{batch - 200, batch, batch + 1, 3*batch + 7} {
		all := []inventory.Host{{Name: "a"}, {Name: "b", Labels: map[string]string{"x": strings.Repeat("y", size)}}, {Name: "c"},
			{Name: "d", Labels: map[string]string{"x": strings.Repeat("z", size)}}}
		path := filepath.Join(t.TempDir(), "unbrick.fleet")
		save(t, path, list{hosts: all})
		if got, _, err := drain(open(t, path).Source("netbox")); err != nil || !reflect.DeepEqual(got, all) {
			t.Errorf("%d bytes: %d hosts, %v", size, len(got), err)
		}
	}
}

// batch is about how much is decoded at once.
const batch = 256 << 10

// BenchmarkMillion saves a million hosts and reads them again.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	src := many(n)
	path := filepath.Join(b.TempDir(), "unbrick.fleet")
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			save(b, path, src)
		}
		info, err := os.Stat(path)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(info.Size())/n, "bytes/host")
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			got := 0
			for _, err := range open(b, path).Source("netbox").Hosts(b.Context()) {
				if err != nil {
					b.Fatal(err)
				}
				got++
			}
			if got != n {
				b.Fatal(got)
			}
		}
	})
}

// many is a source of so many hosts, each different.
type many int

func (m many) Hosts(context.Context) iter.Seq2[inventory.Host, error] {
	return func(yield func(inventory.Host, error) bool) {
		for i := range int(m) {
			h := inventory.Host{Name: fmt.Sprintf("S%04d-PC-%07d", i/1000, i), Serial: fmt.Sprintf("5CG%07X", i*7919),
				UUID: fmt.Sprintf("4c4c4544-0044-3510-8052-%012x", i), MAC: []string{fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", i>>24&255, i>>16&255, i>>8&255, i&255)},
				Site: fmt.Sprintf("S%04d", i/1000), Country: "DE", TimeZone: "Europe/Berlin", Tier: inventory.Normal,
				Routes: []inventory.Route{{Driver: "redfish", Address: fmt.Sprintf("https://10.%d.%d.%d", i>>16&255, i>>8&255, i&255)}},
				Labels: map[string]string{"model": "OptiPlex 7090", "owner": fmt.Sprint("user", i)},
				From:   []inventory.Origin{{Source: "netbox", Place: "https://netbox.corp.example", Seen: time.Unix(1721360000+int64(i%5000), 0).UTC()}}}
			if !yield(h, nil) {
				return
			}
		}
	}
}
