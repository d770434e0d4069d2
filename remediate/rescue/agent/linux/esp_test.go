//go:build linux

package linux

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"unbrick/remediate/lab/testenv"
)

// An EFI system partition is told from other FAT volumes by the partition table, and from
// a BitLocker volume, whose boot sector says FAT32 too, by its first bytes.
func TestScanBootVolume(t *testing.T) {
	testenv.Need(t, "/usr/sbin/sfdisk")
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/usr/sbin/sfdisk", "-q", image)
	c.Stdin = strings.NewReader(`label: gpt
start=2048, size=2048, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE
start=4096, size=2048, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7
start=6144, size=2048, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, uuid=BBBBBBBB-BBBB-CCCC-DDDD-EEEEEEEEEEEE
`)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	whole, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	fat32 := func(signature string) string { s := sector(signature); return s[:82] + "FAT32   " + s[90:] }
	fat16 := sector("MSDOS5.0")
	fat16 = fat16[:54] + "FAT16   " + fat16[62:]
	dir := sysfs(t, map[string]string{
		"dev/sda": string(whole), "dev/sda1": fat32("MSDOS5.0"), "dev/sda2": fat16, "dev/sda3": fat32(bitlockerSignature), "dev/sdb": fat32("mkfs.fat"),
		"block/sda/queue/logical_block_size": "512\n", "block/sda/sda1/partition": "1\n", "block/sda/sda2/partition": "2\n", "block/sda/sda3/partition": "3\n",
		"block/sda/sda1/start": "2048\n", "block/sda/sda2/start": "4096\n", "block/sda/sda3/start": "6144\n", "block/sdb/size": "8\n",
		"class/sda": "->../block/sda", "class/sda1": "->../block/sda/sda1", "class/sda2": "->../block/sda/sda2", "class/sda3": "->../block/sda/sda3",
		"class/sdb": "->../block/sdb",
	})
	got, err := scan(filepath.Join(dir, "class"), filepath.Join(dir, "dev"))
	want := []disk{
		{path: filepath.Join(dir, "dev/sda1"), whole: "sda", partition: "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", fat: true},
		{path: filepath.Join(dir, "dev/sda3"), whole: "sda", partition: "bbbbbbbb-bbbb-cccc-dddd-eeeeeeeeeeee", locked: true},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v, %v", got, want, err)
	}
}
