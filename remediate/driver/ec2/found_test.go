package ec2_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

// The rights for snapshots are asked for with the others, before an instance is stopped, if one is
// to be made.
func TestSnapshotRight(t *testing.T) {
	for _, snapshot := range []bool{true, false} {
		s := ec2test.New(where)
		helper(s, ec2test.Instance{})
		id, _ := s.Launch(windows(ec2test.Instance{}), ec2test.Volume{})
		s.Denied = map[string]bool{"CreateSnapshot": true}
		d := swap.New(swap.Options{Way: "ec2", Platform: newPlatform(newLine(t, s), nil), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}, Snapshot: snapshot, Every: time.Millisecond})
		_, err := d.Observe(t.Context(), target(where+"/"+id))
		if missing := err != nil && strings.Contains(err.Error(), "ec2:CreateSnapshot"); missing != snapshot || s.Instance(id).State != "running" {
			t.Errorf("with snapshots %v: %v; the instance is %s", snapshot, err, s.Instance(id).State)
		}
	}
}

// An instance tells since when it is stopped, as a rule.
func TestStopped(t *testing.T) {
	from := time.Date(2024, 7, 19, 4, 9, 0, 0, time.UTC)
	for reason, c := range map[string]struct {
		skip bool
		want string
	}{
		"User initiated (2024-07-18 05:12:33 GMT)": {true, "2024-07-18T05:12:33Z"},
		"User initiated (2024-07-19 05:12:33 GMT)": {false, "2024-07-19T05:12:33Z"},
		"User initiated": {false, "nobody knows since when"},
		"":               {false, "nobody knows since when"},
	} {
		s := ec2test.New(where)
		helper(s, ec2test.Instance{})
		id, _ := s.Launch(windows(ec2test.Instance{State: "stopped", Transition: reason}), ec2test.Volume{})
		d := swap.New(swap.Options{Way: "ec2", Platform: newPlatform(newLine(t, s), nil), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{},
			Incident: inventory.Incident{From: from, Until: from.Add(time.Hour)}, Every: time.Millisecond})
		p, err := d.Observe(t.Context(), target(where+"/"+id))
		var skip *remediate.SkipError
		said := p.Said
		if errors.As(err, &skip) {
			said = skip.Why
		}
		if (skip != nil) != c.skip || err != nil && skip == nil || !strings.Contains(said, c.want) {
			t.Errorf("%q: %q, %v", reason, said, err)
		}
	}
}
