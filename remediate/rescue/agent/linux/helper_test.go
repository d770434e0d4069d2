//go:build linux

package linux

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDiskMarks says by what a disk is known, whatever the kernel calls it today.
func TestDiskMarks(t *testing.T) {
	dir := sysfs(t, map[string]string{
		"block/vda/serial": "unbrick-0123456789ab", "block/nvme0n1/device/serial": "vol0abc               \n",
		"devices/2:0:3:1/vpd_pg80": "\x00\x80\x00\x14unbrick-cafecafecafe", "block/sdb/device": "->../../devices/2:0:3:1",
		"devices/2:0:4:7/vpd_pg80": "\x00\x80\x00\x03\x01\x02\x03", "block/sdc/device": "->../../devices/2:0:4:7",
		"devices/0:0:5:9/vpd_pg83": "\x00\x83\x00\x18\x02\x00\x00\x14unbrick-0000googleee", "block/sdg/device": "->../../devices/0:0:5:9",
		"block/sdd/serial": "same", "block/sde/serial": "same", "block/sdf/size": "1", "block/loop0/serial": "unbrick-loop",
	})
	r := &rack{sysfs: dir, dev: filepath.Join(dir, "dev"), log: slog.New(slog.DiscardHandler)}
	got, err := r.Disks(t.Context())
	want := []string{"lun:1", "lun:7", "lun:9", "unbrick-0000googleee", "unbrick-0123456789ab", "unbrick-cafecafecafe", "vol0abc"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if _, err := r.Machine("same").Volumes(t.Context()); err == nil || !strings.Contains(err.Error(), "2 disks") {
		t.Errorf("two disks with one mark: %v", err)
	}
	if id, err := r.Machine("lun:1").Identity(); err != nil || id.UUID != "" || id.Serial != "" || len(id.MAC) > 0 {
		t.Errorf("it says that it is %+v, %v", id, err)
	}
}

// TestTableID reads the identifiers of both kinds of partition tables.
func TestTableID(t *testing.T) {
	gpt := make([]byte, 8192)
	copy(gpt[512:], "EFI PART")
	copy(gpt[512+56:], "0123456789abcdef")
	gpt[510], gpt[511] = 0x55, 0xAA
	mbr := make([]byte, 8192)
	copy(mbr[440:], "\x01\x02\x03\x04")
	mbr[510], mbr[511] = 0x55, 0xAA
	dir := sysfs(t, map[string]string{"gpt": string(gpt), "mbr": string(mbr), "none": string(make([]byte, 8192)), "short": "x"})
	for name, want := range map[string]string{"gpt": "30313233343536373839616263646566", "mbr": "01020304", "none": "", "short": "", "absent": ""} {
		if got := tableID(filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
