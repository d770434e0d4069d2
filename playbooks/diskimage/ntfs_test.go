package diskimage_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate/lab/testenv"
)

const mib = 1 << 20

func sh(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// ntfs makes a volume of the given size that holds files, with the tools of ntfs-3g and
// wimlib, which nobody here wrote. It needs neither root nor a mount.
func ntfs(t *testing.T, size int64, files []volumetest.File, mkntfs ...string) string {
	t.Helper()
	testenv.Need(t, "mkntfs", "wimcapture", "wimapply")
	dir := t.TempDir()
	tree, wim, img := filepath.Join(dir, "tree"), filepath.Join(dir, "tree.wim"), filepath.Join(dir, "ntfs.img")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := filepath.Join(tree, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, f.ModTime, f.ModTime); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, size); err != nil {
		t.Fatal(err)
	}
	sh(t, "", "mkntfs", append(append([]string{"-F", "-Q", "-q", "-s", "512", "-p", "2048", "-H", "255", "-S", "63"}, mkntfs...), img)...)
	sh(t, "", "wimcapture", tree, wim, "--compress=none", "--quiet")
	sh(t, "", "wimapply", wim, "1", img, "--quiet")
	return img
}

// put copies the image at src into dst at an offset.
func put(t *testing.T, dst, src string, at int64) {
	t.Helper()
	in, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(io.NewOffsetWriter(out, at), in); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *diskimage.Image {
	t.Helper()
	img, err := diskimage.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img
}

// Every cluster size that Windows uses for system volumes, and one larger than an index block.
func TestVolume(t *testing.T) {
	for _, cluster := range []string{"512", "4096", "65536"} {
		t.Run(cluster, func(t *testing.T) {
			volumetest.Run(t, func(t *testing.T, files []volumetest.File) playbooks.Volume {
				img := open(t, ntfs(t, 48*mib, files, "-c", cluster))
				v, err := img.Volume(img.Partitions[0])
				if err != nil {
					t.Fatal(err)
				}
				return v
			})
		})
	}
}

// A directory of thousands of files is a B-tree of several levels.
func TestLargeDirectory(t *testing.T) {
	var files []volumetest.File
	const n = 3000
	for i := range n {
		files = append(files, volumetest.File{Path: fmt.Sprintf("many/a rather long name, so that few fit in a block, %05d.sys", i),
			ModTime: time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)})
	}
	img := open(t, ntfs(t, 32*mib, files))
	v, err := img.Volume(img.Partitions[0])
	if err != nil {
		t.Fatal(err)
	}
	f, err := v.Open("MANY")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := f.(interface {
		ReadDir(int) ([]os.DirEntry, error)
	}).ReadDir(-1)
	if err != nil || len(entries) != n {
		t.Fatalf("%d names of %d, %v", len(entries), n, err)
	}
	for i, e := range entries {
		if want := filepath.Base(files[i].Path); e.Name() != want {
			t.Fatalf("name %d is %q, want %q", i, e.Name(), want)
		}
	}
}
