package volumetest

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"testing"
	"testing/fstest"
	"time"

	"unbrick/playbooks"
)

// Fixture returns the files that a volume under test holds: two Windows directories, mixed
// case, times with a fraction of a second, an empty file and one that is read-only.
func Fixture() []File {
	at := time.Date(2024, 7, 19, 4, 9, 0, 123456700, time.UTC) // NTFS counts 100 ns
	return []File{
		{Path: "Windows/System32/config/SYSTEM", ModTime: at, Content: []byte("regf")},
		{Path: "Windows/System32/drivers/CrowdStrike/C-00000291-00000000-00000032.sys", ModTime: at,
			Content: bytes.Repeat([]byte{0xaa, 0xaa, 0xaa, 0xaa, 1, 0, 0x23, 1}, 5000)},
		{Path: "Windows/System32/drivers/CrowdStrike/empty.sys", ModTime: at.Add(time.Hour)},
		{Path: "Windows/System32/drivers/CrowdStrike/small.sys", ModTime: at.Add(-time.Hour), Content: []byte{0xaa}, ReadOnly: true},
		{Path: "windows.OLD/WINDOWS/system32/CONFIG/system", ModTime: at, Content: []byte("regf")},
	}
}

// Run tests that what open returns is a Volume. Open is called once per part of the suite and
// returns a volume that holds the given files and nothing else; it cleans up by t.Cleanup. A
// volume that cannot be written to refuses Remove and WriteFile by an error that is
// fs.ErrPermission.
func Run(t *testing.T, open func(t *testing.T, files []File) playbooks.Volume) {
	files := Fixture()
	t.Run("fs.FS", func(t *testing.T) {
		var names []string
		for _, f := range files {
			names = append(names, f.Path)
		}
		if err := fstest.TestFS(open(t, files), names...); err != nil {
			t.Error(err)
		}
	})
	t.Run("content and times", func(t *testing.T) { content(t, open(t, files), files) })
	t.Run("roots", func(t *testing.T) {
		roots, err := playbooks.Roots(open(t, files))
		if err != nil || len(roots) != 2 || roots[0] != "Windows" || roots[1] != "windows.OLD/WINDOWS" {
			t.Errorf("every Windows directory is found, whatever its name and case: got %q, %v", roots, err)
		}
	})
	t.Run("no such file", func(t *testing.T) {
		v := open(t, files)
		for _, name := range []string{"nope", "Windows/nope", "Windows/nope/x"} {
			if _, err := v.Open(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what is not there is fs.ErrNotExist: open %s: %v", name, err)
			}
		}
	})
	t.Run("remove", func(t *testing.T) { remove(t, open(t, files), files) })
	t.Run("write", func(t *testing.T) { rewrite(t, open(t, files), files) })
	t.Run("nothing outside", func(t *testing.T) {
		v := open(t, files)
		for _, name := range []string{"../x", "/Windows/System32/config/SYSTEM", "Windows/../x", "", ".", "Windows/"} {
			if err := v.Remove(name); err == nil {
				t.Errorf("Remove(%q): only a valid path below the root is removed", name)
			}
			if err := v.WriteFile(name, nil); err == nil {
				t.Errorf("WriteFile(%q): only a valid path below the root is written to", name)
			}
		}
		content(t, v, files)
	})
}

// rewrite makes a file longer, shorter, other and empty.
func rewrite(t *testing.T, v playbooks.Volume, files []File) {
	target := files[1].Path
	for _, b := range [][]byte{
		bytes.Repeat([]byte("longer than before "), 9000),
		append(bytes.Repeat([]byte("longer than before "), 5000), "and then other"...),
		[]byte("short"),
		nil,
		bytes.Repeat([]byte{0}, 5000),
	} {
		err := v.WriteFile(target, b)
		if errors.Is(err, fs.ErrPermission) {
			content(t, v, files) // a read-only volume
			return
		}
		if err != nil {
			t.Fatalf("WriteFile makes content the content of a file: %v", err)
		}
		if got, err := fs.ReadFile(v, target); err != nil || !bytes.Equal(got, b) {
			t.Errorf("what was written is read back: %d bytes of %d, %v", len(got), len(b), err)
		}
	}
	if err := v.WriteFile("Windows/nope", []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WriteFile makes no file: %v", err)
	}
	if err := v.WriteFile("Windows", []byte("x")); err == nil {
		t.Error("WriteFile writes to no directory")
	}
	content(t, v, append([]File{files[0]}, files[2:]...))
}

func content(t *testing.T, v playbooks.Volume, files []File) {
	t.Helper()
	for _, f := range files {
		b, err := fs.ReadFile(v, f.Path)
		if err != nil || !bytes.Equal(b, f.Content) {
			t.Errorf("%s reads back as it was written: %d bytes of %d, %v", f.Path, len(b), len(f.Content), err)
		}
		info, err := fs.Stat(v, f.Path)
		if err != nil {
			t.Errorf("a file has its size and last-write time: %v", err)
			continue
		}
		if info.Size() != int64(len(f.Content)) || !info.ModTime().Equal(f.ModTime) {
			t.Errorf("%s has its size and last-write time: %d, %v; want %d, %v", f.Path, info.Size(), info.ModTime().UTC(), len(f.Content), f.ModTime)
		}
	}
}

func remove(t *testing.T, v playbooks.Volume, files []File) {
	var left []File
	for _, f := range files {
		if path.Dir(f.Path) != "Windows/System32/drivers/CrowdStrike" {
			left = append(left, f)
			continue
		}
		switch err := v.Remove(f.Path); {
		case errors.Is(err, fs.ErrPermission):
			left = append(left, f) // a read-only volume
		case err != nil:
			t.Errorf("Remove deletes one file, read-only or not: %s: %v", f.Path, err)
		default:
			if _, err := fs.Stat(v, f.Path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what was removed is gone: %s: %v", f.Path, err)
			}
			if err := v.Remove(f.Path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("removing what is gone is fs.ErrNotExist: %s: %v", f.Path, err)
			}
		}
	}
	if err := v.Remove("Windows"); err == nil {
		t.Error("Remove deletes no directory that holds something")
	}
	content(t, v, left)
}
