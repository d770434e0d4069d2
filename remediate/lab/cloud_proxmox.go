package lab

import (
	"fmt"
	"strings"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
)

// proxmoxHelper is the id of the helper.
const proxmoxHelper = 900

func newProxmox(_, url string) (*cloud, error) {
	const token = "unbrick@pve!lab=5f0c2d9a-0000-4000-8000-000000000001"
	s := proxmoxtest.New(token)
	s.AddStorage(proxmoxtest.Storage{ID: "local-lvm", Nodes: []string{"pve1"}})
	s.Add(proxmoxtest.VM{ID: proxmoxHelper, Name: helperName, Node: "pve1", Running: true, Config: map[string]string{
		"name": helperName, "ostype": "l26", "scsihw": "virtio-scsi-pci", "boot": "order=scsi0", "hotplug": "disk,network,usb",
		"scsi0": fmt.Sprintf("local-lvm:vm-%d-disk-0,size=4G", proxmoxHelper)}})
	id := 100
	return &cloud{
		kind:    "proxmox",
		source:  fmt.Sprintf("name: lab, url: %q, token: \"file:proxmox-token\", windows: true", url),
		swap:    fmt.Sprintf("[{name: lab, url: %q, token: \"file:proxmox-token\"}]", url),
		handler: s,
		helper:  helperName,
		mute:    true,
		files:   map[string]string{"proxmox-token": token + "\n"},
		snapshots: func() (n int) {
			for guest := 100; guest < id; guest++ {
				n += len(s.Snapshots(guest))
			}
			return n
		},
		settle: s.Settle,
		launch: func(h spec, _ string, protected bool) (placed, error) {
			guest, volume := id, fmt.Sprintf("local-lvm:vm-%d-disk-1", id)
			id++
			vm := proxmoxtest.VM{ID: guest, Name: h.Name, Node: "pve1", Running: true, Config: map[string]string{
				"name": h.Name, "ostype": "win11", "bios": "ovmf", "scsihw": "virtio-scsi-single", "boot": "order=scsi0",
				"scsi0": volume + ",cache=writeback,discard=on,size=64G", "net0": "virtio=" + strings.ToUpper(h.board.mac) + ",bridge=vmbr0",
				"smbios1": "uuid=" + h.UUID}}
			if protected {
				vm.HA = "started"
			}
			s.Add(vm)
			return placed{address: fmt.Sprintf("lab/%d", guest),
				look: func() sight { return lookProxmox(s, guest, volume) }, shown: func() string { return showProxmox(s, guest) }}, nil
		},
	}, nil
}

func lookProxmox(s *proxmoxtest.Server, guest int, volume string) (t sight) {
	own := s.Config(guest)
	t.runs = own["running"] == "true" && strings.HasPrefix(own["scsi0"], volume+",")
	for key, value := range s.Config(proxmoxHelper) {
		first, named := api.Properties(value)
		if first == volume && !strings.HasPrefix(key, "pending ") {
			t.mark = named["serial"]
		}
	}
	return t
}

func showProxmox(s *proxmoxtest.Server, guest int) string {
	own := s.Config(guest)
	delete(own, "parent") // a snapshot
	return fmt.Sprint(own)
}
