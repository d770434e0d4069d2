package proxmox_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/proxmox"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

const token = "unbrick@pve!swap=5f0c2d9a-0000-4000-8000-000000000001"

const volume = "local-lvm:vm-100-disk-1"

// windows is a guest as the installer of Windows 11 leaves it.
func windows(id int) proxmoxtest.VM {
	disk := func(n int) string { return fmt.Sprintf("local-lvm:vm-%d-disk-%d", id, n) }
	return proxmoxtest.VM{ID: id, Name: fmt.Sprintf("WS-%04d", id), Node: "pve1", Running: true, Config: map[string]string{
		"name": fmt.Sprintf("WS-%04d", id), "ostype": "win11", "bios": "ovmf", "scsihw": "virtio-scsi-single",
		"efidisk0": disk(0) + ",efitype=4m,size=4M", "tpmstate0": disk(2) + ",size=4M,version=v2.0",
		"scsi0": disk(1) + ",cache=writeback,discard=on,iothread=1,size=64G", "ide2": "none,media=cdrom",
		"boot": "order=scsi0;ide2;net0", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
		"smbios1": fmt.Sprintf("uuid=4c4c4544-0000-4000-8000-000000000%d", id),
	}}
}

func helper(id int, name, node string) proxmoxtest.VM {
	return proxmoxtest.VM{ID: id, Name: name, Node: node, Running: true, Config: map[string]string{
		"name": name, "ostype": "l26", "scsihw": "virtio-scsi-pci", "scsi0": fmt.Sprintf("local-lvm:vm-%d-disk-0,size=4G", id), "boot": "order=scsi0", "hotplug": "disk,network,usb",
	}}
}

// cluster is one with a guest, 100, that loops, and a helper, 900, beside it.
func cluster() *proxmoxtest.Server {
	s := proxmoxtest.New(token)
	s.AddStorage(proxmoxtest.Storage{ID: "local-lvm", Nodes: []string{"pve1"}})
	s.AddStorage(proxmoxtest.Storage{ID: "ceph", Shared: true, Nodes: []string{"pve1", "pve2"}})
	s.Add(windows(100))
	s.Add(helper(900, "unbrick-helper", "pve1"))
	return s
}

func line(t *testing.T, s *proxmoxtest.Server) *swaptest.Line {
	return swaptest.NewLine(t, swaptest.API{
		Server: s, Changes: func(r *http.Request) bool { return r.Method != http.MethodGet },
		// Proxmox VE itself does not throttle; what stands before it does.
		Throttle: func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "slow down", http.StatusServiceUnavailable)
		},
		Refuse: func(w http.ResponseWriter, _ *http.Request) {
			proxmoxtest.Fail(w, http.StatusForbidden, "Permission check failed (/vms/100, VM.Config.Disk)\n")
		},
	})
}

func platform(t *testing.T, url string) swap.Platform {
	t.Helper()
	t.Setenv("PROXMOX_VE_API_TOKEN", token)
	clusters, err := proxmox.Connect(1e6, api.Access{Name: "prod", URL: url, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return proxmox.New(proxmox.Options{Clusters: clusters, Every: time.Millisecond})
}

// Two clusters of one name cannot be told apart in addresses.
func TestConnect(t *testing.T) {
	t.Setenv("PROXMOX_VE_API_TOKEN", token)
	one := api.Access{URL: "https://pve1.corp.example:8006"}
	if _, err := proxmox.Connect(0, one, one); err == nil || !strings.Contains(err.Error(), "two clusters of Proxmox VE are called pve1.corp.example") {
		t.Error(err)
	}
}

// differs says what of a guest's configuration is not as it was. A snapshot that was asked for
// is its parent.
func differs(was, is map[string]string) string {
	is = maps.Clone(is)
	if strings.HasPrefix(is["parent"], "unbrick-") {
		delete(is, "parent")
	}
	if maps.Equal(was, is) {
		return ""
	}
	return fmt.Sprintf("was %v\nis  %v", was, is)
}

func TestPlatform(t *testing.T) {
	swaptest.Run(t, func(t *testing.T) swaptest.Rig {
		s := cluster()
		l := line(t, s)
		guest, beside := s.Config(100), s.Config(900)
		return swaptest.Rig{
			Platform: platform(t, l.URL), Line: l, Way: "proxmox", Address: "prod/100",
			Booted: func() (all []string) {
				for _, e := range s.Events(volume) {
					all = append(all, map[string]string{"plugged into 900": swaptest.Helper, "started with 100": drivertest.Disk}[e])
				}
				return all
			},
			Actions: s.Actions,
			Left: func() string {
				s.Settle()
				left := s.Wrong()
				if d := differs(guest, s.Config(100)); d != "" {
					left = append(left, d)
				}
				if d := differs(beside, s.Config(900)); d != "" {
					left = append(left, d)
				}
				return strings.Join(left, "\n")
			},
		}
	})
}

// A bench is a cluster with a driver that swaps on it.
type bench struct {
	*proxmoxtest.Server
	line    *swaptest.Line
	driver  *swap.Driver
	records *rescue.MemRecords
}

func newBench(t *testing.T, change func(o *swap.Options)) *bench {
	t.Helper()
	b := &bench{Server: cluster(), records: &rescue.MemRecords{}}
	b.line = line(t, b.Server)
	o := swap.Options{Way: "proxmox", Platform: platform(t, b.line.URL), Desk: new(swaptest.Desk), Records: b.records, Every: time.Millisecond}
	if change != nil {
		change(&o)
	}
	b.driver = swap.New(o)
	return b
}

func target(host, address string) remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: host}, Route: inventory.Route{Driver: "proxmox", Address: address}}
}

