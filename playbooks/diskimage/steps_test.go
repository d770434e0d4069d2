//go:build linux

package diskimage_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"unbrick/playbooks"
	"unbrick/playbooks/diskimage"
	"unbrick/playbooks/hive"
	"unbrick/playbooks/hivetest"
	"unbrick/playbooks/volumetest"
	"unbrick/remediate/lab/testenv"
)

const system = "Windows/System32/config/SYSTEM"

// examples are lab hosts for the playbooks that are templates, each with what it is about.
func examples(t *testing.T) map[string][]volumetest.File {
	t.Helper()
	at := time.Date(2025, 3, 4, 11, 0, 0, 0, time.UTC)
	software := hivetest.Build(hivetest.Key{Name: "ROOT", Keys: []hivetest.Key{{Name: "Microsoft"}}})
	manager := hivetest.Key{Name: "Session Manager", Keys: []hivetest.Key{{Name: "Acme",
		Values: []hivetest.Value{hivetest.Text("StartProgram", `C:\Program Files\Acme\agent-next.exe`)}}}}
	set := hivetest.Key{Name: "ControlSet001", Keys: []hivetest.Key{{Name: "Control", Keys: []hivetest.Key{manager}}}}
	host := func(b []byte, more ...volumetest.File) []volumetest.File {
		return append(more,
			volumetest.File{Path: system, ModTime: at, Content: b},
			volumetest.File{Path: system + ".LOG1", ModTime: at, Content: make([]byte, 64<<10)},
			volumetest.File{Path: system + ".LOG2", ModTime: at},
			volumetest.File{Path: "Windows/System32/config/SOFTWARE", ModTime: at, Content: software},
			volumetest.File{Path: "Windows/System32/drivers/ntfs.sys", ModTime: at, Content: []byte("MZ ntfs")})
	}
	return map[string][]volumetest.File{
		"example-driver": host(hivetest.System(map[string]uint32{"acmeflt": 0, "ntfs": 0}),
			volumetest.File{Path: "Windows/System32/drivers/acmeflt.sys", ModTime: at, Content: []byte("MZ version 7.2")}),
		"example-registry": host(hivetest.Build(hivetest.Key{Name: "ROOT", Keys: []hivetest.Key{set}})),
	}
}

// hivexget reads a value as libhivex does.
func hivexget(t *testing.T, b []byte, key, name string) string {
	t.Helper()
	testenv.Need(t, "hivexget")
	file := filepath.Join(t.TempDir(), "hive")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("hivexget", file, key, name).Output()
	if err != nil {
		t.Fatalf("hivexget %s %s: %v", key, name, err)
	}
	return strings.TrimSpace(string(out))
}

// cat reads a file from a volume that nobody has mounted.
func cat(t *testing.T, img, name string) []byte {
	t.Helper()
	testenv.Need(t, "ntfscat")
	out, err := exec.Command("ntfscat", img, name).Output()
	if err != nil {
		t.Fatalf("ntfscat %s: %v", name, err)
	}
	return out
}

// permissions is the security descriptor of a file as NTFS has it.
func permissions(t *testing.T, dir, name string) string {
	t.Helper()
	b := make([]byte, 64<<10)
	n, err := unix.Getxattr(filepath.Join(dir, name), "system.ntfs_acl", b)
	if err != nil || n == 0 {
		t.Fatalf("%s: %d bytes, %v", name, n, err)
	}
	return string(b[:n])
}

