package rollback_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/swap/swaptest"
)

const token = "unbrick@pve!back=5f0c2d9a-0000-4000-8000-000000000001"

// newCluster is one with a machine, 100, that loops, and its snapshot nightly.
func newCluster(kind string) *proxmoxtest.Server {
	s := proxmoxtest.New(token)
	s.AddStorage(proxmoxtest.Storage{ID: "local", Nodes: []string{"pve1"}, Kind: kind})
	s.Add(proxmoxtest.VM{ID: 100, Name: "WS-0100", Node: "pve1", Running: true, Config: map[string]string{
		"name": "WS-0100", "ostype": "win11", "efidisk0": "local:vm-100-disk-0,size=4M", "scsi0": "local:vm-100-disk-1,size=64G", "ide2": "none,media=cdrom",
		"smbios1": "uuid=4c4c4544-0000-4000-8000-000000000100"}})
	s.Snapshot(100, "nightly")
	return s
}

func clusterPlatform(t *testing.T, s *proxmoxtest.Server) (*swaptest.Line, rollback.Platform) {
	t.Helper()
	t.Setenv("PROXMOX_VE_API_TOKEN", token)
	l := swaptest.NewLine(t, swaptest.API{Server: s, Changes: func(r *http.Request) bool { return r.Method != http.MethodGet }})
	c, err := api.Connect(api.Access{Name: "prod", URL: l.URL, Pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return l, rollback.Proxmox(rollback.ProxmoxOptions{Clusters: []*api.Client{c}, Every: time.Millisecond})
}

// count is how often something of that kind became of the machine.
func count(s *proxmoxtest.Server, of, what string) (n int) {
	for _, e := range s.Events(of) {
		if strings.HasPrefix(e, what) {
			n++
		}
	}
	return n
}

// TestProxmox passes the suite over a cluster that is played, cut at every request.
func TestProxmox(t *testing.T) {
	drivertest.RunRepairer(t, func(t *testing.T) drivertest.Patient {
		s := newCluster("")
		l, p := clusterPlatform(t, s)
		m := machine{platform: p, address: "prod/100",
			start:     func() { s.Change(100, func(v *proxmoxtest.VM) { v.Running = true }) },
			snapshots: func() ([]string, string) { s.Settle(); return s.Snapshots(100), s.Config(100)["parent"] },
			backs:     func() int { return count(s, "guest 100", "went to ") },
			starts:    func() int { s.Settle(); return count(s, "local:vm-100-disk-1", "started with") }}
		patient := m.patient(t, "proxmox-rollback")
		patient.Requests, patient.Cut, patient.Revive, patient.Hang = l.Requests, l.Cut, l.Revive, l.Hang
		return patient
	})
}

// TestProxmoxRefuses: machines of Proxmox VE that must not go back, each told what to do.
func TestProxmoxRefuses(t *testing.T) {
	for want, change := range map[string]func(v *proxmoxtest.VM){
		"is on ZFS, where no snapshot of the present":                                     nil,
		"is not rolled back to ram of 2023-11-14 22:13:20 UTC: it has the memory of then": nil,
		"it is locked (backup)\nwait":                                                     func(v *proxmoxtest.VM) { v.Config["lock"] = "backup" },
		"the HA manager looks after it":                                                   func(v *proxmoxtest.VM) { v.HA = "started" },
		"the machine had other disks then: [\"efidisk0":                                   func(v *proxmoxtest.VM) { v.Config["scsi1"] = "local:vm-100-disk-2" },
	} {
		kind := ""
		if strings.Contains(want, "ZFS") {
			kind = "zfspool"
		}
		s := newCluster(kind)
		if change != nil {
			s.Change(100, change)
		} else if kind == "" {
			s.Change(100, func(v *proxmoxtest.VM) { v.Config["vmstate"] = "local:vm-100-state-ram" })
			s.Snapshot(100, "ram")
			s.Change(100, func(v *proxmoxtest.VM) { delete(v.Config, "vmstate") })
		} else {
			s.Change(100, func(v *proxmoxtest.VM) { delete(v.Config, "efidisk0") })
		}
		_, p := clusterPlatform(t, s)
		o, target := options(p), paperTarget("r1", 1)
		target.Route.Address = "100"
		if _, err := rollback.New(o).Observe(t.Context(), target); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
		if s.Actions() > 0 {
			t.Errorf("%s: it was touched", want)
		}
	}
}

// TestProxmoxUnseenZFS: where the token may not see that a storage is ZFS, the machine is started
// as it was when Proxmox refuses.
func TestProxmoxUnseenZFS(t *testing.T) {
	s := newCluster("zfspool")
	s.Deny("/storage/local", "Datastore.Audit")
	_, p := clusterPlatform(t, s)
	o, target := options(p), paperTarget("r1", 1)
	target.Route.Address = "100"
	d := rollback.New(o)
	before, err := d.Observe(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Repair(t.Context(), target, nil); err == nil || !strings.Contains(err.Error(), "is not most recent snapshot") {
		t.Errorf("repair: %v", err)
	}
	if err := d.Leave(t.Context(), target, before); err != nil {
		t.Fatal(err)
	}
	if is := s.Config(100); is["running"] != "true" || !strings.HasPrefix(is["parent"], "unbrick-") {
		t.Errorf("it is %v", is)
	}
}

// TestProxmoxHalfWay: a machine whose node went down while it went back is never started so: it
// is told how to go on by hand, and goes on by itself when it is unlocked.
func TestProxmoxHalfWay(t *testing.T) {
	s := newCluster("")
	_, p := clusterPlatform(t, s)
	o, target := options(p), paperTarget("r1", 1)
	target.Route.Address = "100"
	d := rollback.New(lockedAfterKeep(o, s))
	if _, err := d.Repair(t.Context(), target, nil); err == nil || !strings.Contains(err.Error(), "qm unlock 100, then at once qm rollback 100") {
		t.Errorf("repair: %v", err)
	}
	if err := d.Leave(t.Context(), target, remediate.Posture{}); err == nil || s.Config(100)["running"] == "true" {
		t.Errorf("leave: %v, running %s", err, s.Config(100)["running"])
	}
	s.Change(100, func(v *proxmoxtest.VM) { delete(v.Config, "lock") })
	if _, err := rollback.New(o).Repair(t.Context(), target, nil); err != nil || s.Config(100)["parent"] != "nightly" {
		t.Errorf("unlocked: %v, at %s", err, s.Config(100)["parent"])
	}
}

// lockedAfterKeep has the node go down as soon as the present is kept.
func lockedAfterKeep(o rollback.Options, s *proxmoxtest.Server) rollback.Options {
	o.Platform = locking{o.Platform, s}
	return o
}

type locking struct {
	rollback.Platform
	s *proxmoxtest.Server
}

func (l locking) Reach(ctx context.Context, t remediate.Target) (rollback.Machine, error) {
	m, err := l.Platform.Reach(ctx, t)
	return lockingMachine{m, l.s}, err
}

type lockingMachine struct {
	rollback.Machine
	s *proxmoxtest.Server
}

func (m lockingMachine) Do(ctx context.Context, step rollback.Step, snapshot string) error {
	err := m.Machine.Do(ctx, step, snapshot)
	if step == rollback.Keep {
		m.s.Change(100, func(v *proxmoxtest.VM) { v.Config["lock"] = "rollback" })
	}
	return err
}
