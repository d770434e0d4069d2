package playbooks_test

import (
	"os"
	"path/filepath"
	"testing"

	"unbrick/playbooks"
	"unbrick/playbooks/volumetest"
)

// tree writes files below a new directory.
func tree(t *testing.T, files []volumetest.File) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if f.ReadOnly {
			mode = 0o444
		}
		if err := os.WriteFile(name, f.Content, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, f.ModTime, f.ModTime); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func openDir(t *testing.T, path string) *playbooks.Directory {
	t.Helper()
	d, err := playbooks.Dir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDir(t *testing.T) {
	volumetest.Run(t, func(t *testing.T, files []volumetest.File) playbooks.Volume {
		return openDir(t, tree(t, files))
	})
}

// A link that leads out of the volume leads nowhere.
func TestDirNothingOutside(t *testing.T) {
	outside := tree(t, []volumetest.File{{Path: "secret/file", Content: []byte("x")}})
	inside := t.TempDir()
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(inside, "link")); err != nil {
		t.Fatal(err)
	}
	v := openDir(t, inside)
	if f, err := v.Open("link/file"); err == nil {
		f.Close()
		t.Error("a file outside was opened")
	}
	if err := v.Remove("link/file"); err == nil {
		t.Error("a file outside was removed")
	}
	if _, err := os.Stat(filepath.Join(outside, "secret", "file")); err != nil {
		t.Error(err)
	}
}
