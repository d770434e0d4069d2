package rollback_test

import (
	"testing"

	"unbrick/remediate"
	"unbrick/remediate/driver/rollback"
	"unbrick/remediate/swap"
)

// TestFind: it is known whether the snapshot of the present is still there, and of no other
// machine.
func TestFind(t *testing.T) {
	_, p := clusterPlatform(t, newCluster(""))
	o, target := options(p), paperTarget("r1", 1)
	target.Route.Address = "prod/100"
	d := rollback.New(o)
	if _, err := d.Repair(t.Context(), target, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave(t.Context(), target, remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	all, err := swap.NewJournal(o.Records).All(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if has, err := rollback.HasSnapshot(t.Context(), p, all[0]); err != nil || !has {
		t.Errorf("made: %v, %v", has, err)
	}
	never, other := all[0], all[0]
	never.Mark, other.Instance = "unbrick-nobodysmark", "another"
	if has, err := rollback.HasSnapshot(t.Context(), p, never); err != nil || has {
		t.Errorf("never made: %v, %v", has, err)
	}
	if _, err := rollback.HasSnapshot(t.Context(), p, other); err == nil {
		t.Error("the snapshot of another machine was asked for")
	}
}
