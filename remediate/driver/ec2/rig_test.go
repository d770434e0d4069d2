package ec2_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/driver/ec2"
	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

const where = "ap-southeast-2"

// login gives the credentials of the fake's user, found as AWS's tools find them.
func login(t testing.TB, s *ec2test.Server) {
	t.Setenv("AWS_ACCESS_KEY_ID", s.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.Secret)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_PROFILE", "")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/config")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", t.TempDir()+"/credentials")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func windows(in ec2test.Instance) ec2test.Instance {
	in.Platform = "windows"
	return in
}

func helper(s *ec2test.Server, in ec2test.Instance) string {
	in.Image = "ami-00000000000000001"
	if in.Tags == nil {
		in.Tags = map[string]string{"Name": "unbrick-helper"}
	}
	id, _ := s.Launch(in, ec2test.Volume{})
	return id
}

func newLine(t testing.TB, s *ec2test.Server) *swaptest.Line {
	login(t, s)
	return swaptest.NewLine(t, swaptest.API{Server: s, Changes: ec2test.Changes, Throttle: ec2test.Throttle, Refuse: ec2test.Refuse})
}

func newPlatform(line *swaptest.Line, change func(*ec2.Options)) swap.Platform {
	o := ec2.Options{Endpoint: line.URL, Every: time.Millisecond, Patience: time.Hour, Rate: 1e6}
	if change != nil {
		change(&o)
	}
	return ec2.New(o)
}

// TestDriver passes the suite: cut, throttled and refused at every request.
func TestDriver(t *testing.T) {
	swaptest.Run(t, func(t *testing.T) swaptest.Rig {
		s := ec2test.New(where)
		if strings.Contains(t.Name(), "/Snapshot/") {
			s.Steps = 1 // what is seen under way the plain run has had
		}
		id, volume := s.Launch(windows(ec2test.Instance{Tags: map[string]string{"Name": "WS-1", "Owner": "ann"}}), ec2test.Volume{Key: "arn:aws:kms:key/1", Tags: map[string]string{"Backup": "daily"}})
		help := helper(s, ec2test.Instance{})
		line := newLine(t, s)
		before := shown(s, id, volume, help)
		return swaptest.Rig{
			Platform: newPlatform(line, nil), Line: line, Way: "ec2", Address: where + "/" + id,
			Booted:  func() []string { return s.Volume(volume).Booted },
			Actions: s.Changes,
			Left: func() string {
				if after := shown(s, id, volume, help); after != before {
					return after + ", and before it was " + before
				}
				if n := len(s.Snapshots()); n > 1 {
					return fmt.Sprint(n, " snapshots")
				}
				return ""
			},
		}
	})
}

// shown is all that the server knows of an instance, its volume and a helper, but what happened.
func shown(s *ec2test.Server, id, volume, help string) string {
	v := s.Volume(volume)
	return fmt.Sprintf("%s %v %s %v %+v %s", s.Instance(id).State, s.Instance(id).Tags, v.Key, v.Tags, v.Attachment, s.Instance(help).State)
}
