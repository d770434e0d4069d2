package diskimage_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
)

func file(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// What is not a raw image is recognised, and the error says what to do.
func TestOpenRefuses(t *testing.T) {
	pad := func(s string) string { return s + strings.Repeat("\x00", 4096) }
	for _, c := range []struct{ name, content, want string }{
		{"VHDX", pad("vhdxfile"), "qemu-img convert -f vhdx -O raw"},
		{"dynamic VHD", pad("conectix"), "qemu-img convert -f vpc -O raw"},
		{"VMDK", pad("KDMV"), "qemu-img convert -f vmdk -O raw"},
		{"VMDK descriptor", pad("# Disk DescriptorFile\n"), "qemu-img convert -f vmdk -O raw"},
		{"QCOW2", pad("QFI\xfb"), "qemu-img convert -f qcow2 -O raw"},
		{"VDI", pad(strings.Repeat("x", 64) + "\x7f\x10\xda\xbe"), "qemu-img convert -f vdi -O raw"},
		{"gzip", pad("\x1f\x8b"), "unpack it first (gunzip)"},
		{"empty file", "", "0 bytes: that is not a disk image"},
		{"text", pad("name,serial\nPC1,ABC\n"), "is it a raw disk image?"},
		{"GPT wiped, copy too", pad(strings.Repeat("\x00", 450) + "\xee" + strings.Repeat("\x00", 59) + "\x55\xaa"), "the partition table is damaged"},
		{"MBR without partitions", pad("\x01" + strings.Repeat("\x00", 509) + "\x55\xaa"), "has no partition"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := diskimage.Try(library(t), file(t, c.content))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := diskimage.Open(t.TempDir()); err == nil {
		t.Error("a directory was opened as an image")
	}
	if _, err := diskimage.Try(library(t), filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A disk that holds no Windows volume at all is an error, not "nothing to do".
func TestTryNothingToLookAt(t *testing.T) {
	img := file(t, strings.Repeat("\x00", 1080)+"\x53\xef"+strings.Repeat("\x00", 4096))
	_, err := diskimage.Try(library(t), img)
	if err == nil || !strings.Contains(err.Error(), "cannot find a Windows volume") || !strings.Contains(err.Error(), "ext4") {
		t.Error(err)
	}
}

// A table that was overwritten is read from its copy at the end.
func TestSecondTable(t *testing.T) {
	disk := sfdisk(t, 40*mib, "label: gpt\nstart=4096, size=65536, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n")
	put(t, disk, ntfs(t, 32*mib, patient()), 4096*512)
	write(t, disk, 512, strings.Repeat("\x00", 512))
	r, err := diskimage.Try(library(t), disk)
	if err != nil {
		t.Fatal(err)
	}
	checkPatient(t, r)
}

// Wherever an image is cut off, nothing panics and nothing is called absent or clean that was
// not seen.
func TestCutOff(t *testing.T) {
	disk := sfdisk(t, 40*mib, "label: gpt\nstart=4096, size=65536, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n")
	put(t, disk, ntfs(t, 32*mib, patient()), 4096*512)
	for _, size := range []int64{1, 511, 512, 1000, 1024, 17 * 1024, 4096 * 512, 4096*512 + 3, 3 * mib, 20 * mib, 34*mib - 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			cut := filepath.Join(t.TempDir(), "cut.img")
			put(t, cut, disk, 0)
			if err := os.Truncate(cut, size); err != nil {
				t.Fatal(err)
			}
			r, err := diskimage.Try(library(t), cut)
			if err == nil && r.Verdict() != playbooks.Unreadable {
				t.Errorf("verdict %s of a disk that was cut off", r.Verdict())
			}
			if err == nil && !strings.Contains(r.Volumes[0].Error, "cut off") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Law: whatever sectors of a volume are damaged, looking at it ends and does not panic.
func TestDamaged(t *testing.T) {
	path := ntfs(t, 4*mib, patient())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	inUse := usedBlocks(whole)
	rnd := rand.New(rand.NewPCG(2024, 719))
	seen := map[playbooks.Verdict]int{}
	for range 500 {
		var damaged []int
		for range 1 + rnd.IntN(8) {
			at := inUse[rnd.IntN(len(inUse))]
			sector := []byte(string(whole[at : at+512]))
			for range 1 + rnd.IntN(4) {
				sector[rnd.IntN(len(sector))] = byte(rnd.IntN(256))
			}
			if rnd.IntN(4) == 0 {
				clear(sector)
			}
			write(t, path, int64(at), string(sector))
			damaged = append(damaged, at)
		}
		if r, err := diskimage.Try(library(t), path); err != nil {
			seen["error"]++
		} else {
			seen[r.Verdict()]++
		}
		for _, at := range damaged {
			write(t, path, int64(at), string(whole[at:at+512]))
		}
	}
	if seen[playbooks.Unreadable]+seen["error"] == 0 || seen[playbooks.Both] == 0 {
		t.Errorf("the damage does not reach the code: %v", seen)
	}
	r, err := diskimage.Try(library(t), path)
	if err != nil {
		t.Fatal(err)
	}
	checkPatient(t, r)
}

// usedBlocks returns the offsets of the sectors that hold something.
func usedBlocks(b []byte) []int {
	var used []int
	for at := 0; at < len(b); at += 512 {
		if strings.Trim(string(b[at:at+512]), "\x00\xff") != "" {
			used = append(used, at)
		}
	}
	return used
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(strings.Repeat("\x00", 450) + "\x05" + strings.Repeat("\x01", 59) + "\x55\xaa"))
	f.Add([]byte("\xeb\x52\x90NTFS    \x00\x02\x08" + strings.Repeat("\x00", 2000)))
	f.Add([]byte(strings.Repeat("\x00", 512) + "EFI PART" + strings.Repeat("\x00", 4096)))
	path := filepath.Join(f.TempDir(), "fuzz.img")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		img, err := diskimage.Open(path)
		if err != nil {
			return
		}
		defer img.Close()
		for _, p := range img.Partitions {
			if p.Err == nil && (p.Start < 0 || p.Size <= 0 || p.Start+p.Size > int64(len(b))) {
				t.Errorf("%+v of %d bytes", p, len(b))
			}
			if v, err := img.Volume(p); err == nil {
				fs.WalkDir(v, ".", func(name string, d fs.DirEntry, err error) error {
					if err == nil && d.Type().IsRegular() {
						if f, err := v.Open(name); err == nil {
							io.Copy(io.Discard, io.LimitReader(f, mib))
						}
					}
					return nil
				})
			}
		}
	})
}
