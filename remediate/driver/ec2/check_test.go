package ec2_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/ec2"
	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

func checked(t *testing.T, p swap.Platform, id string) swap.Checkup {
	d := swap.New(swap.Options{Way: "ec2", Platform: p, Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}, Snapshot: true})
	return d.Check(t.Context(), remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "ws-1"}, Route: inventory.Route{Driver: "ec2", Address: where + "/" + id}})
}

// Check names the rights that are missing, by dry runs that change nothing.
func TestCheck(t *testing.T) {
	s := ec2test.New(where)
	id, _ := s.Launch(windows(ec2test.Instance{}), ec2test.Volume{})
	helper(s, ec2test.Instance{})
	p := newPlatform(newLine(t, s), nil)
	before := s.Changes()
	if f := checked(t, p, id); f.Platform != nil || f.Rights != nil || f.Refused != nil || f.Helper != nil || len(f.Helpers) != 1 {
		t.Errorf("all is there: %+v", f)
	}
	s.Denied = map[string]bool{"StartInstances": true, "AttachVolume": true, "CreateSnapshot": true, "DescribeVolumes": true}
	var lacks *inventory.RightError
	const want = "ec2:DescribeVolumes, ec2:StartInstances, ec2:AttachVolume, ec2:CreateSnapshot (with ec2:CreateTags)"
	if f := checked(t, p, id); !errors.As(f.Rights, &lacks) || lacks.Right != want {
		t.Errorf("got  %v\nwant %s", f.Rights, want)
	}
	s.Denied = map[string]bool{"DescribeInstances": true}
	if f := checked(t, p, id); !errors.As(f.Rights, &lacks) || lacks.Right != "ec2:DescribeInstances" {
		t.Errorf("nothing may be read: %+v", f)
	}
	if s.Changes() != before {
		t.Error("something was changed")
	}
}

// Check says that there is no helper, and, at once, that nobody answers.
func TestCheckHelper(t *testing.T) {
	s := ec2test.New(where)
	id, _ := s.Launch(windows(ec2test.Instance{}), ec2test.Volume{})
	p := newPlatform(newLine(t, s), nil)
	if f := checked(t, p, id); f.Helper == nil || !strings.Contains(f.Helper.Error(), "no helper for "+id+" runs") {
		t.Errorf("there is none: %+v", f)
	}
	p = ec2.New(ec2.Options{Endpoint: "http://127.0.0.1:1", Every: time.Hour}) // as long as it would wait before it asks again
	if f := checked(t, p, id); f.Platform == nil || !strings.Contains(f.Platform.Error(), "connect") {
		t.Errorf("nobody answers: %+v", f)
	}
}
