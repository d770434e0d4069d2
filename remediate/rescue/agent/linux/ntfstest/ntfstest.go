// Package ntfstest makes NTFS volumes in plain files, as Windows leaves them when it ends well
// and when it does not, for tests that open them for real.
package ntfstest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/lab/testenv"
)

// A File is one file of a volume.
type File struct {
	Name     string // from the root of the volume, slashes
	Content  string
	Modified time.Time // last write; now if zero
}

// Volume returns the path of a new volume of 32 MiB with files on it. Its journal was never
// used: all of it is ones.
func Volume(t testing.TB, files ...File) string {
	t.Helper()
	return format(t, 512, files)
}

// Volume4K is Volume for a disk with sectors of 4096 bytes.
func Volume4K(t testing.TB, files ...File) string {
	t.Helper()
	return format(t, 4096, files)
}

func format(t testing.TB, sector int, files []File) string {
	t.Helper()
	testenv.Need(t, "mkntfs")
	image := filepath.Join(t.TempDir(), "part.img")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 32<<20)); err != nil {
		t.Fatal(err)
	}
	Run(t, "mkntfs", "-F", "-Q", "-q", "-L", "Windows", "-s", strconv.Itoa(sector), "-p", "2048", "-H", "255", "-S", "63", image)
	add(t, image, files)
	return image
}

// add puts files on a volume that nobody has mounted.
func add(t testing.TB, image string, files []File) {
	t.Helper()
	testenv.Need(t, "wimcapture", "wimapply", "ntfscp")
	dir := t.TempDir()
	tree, wim := filepath.Join(dir, "tree"), filepath.Join(dir, "tree.wim")
	for _, f := range files {
		p := filepath.Join(tree, f.Name)
		err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(f.Content), 0o600))
		if !f.Modified.IsZero() {
			err = errors.Join(err, os.Chtimes(p, f.Modified, f.Modified))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	Run(t, "wimcapture", tree, wim, "--compress=none", "--quiet")
	Run(t, "wimapply", wim, "1", image, "--quiet")
	for _, f := range files {
		if strings.EqualFold(f.Name, "hiberfil.sys") { // wimcapture leaves it out by itself
			Run(t, "ntfscp", "-q", image, filepath.Join(tree, f.Name), f.Name)
		}
	}
}

// Cat reads a file from a volume in an image, from outside and without a mount; -f reads also
// what is dirty. It fails where there is no such file.
func Cat(image, name string) (string, error) {
	out, err := exec.Command("ntfscat", "-f", image, name).Output()
	return string(out), err
}

// diskStart is where the partition begins on a disk, in bytes.
const diskStart = 1 << 20

// Disk returns the path of a disk with a partition table and the volume as its only partition.
// The partition's GUID is aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee.
func Disk(t testing.TB, volume string) string {
	t.Helper()
	testenv.Need(t, "/usr/sbin/sfdisk")
	b, err := os.ReadFile(volume)
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.img")
	err = errors.Join(os.WriteFile(disk, append(make([]byte, diskStart), b...), 0o600), os.Truncate(disk, int64(len(b)+2*diskStart)))
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/usr/sbin/sfdisk", "-q", disk)
	c.Stdin = strings.NewReader("label: gpt\nstart=2048, size=" + strconv.Itoa(len(b)/512) +
		", type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, uuid=AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	return disk
}

// Partition returns the path of a copy of the partition of a disk made by Disk.
func Partition(t testing.TB, disk string) string {
	t.Helper()
	b, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "part.img")
	if err := os.WriteFile(image, b[diskStart:len(b)-diskStart], 0o600); err != nil {
		t.Fatal(err)
	}
	return image
}

// Run runs a program and returns what it printed; the test fails if the program does.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}
