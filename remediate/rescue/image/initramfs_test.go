package image_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue/image"
)

// labKernel returns the lab's kernel out of the user's cache, where it stays for the next
// test, as modules of Go do.
var k0 = time.Unix(1, 0)

func labKernel(t *testing.T) *image.Kernel {
	testenv.Need(t, "apt-get", "apt-cache", "dpkg-deb", "/usr/sbin/depmod", "ntfs-3g", "ntfsrecover")
	k, err := image.FetchKernel(t.Context(), image.KernelOptions{Profile: image.Lab})
	if err != nil {
		testenv.Missing(t, "a kernel package: "+err.Error())
	}
	return k
}

func build(t *testing.T, o image.InitramfsOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	missing, err := image.Initramfs(t.Context(), o, &b)
	if err != nil {
		t.Fatal(err)
	}
	if len(missing) > 0 {
		t.Logf("%s lacks %v", o.Kernel.Release, missing)
	}
	return b.Bytes()
}

// unpack reads an initramfs back into files by name, in order.
func unpack(t *testing.T, compressed []byte) ([]string, map[string]cpio.Record) {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	files := map[string]cpio.Record{}
	for _, r := range records {
		names = append(names, r.Name)
		files[r.Name] = r
	}
	return names, files
}

func content(t *testing.T, r cpio.Record) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestInitramfs(t *testing.T) {
	k := labKernel(t)
	init := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(init, []byte("not really a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := image.InitramfsOptions{
		Kernel: k, Modules: image.Lab.Modules(), Init: init, Binaries: image.NTFSTools(),
		Extra: map[string][]byte{"/etc/deep/hint": []byte("x")},
	}
	first := build(t, o)
	if err := os.Chtimes(init, k0, k0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, build(t, o)) {
		t.Error("the same input gave other bytes the second time")
	}
	t.Logf("%d bytes", len(first))

	names, files := unpack(t, first)
	if !slices.IsSorted(names) {
		t.Error("files are not sorted: a parent may come after its child")
	}
	for _, name := range names {
		if dir := filepath.Dir(name); dir != "." && files[dir].Mode&cpio.S_IFMT != cpio.S_IFDIR {
			t.Errorf("%s is in no directory", name)
		}
	}
	if got := content(t, files["init"]); got != "not really a program" || files["init"].Mode&0o111 == 0 {
		t.Errorf("init is %q, mode %o", got, files["init"].Mode)
	}
	if got := content(t, files["etc/deep/hint"]); got != "x" {
		t.Errorf("extra file holds %q", got)
	}
	for _, want := range []string{"usr/bin/ntfs-3g", "usr/bin/ntfsrecover", "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib64/ld-linux-x86-64.so.2"} {
		if files[want].FileSize == 0 {
			t.Errorf("%s is missing or empty", want)
		}
	}
	checkModules(t, k, files)
}

// checkModules checks that every module named in modules.dep is there with its signature, and
// that what it needs is there too.
func checkModules(t *testing.T, k *image.Kernel, files map[string]cpio.Record) {
	t.Helper()
	dir := "usr/lib/modules/" + k.Release + "/"
	var seen int
	for line := range strings.Lines(content(t, files[dir+"modules.dep"])) {
		for _, f := range strings.Fields(strings.Replace(line, ":", " ", 1)) {
			seen++
			if !strings.HasSuffix(content(t, files[dir+f]), "~Module signature appended~\n") {
				t.Errorf("%s is missing or lost its signature", f)
			}
		}
	}
	if seen < 10 {
		t.Errorf("modules.dep names %d modules", seen)
	}
	if !strings.Contains(content(t, files[dir+"modules.alias"]), " virtio_net\n") {
		t.Error("modules.alias does not know virtio_net")
	}
}

func TestInitramfsStopsWhenCancelled(t *testing.T) {
	k := labKernel(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := image.Initramfs(ctx, image.InitramfsOptions{Kernel: k, Modules: image.Lab.Modules(), Init: k.Vmlinuz}, io.Discard)
	if err == nil {
		t.Error("went on after its context had ended")
	}
}