// again calls until it goes well, as the engine does while an error may pass.
func again(t *testing.T, call func() error) {
	t.Helper()
	var err error
	for range 50 {
		if err = call(); err == nil {
			return
		}
	}
	t.Error(err)
}

func wants(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// Two guests on one helper at once, under keys of their own.
func TestTwoAtOnce(t *testing.T) {
	b := newBench(t, nil)
	b.Add(windows(101))
	was := map[int]map[string]string{100: b.Config(100), 101: b.Config(101), 900: b.Config(900)}
	var all sync.WaitGroup
	do := func(call func(remediate.Target) error) {
		for _, id := range []int{100, 101} {
			all.Go(func() {
				again(t, func() error { return call(target(fmt.Sprint("h", id), fmt.Sprint("prod/", id))) })
			})
		}
		all.Wait()
	}
	do(func(tg remediate.Target) error { return b.driver.Enter(t.Context(), tg, remediate.Image{}) })
	marks := map[string]bool{}
	for key, value := range b.Config(900) {
		if _, serial, ok := strings.Cut(value, "serial="); ok {
			marks[serial] = true
			if !strings.HasSuffix(value, ",backup=0,replicate=0") {
				t.Errorf("%s: %s", key, value)
			}
		}
	}
	if len(marks) != 2 || b.Config(100)["unused0"] != volume || b.Config(100)["boot"] != "order=ide2;net0" {
		t.Errorf("on the helper: %v\non 100: %v", b.Config(900), b.Config(100))
	}
	do(func(tg remediate.Target) error { return b.driver.Leave(t.Context(), tg, remediate.Posture{}) })
	for id, config := range was {
		if d := differs(config, b.Config(id)); d != "" {
			t.Errorf("%d %s", id, d)
		}
	}
	if w := b.Wrong(); len(w) > 0 {
		t.Error(w)
	}
}

// What must not be swapped is refused before anything is changed, and says what to do instead.
func TestRefusals(t *testing.T) {
	set := func(key, value string) func(*proxmoxtest.Server) {
		return func(s *proxmoxtest.Server) { s.Change(100, func(v *proxmoxtest.VM) { v.Config[key] = value }) }
	}
	beside := func(key, value string) func(*proxmoxtest.Server) {
		return func(s *proxmoxtest.Server) { s.Change(900, func(v *proxmoxtest.VM) { v.Config[key] = value }) }
	}
	for name, c := range map[string]struct {
		change  func(*proxmoxtest.Server)
		address string
		want    string
	}{
		"locked":      {set("lock", "backup"), "", "qm unlock 100"},
		"hibernated":  {set("lock", "suspended"), "", "memory was saved"},
		"protected":   {set("protection", "1"), "", "--protection 0"},
		"template":    {set("template", "1"), "", "repair what was cloned"},
		"HA":          {func(s *proxmoxtest.Server) { s.Change(100, func(v *proxmoxtest.VM) { v.HA = "started" }) }, "", "--state ignored"},
		"a path":      {set("scsi0", "/dev/disk/by-id/ata-1"), "", "passed through"},
		"shared":      {set("scsi0", "ceph:vm-200-disk-0"), "", "belongs to guest 200"},
		"read-only":   {set("scsi0", volume+",ro=1"), "", "read-only"},
		"not kept":    {set("scsi0", volume+",snapshot=1"), "", "snapshot=0"},
		"no disk":     {nil, "prod/100?disk=sata3", "has no disk sata3"},
		"a CD-ROM":    {nil, "prod/100?disk=ide2", "has no disk ide2"},
		"which disk":  {func(s *proxmoxtest.Server) { set("boot", "order=net0")(s); set("scsi1", volume+"9")(s) }, "", "?disk=scsi0"},
		"a helper":    {nil, "prod/900", "it is a helper"},
		"no guest":    {nil, "prod/555", "VM.Audit on /vms/555"},
		"no cluster":  {nil, "test/100", "there are: prod"},
		"unseen":      {func(s *proxmoxtest.Server) { s.Deny("/vms/100", "VM.Audit") }, "", "VM.Audit on /vms/100"},
		"container":   {func(s *proxmoxtest.Server) { s.Add(proxmoxtest.VM{ID: 101, Name: "ct", Node: "pve1", Container: true}) }, "prod/101", "container"},
		"other node":  {func(s *proxmoxtest.Server) { s.Change(900, func(v *proxmoxtest.VM) { v.Node = "pve2" }) }, "", "on node pve1 alone"},
		"no helper":   {func(s *proxmoxtest.Server) { s.Change(900, func(v *proxmoxtest.VM) { v.Running = false }) }, "", "no helper"},
		"no hotplug":  {beside("hotplug", "network,usb"), "", "--hotplug network,disk,usb"},
		"old SCSI":    {beside("scsihw", "lsi"), "", "--scsihw virtio-scsi-pci"},
		"twin helper": {func(s *proxmoxtest.Server) { s.Add(helper(901, "unbrick-helper", "pve1")) }, "", "a name of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			if c.change != nil {
				c.change(b.Server)
			}
			if c.address == "" {
				c.address = "prod/100"
			}
			_, err := b.driver.Observe(t.Context(), target("h1", c.address))
			wants(t, err, c.want)
			if b.Actions() > 0 {
				t.Error("something was changed")
			}
		})
	}
}

