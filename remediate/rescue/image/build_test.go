package image_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue/image"
	"unbrick/remediate/rescue/wire"
)

// buildImage builds the lab's image into a new folder, the agent from this very source.
func buildImage(t *testing.T) (dir string, m *image.Manifest) {
	t.Helper()
	return buildProfile(t, image.Lab)
}

func buildProfile(t *testing.T, p image.Profile) (dir string, m *image.Manifest) {
	t.Helper()
	labKernel(t)
	testenv.Need(t, "go", "xorriso", "mcopy", "/usr/sbin/mkfs.vfat", "grub-mkimage", "/usr/lib/shim/shimx64.efi.signed",
		"/usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed", "/usr/lib/grub/i386-pc/cdboot.img")
	dir = filepath.Join(t.TempDir(), "image")
	start := time.Now()
	m, err := image.Build(t.Context(), image.Options{Out: dir, Profile: p, Source: "../../..", Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		t.Logf("%s %d bytes", f.Path, f.Size)
	}
	t.Logf("built in %s", time.Since(start).Round(time.Millisecond))
	return dir, m
}

func TestImage(t *testing.T) {
	dir, m := buildImage(t)
	t.Run("twice the same bytes", func(t *testing.T) {
		_, again := buildImage(t)
		for i, f := range m.Files {
			if again.Files[i] != f {
				t.Errorf("%s is not the same the second time", f.Path)
			}
		}
	})
	t.Run("manifest", func(t *testing.T) {
		for _, name := range []string{"shim-signed", "grub-efi-amd64-signed", "ntfs-3g", "libc6"} {
			if m.Packages[name] == "" {
				t.Errorf("no version of %s", name)
			}
		}
		for _, f := range m.Files {
			b, err := os.ReadFile(filepath.Join(dir, f.Path))
			if err != nil || int64(len(b)) != f.Size {
				t.Errorf("%s: %d bytes, %v", f.Path, len(b), err)
			}
		}
	})
	t.Run("open", func(t *testing.T) { checkOpen(t, dir) })
	t.Run("no stick", func(t *testing.T) { checkNoStick(t, dir) })
	t.Run("damage is seen", func(t *testing.T) { checkDamage(t, dir) })
	t.Run("repairs a crashed Windows 10", func(t *testing.T) { checkRepair(t, dir) })
	t.Run("a changed kernel ends in a restart", func(t *testing.T) { checkRefused(t, dir) })
}

func checkOpen(t *testing.T, dir string) {
	img, err := image.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	place := make([]byte, wire.ConfigSize)
	if _, err := img.ReadAt(place, img.ConfigOffset); err != nil || !strings.HasPrefix(string(place), wire.Placeholder) {
		t.Errorf("at %d is %.20q, %v", img.ConfigOffset, place, err)
	}
	if info, err := os.Stat(filepath.Join(dir, image.ISOName)); err != nil || info.Size() != img.Size {
		t.Errorf("size %d, %v", img.Size, err)
	}
}

// checkDamage damages the image in every way that Open promises to see.
func checkDamage(t *testing.T, dir string) {
	iso, manifest := filepath.Join(dir, image.ISOName), filepath.Join(dir, image.ManifestName)
	for name, c := range map[string]struct {
		file   string
		damage func(b []byte) []byte
		want   string
	}{
		"a bit":        {iso, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, "SHA-256"},
		"cut short":    {iso, func(b []byte) []byte { return b[:len(b)-1] }, "bytes, not"},
		"another file": {filepath.Join(dir, "netboot", "site.img"), func(b []byte) []byte { return nil }, "netboot/site.img has 0 bytes"},
		"no manifest":  {manifest, func([]byte) []byte { return nil }, "manifest is damaged"},
		"a wrong offset": {manifest, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"config_offset": `, `"config_offset": 1`, 1))
		}, "place for the configuration"},
		"a path outside": {manifest, func(b []byte) []byte { return []byte(strings.Replace(string(b), "netboot/site.img", "../site.img", 1)) }, "not in the folder"},
		"another release": {manifest, func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"config_size": 65536`, `"config_size": 4096`, 1))
		}, "another release"},
	} {
		t.Run(name, func(t *testing.T) {
			whole, err := os.ReadFile(c.file)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(whole)
			if err := os.WriteFile(c.file, c.damage(append([]byte(nil), whole...)), 0o644); err != nil {
				t.Fatal(err)
			}
			defer os.WriteFile(c.file, whole, 0o644)
			img, err := image.Open(dir)
			if err == nil {
				img.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "unbrick image build") {
				t.Errorf("said %q; want %q and how to build one", err, c.want)
			}
			if sha256.Sum256(whole) != sum {
				t.Fatal("the test damaged its own copy")
			}
		})
	}
}

func TestOpenWithoutImage(t *testing.T) {
	_, err := image.Open(filepath.Join(t.TempDir(), "none"))
	if err == nil || !strings.Contains(err.Error(), "unbrick image build --out DIR") {
		t.Errorf("said %v", err)
	}
}

func TestBuildRefuses(t *testing.T) {
	labKernel(t) // on Debian: elsewhere the platform is refused first
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]image.Options{
		"no image profile":          {Out: filepath.Join(full, "x"), Profile: "huge"},
		"something else than an":    {Out: full},
		"name the folder":           {},
		"cannot use the agent":      {Out: filepath.Join(full, "x"), Agent: filepath.Join(full, "none")},
		"cannot write the image":    {Out: filepath.Join(full, "no", "such", "folder")},
		"cannot read the kernel":    {Out: filepath.Join(full, "x"), Kernel: filepath.Join(full, "none.deb"), Agent: filepath.Join(full, "thesis.txt")},
		"cannot build the agent":    {Out: filepath.Join(full, "x"), Profile: image.Lab, Source: full},
		"cannot read the kernel pa": {Out: filepath.Join(full, "x"), Kernel: filepath.Join(full, "thesis.txt"), Agent: filepath.Join(full, "thesis.txt")},
	} {
		_, err := image.Build(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: said %v; want %q", o, err, want)
		}
	}
	if entries, err := os.ReadDir(full); err != nil || len(entries) != 1 {
		t.Errorf("left %v behind, %v", entries, err)
	}
}
