package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A Kernel is one unpacked Debian kernel package. Kernel and modules must come from one
// package: modules are signed with a key made in that very build.
type Kernel struct {
	Package string // linux-image-6.1.0-56-cloud-amd64
	Version string // of the package: 6.1.192-2
	Release string // what uname -r says: 6.1.0-56-cloud-amd64
	SHA256  string // of the package

	Vmlinuz    string // path
	ModulesDir string // path of lib/modules/RELEASE, with modules.dep and modules.alias
}

// KernelOptions say which kernel to fetch. The zero value is Debian's server kernel.
type KernelOptions struct {
	Profile Profile // lab takes the cloud kernel, which boots fastest in QEMU
	Deb     string  // a kernel package; empty means the one Debian has now
	Cache   string  // folder of unpacked packages; empty means unbrick in the user's cache
}

// FetchKernel downloads one signed kernel package with apt, which verifies it, and unpacks it
// into the cache, where the next call finds it. Safe in several processes at once.
func FetchKernel(ctx context.Context, o KernelOptions) (*Kernel, error) {
	if err := need(kernelParts); err != nil {
		return nil, err
	}
	cache, err := cacheDir(o.Cache)
	if err != nil {
		return nil, err
	}
	if o.Deb != "" {
		return unpackDeb(ctx, o.Deb, cache)
	}
	meta := "linux-image-amd64"
	if o.Profile == Lab {
		meta = "linux-image-cloud-amd64"
	}
	pkg, err := resolveKernel(ctx, meta)
	if err != nil {
		return nil, err
	}
	if k, err := openKernel(filepath.Join(cache, pkg.dir()), pkg); err == nil {
		return k, nil
	}
	tmp, err := os.MkdirTemp(cache, "download-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if _, err := runIn(ctx, tmp, "apt-get", "-q", "download", pkg.name+"="+pkg.version); err != nil {
		return nil, fmt.Errorf("cannot download the kernel (is there a network? else give a package with --kernel): %w", err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return nil, fmt.Errorf("apt-get download %s left %d packages, not 1", pkg.name, len(debs))
	}
	return unpackDeb(ctx, debs[0], cache)
}

func cacheDir(dir string) (string, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("cannot find a place for kernels: %w", err)
		}
		dir = filepath.Join(base, "unbrick", "kernels")
	}
	return dir, os.MkdirAll(dir, 0o700)
}

// A deb names one package file exactly.
type deb struct{ name, version, sha256 string }

func (d deb) dir() string { return d.name + "_" + d.version + "_" + d.sha256[:16] }

var (
	kernelDepends = regexp.MustCompile(`(?m)^Depends: (linux-image-[^ ,]+) \(= ([^)]+)\)`)
	debSHA256     = regexp.MustCompile(`(?m)^SHA256: ([0-9a-f]{64})$`)
)

// resolveKernel asks apt what the metapackage stands for now.
func resolveKernel(ctx context.Context, meta string) (deb, error) {
	out, err := runIn(ctx, "", "apt-cache", "show", "--no-all-versions", meta)
	if err != nil {
		return deb{}, fmt.Errorf("cannot find the kernel package (apt-get update?): %w", err)
	}
	m := kernelDepends.FindSubmatch(out)
	if m == nil {
		return deb{}, fmt.Errorf("cannot see which kernel %s stands for; give a package with --kernel", meta)
	}
	d := deb{name: string(m[1]), version: string(m[2])}
	out, err = runIn(ctx, "", "apt-cache", "show", d.name+"="+d.version)
	if err != nil {
		return deb{}, err
	}
	if m = debSHA256.FindSubmatch(out); m == nil {
		return deb{}, fmt.Errorf("apt has no SHA-256 of %s; give a package with --kernel", d.name)
	}
	d.sha256 = string(m[1])
	return d, nil
}

func unpackDeb(ctx context.Context, file, cache string) (*Kernel, error) {
	var d deb
	var err error
	if d.sha256, err = hashFile(file); err != nil {
		return nil, fmt.Errorf("cannot read the kernel package: %w", err)
	}
	out, err := runIn(ctx, "", "dpkg-deb", "--show", "--showformat=${Package}\n${Version}\n", file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the kernel package %s: %w", file, err)
	}
	var ok bool
	if d.name, d.version, ok = strings.Cut(strings.TrimSpace(string(out)), "\n"); !ok {
		return nil, fmt.Errorf("%s has no name or version", file)
	}
	final := filepath.Join(cache, d.dir())
	if k, err := openKernel(final, d); err == nil {
		return k, nil
	}
	tmp, err := os.MkdirTemp(cache, "unpack-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	if _, err := runIn(ctx, "", "dpkg-deb", "--extract", file, tmp); err != nil {
		return nil, fmt.Errorf("cannot unpack %s: %w", file, err)
	}
	k, err := findKernel(tmp, d)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if _, err := runIn(ctx, "", "depmod", "-b", tmp, k.Release); err != nil {
		return nil, err
	}
	// Whoever renames first wins; another process's tree holds the same bytes.
	if err := os.Rename(tmp, final); err != nil && !os.IsExist(err) {
		return nil, err
	}
	return openKernel(final, d)
}

// openKernel returns a kernel that was unpacked earlier, depmod and all.
func openKernel(dir string, d deb) (*Kernel, error) {
	k, err := findKernel(dir, d)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(k.ModulesDir, "modules.dep"))
	return k, err
}

func findKernel(dir string, d deb) (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return nil, fmt.Errorf("not a kernel package: it has %d boot/vmlinuz-* files, not 1", len(images))
	}
	k := &Kernel{Package: d.name, Version: d.version, SHA256: d.sha256, Vmlinuz: images[0]}
	k.Release = strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	for _, lib := range []string{"lib", "usr/lib"} {
		k.ModulesDir = filepath.Join(dir, lib, "modules", k.Release)
		if _, err := os.Stat(k.ModulesDir); err == nil {
			return k, nil
		}
	}
	return nil, fmt.Errorf("not a kernel package: it has no modules for %s", k.Release)
}

// runIn runs a program in dir and returns what it printed; its error names the program and
// ends with what it complained about.
func runIn(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	return runEnv(ctx, dir, nil, name, args...)
}

func runEnv(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	p, err := find(name)
	if err != nil {
		return nil, err
	}
	var out, complaint bytes.Buffer
	c := exec.CommandContext(ctx, p, args...)
	c.Dir, c.Stdout, c.Stderr = dir, &out, &complaint
	// Fixed times and words, whoever builds.
	c.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch))
	c.Env = append(c.Env, env...)
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}

// hashFile returns the SHA-256 of a file's content in hex.
func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
