package proxmox

import (
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for text, want := range map[string]address{
		"prod/100":            {"prod", 100, ""},
		"100":                 {"", 100, ""},
		"prod/100?disk=scsi1": {"prod", 100, "scsi1"},
		"pve1.corp/999999999": {"pve1.corp", 999999999, ""},
	} {
		if got, err := parseAddress(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":                         "no id of a virtual machine",
		"prod":                     "no id of a virtual machine",
		"prod/99":                  "no id of a virtual machine",
		"prod/0100":                "no id of a virtual machine",
		"prod/100/../../200":       "no id of a virtual machine",
		"/100":                     "names no cluster",
		"https://pve1:8006/100":    "write CLUSTER/VMID",
		"prod/100?disk=efidisk0":   "is no disk",
		"prod/100?disk=scsi31":     "is no disk",
		"prod/100?disk=scsi0,lock": "is no disk",
	} {
		if _, err := parseAddress(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestOwner(t *testing.T) {
	for volume, want := range map[string]string{
		"local-lvm:vm-100-disk-0": "100", "nfs:100/vm-100-disk-0.qcow2": "100", "zfs:base-9000-disk-0/vm-100-disk-1": "100",
		"nfs:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2": "100", "local-lvm:base-9000-disk-0": "9000", "iscsi:0.0.1.scsi-36": "",
	} {
		if got := owner(volume); got != want {
			t.Errorf("%s is %q's, want %q", volume, got, want)
		}
	}
}