// An id that was given to another guest is not the host, if the inventory knows its UUID.
func TestAnotherGuest(t *testing.T) {
	b := newBench(t, nil)
	tg := target("h1", "100")
	tg.Host.UUID = "4c4c4544-0000-4000-8000-000000000100"
	p, err := b.driver.Observe(t.Context(), tg)
	if err != nil || p.Power != "on" || p.Detail["volume"] != volume+" as scsi0 of 100 (WS-0100)" || !strings.Contains(p.Detail["tpm"], "recovery key") {
		t.Errorf("%v, %v", p, err)
	}
	tg.Host.UUID = "4c4c4544-0000-4000-8000-000000000777"
	_, err = b.driver.Observe(t.Context(), tg)
	wants(t, err, "an id is used again")
}

// A volume on shared storage may go to a helper on another node.
func TestOtherNode(t *testing.T) {
	b := newBench(t, nil)
	v := windows(102)
	v.Config["scsi0"] = "ceph:vm-102-disk-1,size=64G"
	b.Add(v)
	b.Change(900, func(v *proxmoxtest.VM) { v.Node = "pve2" })
	was := b.Config(102)
	tg := target("h1", "prod/102")
	again(t, func() error { return b.driver.Enter(t.Context(), tg, remediate.Image{}) })
	again(t, func() error { return b.driver.Leave(t.Context(), tg, remediate.Posture{}) })
	if d := differs(was, b.Config(102)); d != "" || fmt.Sprint(b.Events("ceph:vm-102-disk-1")) != "[plugged into 900 started with 102]" {
		t.Error(d, b.Events("ceph:vm-102-disk-1"))
	}
}

// A helper that takes a disk only at its next start does not keep it until then, and one that
// does not let go of a disk is asked again.
func TestStubbornHelper(t *testing.T) {
	b := newBench(t, nil)
	guest, beside := b.Config(100), b.Config(900)
	tg := target("h1", "prod/100")
	b.FailPlug(900)
	wants(t, b.driver.Enter(t.Context(), tg, remediate.Image{}), "hotplug problem")
	if d := differs(beside, b.Config(900)); d != "" {
		t.Error(d)
	}
	if err := b.driver.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	b.FailUnplug(900)
	wants(t, b.driver.Leave(t.Context(), tg, remediate.Posture{}), "hotplug problem")
	again(t, func() error { return b.driver.Leave(t.Context(), tg, remediate.Posture{}) })
	if d := differs(guest, b.Config(100)) + differs(beside, b.Config(900)); d != "" || len(b.Wrong()) > 0 {
		t.Error(d, b.Wrong())
	}
}

