package main

import (
	"context"
	"iter"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/inventory"
	"unbrick/inventory/saved"
)

// A cloud has some hosts, and perhaps a zone that does not answer.
type cloud struct {
	names string
	dark  bool
}

func (c cloud) Hosts(ctx context.Context) iter.Seq2[inventory.Host, error] {
	return inventory.Read(ctx, "the cloud", func(emit func(*inventory.Draft) error) error {
		for _, name := range strings.Fields(c.names) {
			d := inventory.NewDraft(inventory.Origin{Source: "cloud", Place: "cloud"}, name)
			d.Name("name", name)
			if err := emit(d); err != nil {
				return err
			}
		}
		if c.dark {
			return &inventory.PartialError{Missing: "zone b does not answer", Want: "another try"}
		}
		return nil
	})
}

// TestGatherPart: a part of a source does not take the place of the whole that was saved. Where
// nothing was saved, or somebody says that fewer are right, the part is used, and said to be one.
func TestGatherPart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "unbrick.fleet")
	for _, step := range []struct {
		what   string
		source cloud
		fewer  bool
		hosts  int
		part   bool
		failed bool
	}{
		{"nothing was saved", cloud{"a b", true}, false, 2, true, false},
		{"a part was saved", cloud{"a b c", true}, false, 3, true, false},
		{"all of it answers", cloud{"a b c d", false}, false, 4, false, false},
		{"one zone does not answer", cloud{"a b c", true}, false, 4, false, true},
		{"and that is as it should be", cloud{"a b c", true}, true, 3, true, false},
	} {
		var old *saved.Fleet
		var err error
		if f, err := saved.Open(file); err == nil {
			old = f
		}
		w := saved.NewWriter(filepath.Dir(file))
		s := namedSource{Name: "cloud", Kind: "gce", Config: "x", Source: step.source}
		err = new(gathering).read(t.Context(), w, s, old, step.fewer, func(int) {})
		if (err != nil) != step.failed {
			t.Errorf("%s: %v", step.what, err)
		}
		f, err := w.Fleet([]string{"cloud"})
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if old != nil {
			old.Close()
		}
		got := f.Section("cloud")
		if got.Hosts != step.hosts || got.Partial != step.part || got.Missing || (got.Failed != "") != (step.part || step.failed) {
			t.Errorf("%s: %+v", step.what, got)
		}
		loaded, err := inventory.Load(t.Context(), inventory.Options{}, sourcesOf(f)...)
		if err != nil || len(loaded.Hosts) != step.hosts {
			t.Errorf("%s: %v", step.what, err)
		}
		if err := f.Publish(file); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}
