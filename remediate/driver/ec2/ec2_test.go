package ec2_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// A desk remembers what it was told of each host.
type desk struct {
	mu   sync.Mutex
	told map[string]string // host: helper and mark
}

func (d *desk) Lend(_ context.Context, t remediate.Target, helper, mark string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.told == nil {
		d.told = map[string]string{}
	}
	d.told[t.Host.Name] = helper + " " + mark
	return nil
}

func (d *desk) Withdraw(context.Context, remediate.Target) error { return nil }

func target(address string) remediate.Target {
	return remediate.Target{Run: "r1", Attempt: 1, Host: inventory.Host{Name: "h " + address}, Route: inventory.Route{Driver: "ec2", Address: address}}
}

func newDriver(p swap.Platform, d swap.Desk) (*swap.Driver, *rescue.MemRecords) {
	records := &rescue.MemRecords{}
	return swap.New(swap.Options{Way: "ec2", Platform: p, Desk: d, Records: records, Every: time.Millisecond}), records
}

// A case is an instance that stands in some way.
type standing struct {
	in      ec2test.Instance
	volume  ec2test.Volume
	change  func(*ec2test.Server, string, string)
	options func(*ec2.Options)
	want    string
}

// Every refusal says what to do instead, and comes before anything is changed.
func TestRefusals(t *testing.T) {
	group := map[string]string{"aws:autoscaling:groupName": "web"}
	spare := map[string]string{"Name": "spare"}
	use := func(o *ec2.Options) { o.Helpers = []string{"spare"} }
	for name, c := range map[string]standing{
		"Auto Scaling":   {in: ec2test.Instance{Tags: group}, want: "the Auto Scaling group web would terminate it when it stops\nput it in standby"},
		"instance root":  {in: ec2test.Instance{RootType: "instance-store"}, want: "its root is instance store"},
		"instance disks": {in: ec2test.Instance{Type: "m5d.large"}, want: "Key=unbrick:accept,Value=instance-store"},
		"not Windows":    {in: ec2test.Instance{Platform: "linux"}, want: "does not know it for Windows"},
		"spot":           {in: ec2test.Instance{Lifecycle: "spot"}, want: "it is a spot instance"},
		"marketplace":    {in: ec2test.Instance{ProductCodes: []string{"abc123"}}, want: "product code abc123 of AWS Marketplace"},
		"hibernated":     {in: ec2test.Instance{State: "stopped", Reason: "Client.UserInitiatedHibernate"}, want: "it hibernates"},
		"managed":        {in: ec2test.Instance{Manager: "eks.amazonaws.com"}, want: "eks.amazonaws.com manages it"},
		"stop protected": {in: ec2test.Instance{StopProtected: true}, want: "--no-disable-api-stop"},
		"multi-attach":   {volume: ec2test.Volume{Shared: true}, want: "several instances at once"},
		"terminated":     {in: ec2test.Instance{State: "shutting-down"}, want: "something terminates it"},
		"no root": {change: func(s *ec2test.Server, _, v string) {
			s.Set("", v, func(_ *ec2test.Instance, v *ec2test.Volume) { v.Attachment = ec2test.Attachment{} })
		}, want: "aws ec2 attach-volume"},
		"unknown": {change: func(s *ec2test.Server, i, _ string) {
			s.Set(i, "", func(in *ec2test.Instance, _ *ec2test.Volume) { in.Hidden = 99 })
		}, want: "EC2 has no instance"},
		"a right is missing": {change: func(s *ec2test.Server, _, _ string) { s.Denied = map[string]bool{"StartInstances": true} },
			want: "so it is not stopped: the right ec2:StartInstances is missing"},
		"cannot even look":   {change: func(s *ec2test.Server, _, _ string) { s.Denied = map[string]bool{"DescribeVolumes": true} }, want: "ec2:DescribeVolumes is missing"},
		"no helper":          {options: use, want: "no helper for i-00000000000000002 runs in ap-southeast-2a: start one there"},
		"helper elsewhere":   {change: func(s *ec2test.Server, _, _ string) { helper(s, ec2test.Instance{Tags: spare, Zone: where + "b"}) }, options: use, want: "is in ap-southeast-2b"},
		"helper off":         {change: func(s *ec2test.Server, _, _ string) { helper(s, ec2test.Instance{Tags: spare, State: "stopped"}) }, options: use, want: "does not run"},
		"helper is Windows":  {change: func(s *ec2test.Server, _, _ string) { helper(s, windows(ec2test.Instance{Tags: spare})) }, options: use, want: "runs Windows"},
		"helper of old":      {change: func(s *ec2test.Server, _, _ string) { helper(s, ec2test.Instance{Tags: spare, Type: "t2.large"}) }, options: use, want: "does not show the ids of volumes"},
		"helper of our kind": {change: func(s *ec2test.Server, _, _ string) { s.Launch(ec2test.Instance{Tags: spare}, ec2test.Volume{}) }, options: use, want: "made from the same image as the host"},
		"helper is the host": {in: ec2test.Instance{Tags: spare}, options: use, want: "is the host itself"},
	} {
		t.Run(name, func(t *testing.T) {
			s := ec2test.New(where)
			helper(s, ec2test.Instance{})
			if c.in.Platform == "" {
				c.in = windows(c.in)
			}
			id, volume := s.Launch(c.in, c.volume)
			if c.change != nil {
				c.change(s, id, volume)
			}
			d, _ := newDriver(newPlatform(newLine(t, s), c.options), &desk{})
			_, err := d.Observe(t.Context(), target(where+"/"+id))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("observe: %v, want %q", err, c.want)
			}
			if strings.HasPrefix(name, "helper") || name == "no helper" {
				return // enter would stop it first: observe is what stands before that
			}
			if err := d.Enter(t.Context(), target(where+"/"+id), remediate.Image{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("enter: %v, want %q", err, c.want)
			}
			if s.Changes() > 0 {
				t.Error("something was changed")
			}
		})
	}
}