// The templates do on a real file system what they say: nobody else's programs read the result
// from outside, and it is nothing but what the dry run announced.
func TestExamples(t *testing.T) {
	for name, files := range examples(t) {
		t.Run(name, func(t *testing.T) {
			pb, err := playbooks.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			img := ntfs(t, 16*mib, files)
			dry, err := diskimage.Try(pb, img)
			if err != nil || dry.Verdict() != playbooks.Faulty {
				t.Fatalf("%+v, %v", dry, err)
			}
			dir, unmount := mount(t, img, "rw")
			before := permissions(t, dir, system)
			v := openMount(t, dir)
			keep, err := playbooks.NewDirKeeper(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			found, err := pb.Apply(v, keep)
			if permissions(t, dir, system) != before {
				t.Error("the hive has other permissions than before")
			}
			if err := errors.Join(err, v.Close()); err != nil {
				t.Fatal(err)
			}
			unmount()
			r := playbooks.Result{Volumes: []playbooks.VolumeResult{playbooks.NewVolumeResult("v", found, nil)}}
			if said, did := text(dry.Unchanged()), text(r.Changed()); said != did || said == "" || len(r.Removed()) != len(dry.Left()) {
				t.Errorf("announced\n%s\nand done\n%s", said, did)
			}
			b := cat(t, img, system)
			if hive.Dirty(b) {
				t.Error("the hive is dirty")
			}
			switch name {
			case "example-driver":
				for _, set := range []string{"ControlSet001", "ControlSet002"} {
					if start := hivexget(t, b, set+`\Services\acmeflt`, "Start"); start != "4" {
						t.Errorf("Start of acmeflt is %s in %s", start, set)
					}
					if start := hivexget(t, b, set+`\Services\ntfs`, "Start"); start != "0" {
						t.Errorf("Start of ntfs is %s in %s", start, set)
					}
				}
				if len(r.Removed()) != 1 {
					t.Errorf("removed %+v", r.Removed())
				}
			default:
				if is := hivexget(t, b, `ControlSet001\Control\Session Manager\Acme`, "StartProgram"); is != `C:\Program Files\Acme\agent.exe` {
					t.Errorf("StartProgram is %s", is)
				}
			}
			again, err := diskimage.Try(pb, img)
			if err != nil || again.Affected() {
				t.Errorf("%+v, %v", again, err)
			}
		})
	}
}

func text(values []playbooks.Value) string {
	var s []string
	for _, v := range values {
		s = append(s, fmt.Sprintf("%s %s: %s -> %s", v.Path, v.Name, v.Was, v.Is))
	}
	return strings.Join(s, "\n")
}

// The boot store is on the EFI system partition, which is FAT: each size of it is read.
func TestTryBootStore(t *testing.T) {
	testenv.Need(t, "/usr/sbin/mkfs.vfat", "mmd", "mcopy")
	pb, err := playbooks.Parse("p", []byte("name: p\ntitle: p\nsteps:\n  - safeboot: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		bits string
		size int64
	}{{"12", 2 * mib}, {"16", 16 * mib}, {"32", 40 * mib}} {
		t.Run("FAT"+c.bits, func(t *testing.T) {
			dir := t.TempDir()
			esp, bcd := filepath.Join(dir, "esp.img"), filepath.Join(dir, "BCD")
			if err := errors.Join(os.WriteFile(esp, nil, 0o600), os.Truncate(esp, c.size), os.WriteFile(bcd, hivetest.BCD(hivetest.Loader), 0o600)); err != nil {
				t.Fatal(err)
			}
			sh(t, "", "/usr/sbin/mkfs.vfat", "-F", c.bits, esp)
			sh(t, "", "mmd", "-i", esp, "::/EFI", "::/EFI/Microsoft", "::/EFI/Microsoft/Boot")
			sh(t, "", "mcopy", "-i", esp, bcd, "::/EFI/Microsoft/Boot/BCD")
			disk := sfdisk(t, c.size+4*mib, fmt.Sprintf("label: gpt\nstart=2048, size=%d, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n", c.size/512))
			put(t, disk, esp, 1*mib)
			was, err := os.ReadFile(disk)
			if err != nil {
				t.Fatal(err)
			}
			r, err := diskimage.Try(pb, disk)
			if len(r.Volumes) != 1 || r.Volumes[0].Verdict != playbooks.Both {
				t.Fatalf("%+v, %v", r, err)
			}
			left := r.Unchanged()
			if len(left) != 1 || left[0].Path != "EFI/Microsoft/Boot/BCD" || left[0].Was != "Safe Mode with Networking" || !strings.Contains(left[0].Name, hivetest.Loader) {
				t.Errorf("%+v", left)
			}
			if now, err := os.ReadFile(disk); err != nil || !bytes.Equal(now, was) {
				t.Error("the image changed")
			}
		})
	}
}
