package rollback_test

import (
	"context"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/playbooks"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/rescue"
)

// A lived driver has its machine run where the target says that Windows was seen up on it.
type lived struct {
	*rollback.Driver
	start func()
}

func (l lived) Leave(ctx context.Context, t remediate.Target, before remediate.Posture) error {
	if t.Up {
		l.start()
	}
	return l.Driver.Leave(ctx, t, before)
}

// A machine is one that loops, for a test.
type machine struct {
	platform rollback.Platform
	address  string
	start    func() // as if somebody else did

	snapshots func() (all []string, current string)
	backs     func() int // how often it went to a snapshot
	starts    func() int // by the driver
}

// patient is a machine with the snapshot nightly, which was made before the incident.
func (m machine) patient(t *testing.T, way string) drivertest.Patient {
	t.Helper()
	pb, err := playbooks.Open("crowdstrike-291")
	if err != nil {
		t.Fatal(err)
	}
	driver := rollback.New(rollback.Options{Way: way, Platform: m.platform, Records: &rescue.MemRecords{},
		Before: time.Now().Add(time.Minute), Allowed: true, Every: time.Millisecond})
	return drivertest.Patient{
		Driver: lived{driver, m.start},
		Target: remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "ws1", Tier: inventory.Normal},
			Route: inventory.Route{Driver: way, Address: m.address}},
		Playbook: pb,
		Broken: func() bool {
			all, current := m.snapshots()
			_, n := kept(all)
			return current != "nightly" || n == 0
		},
		Harm: func() string {
			all, _ := m.snapshots()
			if _, n := kept(all); n > 1 {
				return "the present was kept twice"
			}
			if m.backs() > 1 {
				return "it went back twice"
			}
			return ""
		},
		Restarts: m.starts,
		Left:     func() string { return "" },
	}
}
