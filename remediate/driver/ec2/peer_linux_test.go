package ec2_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"unbrick/remediate/driver/ec2"
	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/lab/testenv"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

// shell returns what runs a command line that we print, with Amazon's own tool, on a server.
func shell(t *testing.T, url string) func(line string) string {
	const awscli = "/usr/bin/aws"
	testenv.Need(t, awscli)
	dir := t.TempDir()
	script := "#!/bin/sh\nunset AWS_PROFILE AWS_SESSION_TOKEN\nexec " + awscli + " --endpoint-url " + url + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "aws"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return func(line string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", line)
		cmd.Env = append(os.Environ(), "PATH="+dir+":/usr/bin:/bin", "HOME="+dir, "AWS_PAGER=", "NO_PROXY=*")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		return string(out)
	}
}

// commandOf returns the command line that an error ends with.
func commandOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		t.Fatal("nothing was refused")
	}
	i := strings.LastIndex(err.Error(), ": aws ec2 ")
	if i < 0 {
		t.Fatalf("no command in %v", err)
	}
	return err.Error()[i+2:]
}

// TestCommandsThatErrorsName does what errors say, word for word, with Amazon's own tool: it
// takes them, and then the host is no longer refused.
func TestCommandsThatErrorsName(t *testing.T) {
	for name, c := range map[string]standing{
		"stop protected": {in: windows(ec2test.Instance{StopProtected: true})},
		"not Windows":    {},
		"no root": {change: func(s *ec2test.Server, _, v string) {
			s.Set("", v, func(_ *ec2test.Instance, v *ec2test.Volume) { v.Attachment = ec2test.Attachment{} })
		}, in: windows(ec2test.Instance{State: "stopped"})},
	} {
		t.Run(name, func(t *testing.T) {
			s := ec2test.New(where)
			helper(s, ec2test.Instance{})
			id, volume := s.Launch(c.in, c.volume)
			if c.change != nil {
				c.change(s, id, volume)
			}
			line := newLine(t, s)
			run := shell(t, line.URL)
			look := func() error {
				d, _ := newDriver(newPlatform(line, nil), &desk{})
				_, err := d.Observe(t.Context(), target(where+"/"+id))
				return err
			}
			run(strings.Replace(commandOf(t, look()), "VOLUME", volume, 1))
			if s.Changes() != 1 {
				t.Errorf("%d changes", s.Changes())
			}
			s.Set(id, volume, func(_ *ec2test.Instance, v *ec2test.Volume) { v.Attachment.State = "attached" }) // as time would have it
			if err := look(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRemoval: what the report names removes the snapshot that was made for this host and no
// other, and is content when it is gone.
func TestRemoval(t *testing.T) {
	s := ec2test.New(where)
	helper(s, ec2test.Instance{})
	records := &rescue.MemRecords{}
	line := newLine(t, s)
	d := swap.New(swap.Options{Way: "ec2", Platform: newPlatform(line, nil), Desk: &swaptest.Desk{}, Records: records, Snapshot: true, Every: time.Millisecond})
	for range 2 {
		id, _ := s.Launch(windows(ec2test.Instance{}), ec2test.Volume{})
		through(t, d, target(where+"/"+id))
	}
	all, err := swap.NewJournal(records).All(t.Context())
	if err != nil || len(all) != 2 || len(s.Snapshots()) != 2 {
		t.Fatalf("%+v, %v; %+v", all, err, s.Snapshots())
	}
	run := shell(t, line.URL)
	for range 2 {
		if out := run(ec2.Removal(all[0])); out != "" {
			t.Error(out)
		}
		if left := s.Snapshots(); len(left) != 1 || left[0].Volume != all[1].Slot.Volume {
			t.Errorf("%+v", left)
		}
	}
}
