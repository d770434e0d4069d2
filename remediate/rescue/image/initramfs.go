package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"
)

// InitramfsOptions say what an initramfs holds.
type InitramfsOptions struct {
	Kernel   *Kernel
	Modules  []string          // names; what they depend on comes along
	Init     string            // path of a static program: the first process
	Binaries []string          // names or paths of programs: into /usr/bin, with their libraries
	Extra    map[string][]byte // more files, by path
}

// NTFSTools are the programs by which an agent opens NTFS volumes.
func NTFSTools() []string { return []string{"ntfs-3g", "ntfsrecover", "ntfsfix", "ntfsinfo"} }

// Initramfs writes an initramfs, compressed with zstd, to w. It is the same bytes for the
// same input. It returns the wanted modules that this kernel does not have.
func Initramfs(ctx context.Context, o InitramfsOptions, w io.Writer) (missing []string, err error) {
	set, err := closure(o.Kernel.ModulesDir, o.Modules)
	if err != nil {
		return nil, err
	}
	t := tree{}
	for _, dir := range []string{"dev", "proc", "run", "sys", "tmp", "etc"} {
		t.dir(dir)
	}
	for _, link := range []string{"bin", "lib", "lib64"} {
		t.add(cpio.Symlink(link, "usr/"+link))
	}
	t.dir("usr/bin")
	t.dir("usr/lib64")
	if err := t.file("init", o.Init, 0o755); err != nil {
		return nil, err
	}
	bins, err := programs(o.Binaries)
	if err != nil {
		return nil, err
	}
	for _, to := range slices.Sorted(maps.Keys(bins)) {
		if err := t.file(to, bins[to], 0o755); err != nil {
			return nil, err
		}
	}
	if err := t.modules(ctx, o.Kernel.Release, set); err != nil {
		return nil, err
	}
	for name, content := range o.Extra {
		t.bytes(strings.TrimPrefix(path.Clean(name), "/"), content)
	}
	return set.missing, t.compress(w)
}

// A tree is the files of a cpio archive by name.
type tree map[string]cpio.Record

func (t tree) add(r cpio.Record) {
	if parent := path.Dir(r.Name); parent != "." {
		t.dir(parent)
	}
	t[r.Name] = r
}

func (t tree) dir(name string) {
	if _, ok := t[name]; !ok {
		t.add(cpio.Directory(name, 0o755))
	}
}

func (t tree) bytes(name string, content []byte) {
	t.add(cpio.StaticFile(name, string(content), 0o644))
}

func (t tree) file(name, from string, perm uint64) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("cannot add %s to the initramfs: %w", name, err)
	}
	t.add(cpio.StaticFile(name, string(b), perm))
	return nil
}

// modules adds the kernel modules. They are never stripped: their signature is at the end.
func (t tree) modules(ctx context.Context, release string, set *moduleSet) error {
	dir := "usr/lib/modules/" + release + "/"
	t.bytes(dir+"modules.dep", set.dep)
	t.bytes(dir+"modules.alias", set.alias)
	t.bytes(dir+"modules.builtin", set.builtin)
	for _, name := range set.files {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := readModule(filepath.Join(set.dir, name))
		if err != nil {
			return fmt.Errorf("cannot add module %s: %w", name, err)
		}
		t.bytes(dir+strings.TrimSuffix(name, ".xz"), b)
	}
	return nil
}

func readModule(name string) ([]byte, error) {
	if !strings.HasSuffix(name, ".xz") {
		return os.ReadFile(name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := xz.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// compress writes the tree as zstd: xz costs 15 seconds more to unpack in an emulator.
func (t tree) compress(w io.Writer) error {
	z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	return errors.Join(t.write(z), z.Close())
}

// write writes the tree as cpio: sorted, so that parents come first; numbered from 1; times
// zero; owned by root.
func (t tree) write(w io.Writer) error {
	cw := cpio.Newc.Writer(w)
	for i, name := range slices.Sorted(maps.Keys(t)) {
		r := t[name]
		r.Ino, r.NLink, r.MTime = uint64(i+1), 1, 0
		if err := cw.WriteRecord(r); err != nil {
			return fmt.Errorf("cannot write %s to the initramfs: %w", name, err)
		}
	}
	return cpio.WriteTrailer(cw)
}
