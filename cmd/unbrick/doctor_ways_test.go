package main

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/inventory/sourcetest"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
)

// A pve is a cluster with a host, WS-1, that has a snapshot, and a helper.
func pve(token string) *proxmoxtest.Server {
	s := proxmoxtest.New(token)
	s.AddStorage(proxmoxtest.Storage{ID: "lvm", Nodes: []string{"pve1"}})
	s.Add(proxmoxtest.VM{ID: 100, Name: "WS-1", Node: "pve1", Running: true, Config: map[string]string{"name": "WS-1", "ostype": "win11", "scsihw": "virtio-scsi-pci", "scsi0": "lvm:vm-100-disk-0,size=64G", "boot": "order=scsi0"}})
	s.Add(proxmoxtest.VM{ID: 900, Name: "unbrick-helper", Node: "pve1", Running: true, Config: map[string]string{"name": "unbrick-helper", "ostype": "l26", "scsihw": "virtio-scsi-pci", "scsi0": "lvm:vm-900-disk-0,size=4G", "boot": "order=scsi0"}})
	s.Snapshot(100, "nightly")
	return s
}

// TestDoctorWays: each way into virtual hosts that a run would take is asked for what it needs.
func TestDoctorWays(t *testing.T) {
	const token = "unbrick@pve!doctor=" + sourcetest.Secret
	const fleet = "name,site,proxmox\nWS-1,SYD,prod/100\n"
	const both = "ladder: [{way: proxmox}, {way: proxmox-rollback}]\nallow: {rollback: true}\nincident: {from: 2025-01-01T00:00:00Z, until: 2025-01-02T00:00:00Z}\n"
	for name, c := range map[string]struct {
		change func(s *proxmoxtest.Server)
		fleet  string
		more   string
		want   []diagnosis // in order
	}{
		"all is there": {nil, fleet, both, []diagnosis{{State: "ok", Found: "WS-1 by proxmox: the platform answers, nothing is missing that can be asked for, and unbrick-helper takes"},
			{State: "ok", Found: "WS-1 by proxmox-rollback: the platform answers"}}},
		"a right": {func(s *proxmoxtest.Server) {
			s.Deny("/vms/900", "VM.Config.Disk")
			s.Deny("/vms/100", "VM.Snapshot.Rollback")
		}, fleet, both, []diagnosis{{State: "missing", Found: "WS-1 by proxmox: the account lacks", Right: "VM.Config.Disk on /vms/900", Hint: "pveum acl modify"},
			{State: "missing", Found: "WS-1 by proxmox-rollback: the account lacks", Right: "VM.Snapshot.Rollback on /vms/100"}}},
		"not of this way": {func(s *proxmoxtest.Server) { s.Deny("/vms/100", "VM.Snapshot.Rollback") }, fleet, "", []diagnosis{{State: "ok", Found: "WS-1 by proxmox: "}}},
		"the host": {func(s *proxmoxtest.Server) {
			s.Change(100, func(v *proxmoxtest.VM) { v.Config["protection"] = "1" })
		}, fleet, "", []diagnosis{{State: "warning", Found: "protection flag", Hint: "others may be taken"}}},
		"stopped":             {func(s *proxmoxtest.Server) { s.Change(900, func(v *proxmoxtest.VM) { v.Running = false }) }, fleet, "", []diagnosis{{State: "missing", Found: "no helper for proxmox prod/100 runs"}}},
		"helper of the fleet": {nil, fleet + "unbrick-helper,SYD,prod/900\n", "", []diagnosis{{State: "missing", Found: "the helper unbrick-helper is the host unbrick-helper of the fleet", Hint: "leave it out"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := pve(token), t.TempDir()
			if c.change != nil {
				c.change(s)
			}
			server := httptest.NewServer(s)
			defer server.Close()
			write(t, filepath.Join(dir, "fleet.csv"), c.fleet)
			diagnosed(t, diagnose(t, dir, fmt.Sprintf("inventory: fleet.csv\nstate: unbrick.db\nswap: {proxmox: [{name: prod, url: %q, token: %q}]}\n", server.URL, sourcetest.Secretly(t, token))+c.more)["SYD"], c.want)
			if s.Actions() > 0 {
				t.Error("something was changed")
			}
		})
	}
}

// TestDoctorDeadWay: a platform that does not answer is asked once, and one that nobody needs not
// at all.
func TestDoctorDeadWay(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "fleet.csv"), "name,site,proxmox\nWS-1,SYD,prod/100\n")
	found := diagnose(t, dir, fmt.Sprintf("inventory: fleet.csv\nstate: unbrick.db\nswap: {proxmox: [{name: prod, url: \"http://127.0.0.1:1\", token: %q}], gce: {discard_local_ssd: true}}\n", sourcetest.Secretly(t, "u@pve!t="+sourcetest.Secret)))
	diagnosed(t, found["SYD"], []diagnosis{{State: "missing", Found: "WS-1 by proxmox: cannot list the guests on cluster prod: cannot reach Proxmox VE", Hint: "swap: of the configuration"}})
	diagnosed(t, found["swap.gce"], []diagnosis{{State: "warning", Found: "no host of the fleet has it"}})
}

func diagnosed(t *testing.T, got, want []diagnosis) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
	for i, w := range want {
		d := got[i]
		if d.State != w.State || !strings.Contains(d.Found, w.Found) || d.Right != w.Right || !strings.Contains(d.Hint, w.Hint) {
			t.Errorf("got  %+v\nwant %+v", d, w)
		}
	}
}
