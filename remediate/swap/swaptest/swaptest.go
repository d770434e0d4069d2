// Package swaptest is for those who write a platform of package swap: the suite of drivers,
// cut, throttled and refused at every request to the platform's API.
package swaptest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
)

// A Rig is one instance that is on and crashes again and again, with a helper beside it that
// has nothing, on a server of the platform's API behind a Line.
type Rig struct {
	Platform swap.Platform // that asks the line
	Line     *Line
	Way      string
	Address  string // of the instance's route

	// Booted returns what became of the instance's volume since it was made: [Helper] each time
	// it was hung on one, drivertest.Disk each time the instance was started with it.
	Booted func() []string
	// Actions is how often anything was changed on the platform.
	Actions func() int
	// Left says what is not as it was before the first request: the instance with all that the
	// platform shows of it, its volume, the helper, anything that costs money. A snapshot that
	// was asked for is not meant.
	Left func() string
}

// Helper is what a volume boots, in a way, that is hung on one.
const Helper = "helper"

// Run makes sure that the platform of the rigs that make returns is fit for swap.Driver, with
// and without snapshots.
func Run(t *testing.T, make func(t *testing.T) Rig) {
	for _, snapshot := range []bool{false, true} {
		name := "Plain"
		if snapshot {
			name = "Snapshot"
		}
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) drivertest.Rig { return make(t).rig(snapshot) })
		})
	}
	t.Run("Find", func(t *testing.T) {
		r := make(t)
		Find(t, r.Platform, r.Target(), r.Actions)
	})
}

// Find makes sure that a platform can be asked for snapshots: for those that two swaps left, each
// known to a state of its own, and for one that nobody made. Actions is how often anything was
// changed.
func Find(t *testing.T, p swap.Platform, target remediate.Target, actions func() int) {
	t.Helper()
	first, second := whole(t, p, target), whole(t, p, target)
	if first.Mark == second.Mark {
		t.Errorf("both snapshots are %s", first.Mark)
	}
	never := second
	never.Mark = "unbrick-nobodysmark"
	changed := actions()
	for _, c := range []struct {
		entry swap.Entry
		want  bool
	}{{never, false}, {first, true}, {second, true}} {
		if has, err := swap.HasSnapshot(t.Context(), p, c.entry); err != nil || has != c.want {
			t.Errorf("snapshot %s: %v, %v; want %v", c.entry.Mark, has, err, c.want)
		}
	}
	if n := actions(); n != changed {
		t.Errorf("%d changes were made by looking", n-changed)
	}
	second.Instance = "another"
	if _, err := swap.HasSnapshot(t.Context(), p, second); err == nil {
		t.Error("the snapshot of another instance was asked for")
	}
}

// whole swaps a volume and puts it back, in a state of its own, and returns what that noted.
func whole(t *testing.T, p swap.Platform, target remediate.Target) swap.Entry {
	t.Helper()
	records := &rescue.MemRecords{}
	d := swap.New(swap.Options{Way: target.Route.Driver, Platform: p, Desk: new(Desk), Records: records, Snapshot: true, Every: time.Millisecond})
	posture, err := d.Observe(t.Context(), target)
	if err == nil {
		err = d.Enter(t.Context(), target, remediate.Image{})
	}
	if err == nil {
		err = d.Leave(t.Context(), target, posture)
	}
	all, bad := swap.NewJournal(records).All(t.Context())
	if err != nil || bad != nil || len(all) != 1 {
		t.Fatal(err, bad, all)
	}
	return all[0]
}

// rig is the rig as the suite of drivers knows it. Few: what only reads is lost in one way, and
// throttled and refused.
func (r Rig) rig(snapshot bool) drivertest.Rig {
	image := remediate.Image{URL: "http://192.0.2.1/i/x/rescue.iso"}
	desk := new(Desk)
	return drivertest.Rig{
		Driver: swap.New(swap.Options{
			Way: r.Way, Platform: r.Platform, Desk: desk, Records: &rescue.MemRecords{},
			Snapshot: snapshot, Every: time.Millisecond,
		}),
		Target: r.Target(), Image: image, Refuses: true, Few: snapshot,
		Boots: func() []string {
			boots := slices.Clone(r.Booted())
			for i, b := range boots {
				if b == Helper {
					boots[i] = image.URL
				}
			}
			return boots
		},
		Actions: r.Actions, Requests: r.Line.Requests, Cut: r.Line.Cut, Revive: r.Line.Revive, Hang: r.Line.Hang,
		Left: func() string {
			if n := desk.lent(); n > 0 {
				return "the desk still lends the volume"
			}
			return r.Left()
		},
	}
}

// Target returns the target of the instance.
func (r Rig) Target() remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h1"}, Route: inventory.Route{Driver: r.Way, Address: r.Address}}
}

// A Desk is a swap.Desk that remembers what is lent. The zero Desk is ready.
type Desk struct {
	mu    sync.Mutex
	marks map[string]string // by host
}

// Lend implements swap.Desk.
func (d *Desk) Lend(_ context.Context, t remediate.Target, _, mark string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.marks == nil {
		d.marks = map[string]string{}
	}
	d.marks[t.Host.Name] = mark
	return nil
}

// Withdraw implements swap.Desk.
func (d *Desk) Withdraw(_ context.Context, t remediate.Target) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.marks, t.Host.Name)
	return nil
}

func (d *Desk) lent() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.marks) }