// A disk that is back while its order of boot is not goes on from there, forth or back.
func TestHalfBack(t *testing.T) {
	for _, again := range []bool{false, true} {
		b := newBench(t, func(o *swap.Options) { o.Snapshot = true })
		was, tg := b.Config(100), target("h1", "prod/100")
		enter := func() error { return b.driver.Enter(t.Context(), tg, remediate.Image{}) }
		leave := func() error { return b.driver.Leave(t.Context(), tg, remediate.Posture{}) }
		if err := enter(); err != nil {
			t.Fatal(err)
		}
		b.FailBoot(100)
		wants(t, leave(), "No space left")
		if is := b.Config(100); is["scsi0"] != was["scsi0"] || is["boot"] == was["boot"] || is["running"] != "false" {
			t.Errorf("it is %v", is)
		}
		if again {
			if err := enter(); err != nil {
				t.Fatal(err)
			}
		}
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		if d := differs(was, b.Config(100)); d != "" || len(b.Wrong()) > 0 || len(b.Snapshots(100)) != 1 {
			t.Error(d, b.Wrong(), b.Snapshots(100))
		}
	}
}

// The place of the disk that somebody has taken meanwhile is not taken from them.
func TestPlaceTaken(t *testing.T) {
	b := newBench(t, nil)
	tg := target("h1", "prod/100")
	if err := b.driver.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	b.Change(100, func(v *proxmoxtest.VM) { v.Config["scsi0"] = "local-lvm:vm-100-disk-7" })
	wants(t, b.driver.Leave(t.Context(), tg, remediate.Posture{}), "qm set 100 --delete scsi0")
	b.Change(100, func(v *proxmoxtest.VM) { delete(v.Config, "scsi0") })
	again(t, func() error { return b.driver.Leave(t.Context(), tg, remediate.Posture{}) })
}

// A disk that somebody hung on the helper is left to them.
func TestElsewhere(t *testing.T) {
	b := newBench(t, nil)
	tg := target("h1", "prod/100")
	if err := b.driver.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	b.Change(900, func(v *proxmoxtest.VM) { v.Config["scsi1"] = volume })
	wants(t, b.driver.Leave(t.Context(), tg, remediate.Posture{}), "did not hang it there")
}

// A missing right is named as Proxmox names it.
func TestRights(t *testing.T) {
	for right, path := range map[string]string{"VM.PowerMgmt": "/vms/100", "VM.Config.Disk": "/vms/900", "VM.Snapshot": "/vms/100"} {
		b := newBench(t, func(o *swap.Options) { o.Snapshot = true })
		b.Deny(path, right)
		wants(t, b.driver.Enter(t.Context(), target("h1", "prod/100"), remediate.Image{}), "("+path+", "+right+")")
		_ = b.driver.Leave(context.WithoutCancel(t.Context()), target("h1", "prod/100"), remediate.Posture{})
	}
}

func TestSnapshot(t *testing.T) {
	b := newBench(t, func(o *swap.Options) { o.Snapshot = true })
	tg := target("h1", "prod/100")
	for range 2 {
		if err := b.driver.Enter(t.Context(), tg, remediate.Image{}); err != nil {
			t.Fatal(err)
		}
	}
	again(t, func() error { return b.driver.Leave(t.Context(), tg, remediate.Posture{}) })
	all, err := swap.NewJournal(b.records).All(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if got := b.Snapshots(100); len(got) != 1 || proxmox.Removal(all[0]) != "qm delsnapshot 100 "+got[0] {
		t.Errorf("%v, %q", got, proxmox.Removal(all[0]))
	}
	b = newBench(t, func(o *swap.Options) { o.Snapshot = true })
	b.AddStorage(proxmoxtest.Storage{ID: "lvm", Nodes: []string{"pve1"}, NoSnapshots: true})
	v := windows(103)
	v.Config["scsi0"] = "lvm:vm-103-disk-1"
	b.Add(v)
	wants(t, b.driver.Enter(t.Context(), target("h3", "prod/103"), remediate.Image{}), "vzdump it yourself")
}
