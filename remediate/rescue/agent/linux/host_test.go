//go:build linux

package linux

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue/agent/linux/ntfstest"
)

// sysfs makes a folder with files by name; a content that begins with "->" is a link.
func sysfs(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(p), 0o700)
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = errors.Join(err, os.Symlink(target, p))
		} else {
			err = errors.Join(err, os.WriteFile(p, []byte(content), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sector is a boot sector of that kind.
func sector(signature string) string {
	return "\xeb\x52\x90" + signature + strings.Repeat("\x00", 512-3-len(signature))
}

func TestScan(t *testing.T) {
	raid := strings.Repeat("\x00", 4096-1024) + "Intel Raid ISM Cfg Sig. 1.0" + strings.Repeat("\x00", 1024-27)
	dir := sysfs(t, map[string]string{
		"dev/sda": strings.Repeat("\x00", 4096), "dev/sda1": sector("MSDOS5.0"), "dev/sda2": sector(ntfsSignature), "dev/sda3": sector(bitlockerSignature),
		"dev/sdb": raid, "dev/sdb1": sector(ntfsSignature),
		"dev/sdc": sector(ntfsSignature), "dev/sdd": "short",
		"dev/sr0": sector(ntfsSignature), "dev/loop0": sector(ntfsSignature), "dev/dm-0": sector(ntfsSignature),

		"block/sda/sda1/partition": "1\n", "block/sda/sda2/partition": "2\n", "block/sda/sda3/partition": "3\n",
		"block/sdb/sdb1/partition": "1\n", "block/sdc/size": "8\n", "block/sdd/size": "0\n", "block/sde/size": "0\n",
		"block/sr0/size": "1\n", "block/loop0/size": "1\n", "block/dm-0/size": "1\n",
		"class/sda": "->../block/sda", "class/sda1": "->../block/sda/sda1", "class/sda2": "->../block/sda/sda2", "class/sda3": "->../block/sda/sda3",
		"class/sdb": "->../block/sdb", "class/sdb1": "->../block/sdb/sdb1", "class/sdc": "->../block/sdc",
		"class/sdd": "->../block/sdd", "class/sde": "->../block/sde",
		"class/sr0": "->../block/sr0", "class/loop0": "->../block/loop0", "class/dm-0": "->../block/dm-0",
	})
	got, err := scan(filepath.Join(dir, "class"), filepath.Join(dir, "dev"))
	if err != nil {
		t.Fatal(err)
	}
	want := []disk{
		{path: filepath.Join(dir, "dev/sda2"), whole: "sda"},
		{path: filepath.Join(dir, "dev/sda3"), whole: "sda", locked: true},
		{path: filepath.Join(dir, "dev/sdb1"), whole: "sdb", mirrored: true},
		{path: filepath.Join(dir, "dev/sdc"), whole: "sdc"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestPartitionOf(t *testing.T) {
	testenv.Need(t, "mkntfs", "wimapply", "/usr/sbin/sfdisk")
	whole := ntfstest.Disk(t, ntfstest.Volume(t, ntfstest.File{Name: "x", Content: "x"}))
	for start, want := range map[string]string{"2048\n": "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "4096\n": ""} {
		dir := sysfs(t, map[string]string{"sda/sda1/start": start, "sda/queue/logical_block_size": "512\n"})
		if got := strings.ToLower(partitionOf(whole, filepath.Join(dir, "sda", "sda1")).GUID); got != want {
			t.Errorf("the partition at sector %q is %q, want %q", start, got, want)
		}
	}
}

func TestReadIdentity(t *testing.T) {
	dir := sysfs(t, map[string]string{
		"dmi/id/product_uuid": "4C4C4544-0042-3510-8052-B4C04F4E3132\n", "dmi/id/product_serial": "SN0001 \n",
		"dmi/id/sys_vendor": "Contoso\n",
		"net/eth1/address":  "52:54:00:AB:00:02\n", "net/eth1/device/x": "", "net/eth0/address": "52:54:00:ab:00:01\n", "net/eth0/device/x": "",
		"net/lo/address": "00:00:00:00:00:00\n", "net/ib0/address": "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:51\n", "net/ib0/device/x": "",
	})
	got, err := readIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got.UUID != "4c4c4544-0042-3510-8052-b4c04f4e3132" || got.Serial != "SN0001" || got.Vendor != "Contoso" || got.Product != "" ||
		!slices.Equal(got.MAC, []string{"52:54:00:ab:00:01", "52:54:00:ab:00:02"}) {
		t.Errorf("got %+v", got)
	}
}

func TestAliases(t *testing.T) {
	for _, c := range []struct {
		line, device string
		want         bool
	}{
		{"alias pci:v00001AF4d00001001sv*sd*bc*sc*i* virtio_pci", "pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", true},
		{"alias pci:v00001AF4d00001001sv*sd*bc*sc*i* virtio_pci", "pci:v00001AF4d00001000sv00001AF4sd00000002bc01sc00i00", false},
		{"alias acpi*:PNP0303:* i8042", "acpi:PNP0303:", true},
		{"alias usb:v0BDAp8152d*dc*dsc*dp*icFFiscFFip00in* r8152", "usb:v0BDAp8152d2000dc00dsc00dp00icFFiscFFip00in00", true},
		{"alias hid:b[0-9]*g*v*p* hid_generic", "hid:b0003g0001v00000627p00000001", true},
		{"alias fs-ntfs3 ntfs3", "fs-ntfs3", true},
	} {
		a, ok := parseAlias(c.line)
		if !ok || a.matches(c.device) != c.want {
			t.Errorf("%s serves %s: want %t", c.line, c.device, c.want)
		}
	}
	for _, line := range []string{"", "# Aliases extracted from modules themselves.", "alias x", "softdep a pre: b"} {
		if _, ok := parseAlias(line); ok {
			t.Errorf("%q is an alias", line)
		}
	}
}

func TestParseEnding(t *testing.T) {
	usual := ending{"wait", 10 * time.Minute, 2 * time.Hour}
	for cmdline, want := range map[string]ending{
		"console=ttyS0 quiet\n":                          usual,
		"unbrick.end=poweroff":                           {"poweroff", usual.wait, usual.limit},
		"unbrick.end=reboot unbrick.wait=5s":             {"reboot", 5 * time.Second, usual.limit},
		"unbrick.limit=30m":                              {"wait", usual.wait, 30 * time.Minute},
		"unbrick.end=never unbrick.wait=x unbrick.limit": usual,
		"unbrick.limit=0s unbrick.wait=-1s":              usual,
	} {
		if got := parseEnding(cmdline); got != want {
			t.Errorf("%q: got %+v, want %+v", cmdline, got, want)
		}
	}
}

func TestHostPort(t *testing.T) {
	for url, want := range map[string]string{"https://10.1.2.3:8443": "10.1.2.3:8443", "https://rescue.corp": "rescue.corp:443", "https://[fd00::1]:8443": "[fd00::1]:8443"} {
		if got := hostPort(url); got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
}

func TestGuardTurnsAPanicIntoAnError(t *testing.T) {
	err := guard(func() error { panic("with words that must stay inside") })
	if err == nil || strings.Contains(err.Error(), "must stay inside") {
		t.Errorf("got %v", err)
	}
	if err := guard(func() error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