// What its owner accepts is not refused.
func TestAccepted(t *testing.T) {
	s := ec2test.New(where)
	helper(s, ec2test.Instance{})
	id, _ := s.Launch(ec2test.Instance{Type: "m5d.large", PublicIP: "203.0.113.9", PublicOwner: "amazon", TPM: "v2.0",
		Tags: map[string]string{"aws:autoscaling:groupName": "web", ec2.AcceptTag: "standby instance-store,platform"}}, ec2test.Volume{Key: "key-1"})
	d, _ := newDriver(newPlatform(newLine(t, s), nil), &desk{})
	p, err := d.Observe(t.Context(), target(where+"/"+id))
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"address": "203.0.113.9 is no Elastic IP", "tpm": "recovery key", "key": "kms:CreateGrant", "on_termination": "deleted", "volume": "as /dev/sda1 of i-"} {
		if !strings.Contains(p.Detail[k], want) {
			t.Errorf("%s: %q, want %q", k, p.Detail[k], want)
		}
	}
}

// Two hosts are on one helper at once, each known by the serial number that the helper's agent
// sees, and each goes back to its own place.
func TestTwo(t *testing.T) {
	s := ec2test.New(where)
	s.PageCap = 1
	help := helper(s, ec2test.Instance{})
	helper(s, ec2test.Instance{Zone: where + "b"}) // of the same name, and too far away
	line, told := newLine(t, s), &desk{}
	d, _ := newDriver(newPlatform(line, nil), told)
	both := map[string]string{}
	for _, device := range []string{"/dev/sda1", "/dev/xvda"} {
		id, volume := s.Launch(windows(ec2test.Instance{RootDevice: device}), ec2test.Volume{})
		both[id] = volume
	}
	each := func(do func(remediate.Target) error) {
		t.Helper()
		var all sync.WaitGroup
		for id := range both {
			all.Go(func() {
				if err := do(target(where + "/" + id)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	each(func(tg remediate.Target) error { return d.Enter(t.Context(), tg, remediate.Image{}) })
	for id, volume := range both {
		if a := s.Volume(volume).Attachment; a.Instance != help || a.State != "attached" || a.DeleteOnTermination {
			t.Errorf("while it is lent: %+v", a)
		}
		if got, want := told.told["h "+where+"/"+id], "unbrick-helper "+strings.Replace(volume, "-", "", 1); got != want || len(want) != len("unbrick-helper ")+20 {
			t.Errorf("the desk was told %q, want %q", got, want)
		}
	}
	each(func(tg remediate.Target) error { return d.Leave(t.Context(), tg, remediate.Posture{}) })
	for id, volume := range both {
		in, a := s.Instance(id), s.Volume(volume).Attachment
		if in.State == "stopped" || a != (ec2test.Attachment{Instance: id, Device: in.RootDevice, State: "attached", DeleteOnTermination: true}) {
			t.Errorf("when it is back: %s, %+v", in.State, a)
		}
	}
}

// way is one host with a helper.
func way(t *testing.T, in ec2test.Instance, options func(*ec2.Options)) (s *ec2test.Server, d *swap.Driver, r *rescue.MemRecords, tg remediate.Target, volume string) {
	s = ec2test.New(where)
	helper(s, ec2test.Instance{})
	id, volume := s.Launch(windows(in), ec2test.Volume{})
	d, r = newDriver(newPlatform(newLine(t, s), options), &swaptest.Desk{})
	return s, d, r, target(where + "/" + id), volume
}

// through takes a host there and back.
func through(t *testing.T, d *swap.Driver, tg remediate.Target) {
	t.Helper()
	if err := d.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave(t.Context(), tg, remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
}

// An instance that does not stop is forced, after the time that it is given.
func TestForced(t *testing.T) {
	s, d, _, tg, _ := way(t, ec2test.Instance{Wedged: true}, func(o *ec2.Options) { o.Patience = 5 * time.Millisecond })
	through(t, d, tg)
	if n := s.Calls()["StopInstances"]; n != 3 { // a dry run, without force, with it
		t.Errorf("it was stopped %d times", n)
	}
}

// Reads that now and then show what was before the last change lead nobody astray.
func TestFlap(t *testing.T) {
	for every := 2; every <= 5; every++ {
		s, d, _, tg, volume := way(t, ec2test.Instance{}, nil)
		s.Flap = every
		before := s.Volume(volume).Attachment
		through(t, d, tg)
		if v := s.Volume(volume); v.Attachment != before || !slices.Equal(v.Booted, []string{"helper", "disk"}) {
			t.Errorf("every %d: %+v", every, v)
		}
	}
}

// A volume that the helper's kernel does not let go of is forced off it.
func TestStuck(t *testing.T) {
	s, d, _, tg, volume := way(t, ec2test.Instance{}, func(o *ec2.Options) { o.Patience = 5 * time.Millisecond })
	if err := d.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	s.Set("", volume, func(_ *ec2test.Instance, v *ec2test.Volume) { v.Stuck = true })
	if err := d.Leave(t.Context(), tg, remediate.Posture{}); err != nil {
		t.Fatal(err)
	}
	if n := s.Calls()["DetachVolume"]; n != 4 { // a dry run, off the instance, off the helper, by force
		t.Errorf("it was detached %d times", n)
	}
}

// An instance that EC2 starts and stops again is not started for ever, and the reason is told.
func TestUndone(t *testing.T) {
	s := ec2test.New(where)
	helper(s, ec2test.Instance{})
	id, _ := s.Launch(windows(ec2test.Instance{NoKey: true}), ec2test.Volume{Key: "key-1"})
	d, _ := newDriver(newPlatform(newLine(t, s), nil), &swaptest.Desk{})
	if err := d.Enter(t.Context(), target(where+"/"+id), remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	err := d.Leave(t.Context(), target(where+"/"+id), remediate.Posture{})
	if err == nil || !strings.Contains(err.Error(), "(Client.InternalError)\nlook whether the key key-1 is enabled") || s.Calls()["StartInstances"] != 4 {
		t.Errorf("%v, %v", err, s.Calls())
	}
}

// A volume that was kept when its instance is terminated is so again, and nothing is asked for.
func TestKept(t *testing.T) {
	s, d, _, tg, volume := way(t, ec2test.Instance{}, nil)
	s.Set("", volume, func(_ *ec2test.Instance, v *ec2test.Volume) { v.Attachment.DeleteOnTermination = false })
	through(t, d, tg)
	if s.Volume(volume).Attachment.DeleteOnTermination || s.Calls()["ModifyInstanceAttribute"] != 1 {
		t.Errorf("%+v, %v", s.Volume(volume).Attachment, s.Calls())
	}
}

// Where there is no capacity the instance is not given up: it starts when there is.
func TestNoCapacity(t *testing.T) {
	_, d, _, tg, _ := way(t, ec2test.Instance{NoCapacity: 1}, nil)
	if err := d.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	err := d.Leave(t.Context(), tg, remediate.Posture{})
	var retry *remediate.RetryError
	if !errors.As(err, &retry) || retry.After < time.Minute || !strings.Contains(err.Error(), "InsufficientInstanceCapacity") {
		t.Errorf("%v", err)
	}
	if err := d.Leave(t.Context(), tg, remediate.Posture{}); err != nil {
		t.Error(err)
	}
}

// What somebody else does with the volume is left alone, and named.
func TestElsewhere(t *testing.T) {
	s, d, _, tg, volume := way(t, ec2test.Instance{}, nil)
	if err := d.Enter(t.Context(), tg, remediate.Image{}); err != nil {
		t.Fatal(err)
	}
	other, _ := s.Launch(windows(ec2test.Instance{Tags: map[string]string{"Name": "other"}}), ec2test.Volume{})
	s.Set("", volume, func(_ *ec2test.Instance, v *ec2test.Volume) { v.Attachment.Instance = other })
	n := s.Changes()
	if err := d.Leave(t.Context(), tg, remediate.Posture{}); err == nil || !strings.Contains(err.Error(), "hangs on "+other) || s.Changes() != n {
		t.Errorf("%v, %d changes", err, s.Changes()-n)
	}
	own := strings.TrimPrefix(tg.Route.Address, where+"/")
	s.Set("", volume, func(_ *ec2test.Instance, v *ec2test.Volume) {
		v.Attachment = ec2test.Attachment{Instance: own, Device: "/dev/sdf", State: "attached"}
	})
	if err := d.Leave(t.Context(), tg, remediate.Posture{}); err == nil || !strings.Contains(err.Error(), "as /dev/sdf, and hung there as /dev/sda1") {
		t.Errorf("%v", err)
	}
}

// The journal's entry says how to remove the snapshot, which was made once and has its mark.
func TestSnapshot(t *testing.T) {
	s := ec2test.New(where)
	helper(s, ec2test.Instance{})
	id, volume := s.Launch(windows(ec2test.Instance{}), ec2test.Volume{})
	records := &rescue.MemRecords{}
	d := swap.New(swap.Options{Way: "ec2", Platform: newPlatform(newLine(t, s), nil), Desk: &swaptest.Desk{}, Records: records, Snapshot: true, Every: time.Millisecond})
	through(t, d, target("arn:aws:ec2:"+where+":123456789012:instance/"+id))
	all, err := swap.NewJournal(records).All(t.Context())
	made := s.Snapshots()
	if err != nil || len(all) != 1 || len(made) != 1 {
		t.Fatalf("%+v, %v; %+v", all, err, made)
	}
	e := all[0]
	if !e.Ended || e.Instance != "ec2 "+where+"/"+id || made[0].Volume != volume || !maps.Equal(made[0].Tags, map[string]string{"unbrick": e.Mark, "Name": e.Mark}) {
		t.Errorf("%+v, %+v", e, made[0])
	}
	want := "aws ec2 describe-snapshots --region ap-southeast-2 --owner-ids self --filters Name=tag:unbrick,Values=" + e.Mark +
		" --query 'Snapshots[].SnapshotId' --output text | xargs -r -n1 aws ec2 delete-snapshot --region ap-southeast-2 --snapshot-id"
	if got := ec2.Removal(e); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	e.Address += "?profile=prod"
	if got := ec2.Removal(e); strings.Count(got, "--profile 'prod'") != 2 {
		t.Error(got)
	}
}

// An address may name the account by a profile of ~/.aws, which says the region and the key:
// those of the environment are another account's.
func TestProfile(t *testing.T) {
	s := ec2test.New(where)
	helper(s, ec2test.Instance{})
	id, _ := s.Launch(windows(ec2test.Instance{}), ec2test.Volume{})
	line := newLine(t, s)
	file := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf("[profile prod]\nregion = %s\naws_access_key_id = %s\naws_secret_access_key = %s\n", where, s.Key, s.Secret)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDOTHER")
	t.Setenv("AWS_REGION", "eu-west-1")
	d, _ := newDriver(newPlatform(line, nil), &swaptest.Desk{})
	if _, err := d.Observe(t.Context(), target(id+"?profile=prod")); err == nil {
		t.Error("AWS_REGION does not count before the region of the profile, as it does for Amazon's own tools")
	}
	t.Setenv("AWS_REGION", "")
	for _, address := range []string{id + "?profile=prod", where + "/" + id + "?profile=prod"} {
		d, _ := newDriver(newPlatform(line, nil), &swaptest.Desk{})
		if _, err := d.Observe(t.Context(), target(address)); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	if _, err := d.Observe(t.Context(), target(where+"/"+id)); err == nil || !strings.Contains(err.Error(), "AuthFailure") || strings.Contains(err.Error(), s.Secret) {
		t.Errorf("%v", err)
	}
}
