package diskimage_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate/lab/testenv"
)

var (
	from  = time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	until = time.Date(2024, 7, 19, 5, 27, 0, 0, time.UTC)
)

func library(t *testing.T) *playbooks.Playbook {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	return pb
}

func channel(own string) []byte {
	return append([]byte{0xaa, 0xaa, 0xaa, 0xaa, 1, 0, 0x23, 1}, own...)
}

// patient is a system volume with two Windows: one has a faulty and a good file, the other,
// in another case, a faulty one.
func patient() []volumetest.File {
	const dir = "Windows/System32/drivers/CrowdStrike/"
	return []volumetest.File{
		{Path: "Windows/System32/config/SYSTEM", ModTime: from, Content: []byte("regf")},
		{Path: dir + "C-00000291-00000000-00000029.sys", ModTime: from.Add(-100 * time.Nanosecond), Content: channel("older")},
		{Path: dir + "C-00000291-00000000-00000032.sys", ModTime: until.Add(-100 * time.Nanosecond), Content: channel("faulty")},
		{Path: dir + "C-00000291-00000000-00000033.sys", ModTime: until, Content: channel("good")},
		{Path: dir + "C-00000291-00000000-00000034.sys", ModTime: from, Content: make([]byte, 40000)},
		{Path: dir + "C-00000285-00000000-00000001.sys", ModTime: from, Content: channel("another channel")},
		{Path: "WINDOWS.old/windows/SYSTEM32/Config/system", ModTime: from, Content: []byte("regf")},
		{Path: "WINDOWS.old/windows/SYSTEM32/DRIVERS/crowdstrike/c-00000291-00000000-00000032.SYS", ModTime: from, Content: channel("faulty")},
	}
}

// sfdisk writes a partition table onto a new disk image.
func sfdisk(t *testing.T, size int64, table string) string {
	t.Helper()
	testenv.Need(t, "sfdisk")
	disk := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, size); err != nil {
		t.Fatal(err)
	}
	sh(t, table, "sfdisk", "-q", disk)
	return disk
}

func write(t *testing.T, path string, at int64, b string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(b), at); err != nil {
		t.Fatal(err)
	}
}

// A disk as Windows sets it up: EFI, reserved, a recovery volume first, the system volume, and
// behind it a locked one and one of another system.
func TestTryDisk(t *testing.T) {
	disk := sfdisk(t, 100*mib, `label: gpt
start=2048,  size=2048,  type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, name="EFI system partition"
start=4096,  size=2048,  type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE
start=8192,  size=32768, type=DE94BBA4-06D1-4D40-A16A-BFD50179D6AC, name="Recovery"
start=49152, size=65536, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, name="Basic data partition"
start=116736, size=2048, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7
start=120832, size=2048, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
start=124928, size=2048, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7
`)
	write(t, disk, 2048*512+82, "FAT32   ")
	write(t, disk, 4096*512, "left over from an installation")
	put(t, disk, ntfs(t, 16*mib, []volumetest.File{{Path: "Recovery/WindowsRE/Winre.wim", Content: []byte("MSWIM")}}), 8192*512)
	put(t, disk, ntfs(t, 32*mib, patient()), 49152*512)
	write(t, disk, 116736*512, "\xeb\x58\x90-FVE-FS-")
	write(t, disk, 120832*512+1080, "\x53\xef")
	write(t, disk, 124928*512, "what another product makes of a volume")

	before, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	r, err := diskimage.Try(library(t), disk)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range r.Volumes {
		got = append(got, v.Volume+": "+string(v.Verdict))
	}
	want := []string{
		`partition 1 "EFI system partition" (FAT32, 1 MiB), passed over: no Windows is in it: absent`,
		`partition 2 (reserved, 1 MiB), passed over: no Windows is in it: absent`,
		`partition 3 "Recovery" (NTFS, 16 MiB): absent`,
		`partition 4 "Basic data partition" (NTFS, 32 MiB): both`,
		`partition 5 (BitLocker, 1 MiB): locked`,
		`partition 6 (ext4, 1 MiB), passed over: no Windows is in it: absent`,
		`partition 7 (unknown content, 1 MiB): unreadable`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	checkPatient(t, r)
	if after, err := os.ReadFile(disk); err != nil || string(after) != string(before) {
		t.Error("the image changed")
	}
}

// checkPatient compares what was found with what patient has.
func checkPatient(t *testing.T, r playbooks.Result) {
	t.Helper()
	var faulty []string
	for _, f := range r.Left() {
		faulty = append(faulty, f.Path)
		if f.Size != int64(len(channel("faulty"))) || f.ModTime.Location() != time.UTC {
			t.Errorf("%+v", f)
		}
	}
	slices.Sort(faulty)
	want := []string{
		"WINDOWS.old/windows/SYSTEM32/DRIVERS/crowdstrike/c-00000291-00000000-00000032.SYS",
		"Windows/System32/drivers/CrowdStrike/C-00000291-00000000-00000032.sys",
	}
	if !slices.Equal(faulty, want) || !r.DryRun || r.Verdict() != playbooks.Both || len(r.Removed()) != 0 {
		t.Errorf("faulty: %q, %+v", faulty, r)
	}
}

func TestTryBare(t *testing.T) {
	img := ntfs(t, 16*mib, patient())
	r, err := diskimage.Try(library(t), img)
	if err != nil {
		t.Fatal(err)
	}
	checkPatient(t, r)
	if len(r.Volumes) != 1 || r.Volumes[0].Volume != "the whole image (NTFS, 16 MiB)" {
		t.Errorf("%+v", r.Volumes)
	}
}

func TestTryMBR(t *testing.T) {
	disk := sfdisk(t, 64*mib, `label: dos
start=2048,  size=2048,  type=7
start=4096,  size=120000, type=5
start=6144,  size=2048,  type=83
start=10240, size=65536, type=7
`)
	write(t, disk, 2048*512+3, "NTFS    ") // a system-reserved volume whose boot sector was wiped
	write(t, disk, 6144*512+1080, "\x53\xef")
	put(t, disk, ntfs(t, 32*mib, patient()), 10240*512)
	r, err := diskimage.Try(library(t), disk)
	if err != nil {
		t.Fatal(err)
	}
	checkPatient(t, r)
	var got []string
	for _, v := range r.Volumes {
		got = append(got, strings.Fields(v.Volume)[1]+" "+string(v.Verdict))
	}
	if want := []string{"1 unreadable", "5 absent", "6 both"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTryDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, f := range patient() {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
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
	r, err := diskimage.Try(library(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	checkPatient(t, r)
}
