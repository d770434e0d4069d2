package lab

import (
	"fmt"
	"path/filepath"
	"strings"

	"unbrick/remediate/driver/ec2/ec2test"
)

// labProfile is the profile of ~/.aws that the lab's credentials are in: never those of anybody's
// own account, whatever the environment says.
const labProfile = "unbrick-lab"

func newEC2(dir, url string) (*cloud, error) {
	const region = "ap-southeast-2"
	s := ec2test.New(region)
	helper, _ := s.Launch(ec2test.Instance{Image: "ami-00000000000000001", Tags: map[string]string{"Name": helperName}}, ec2test.Volume{})
	return &cloud{
		kind:    "ec2",
		source:  fmt.Sprintf("profile: %s, regions: [%s], endpoint: %q", labProfile, region, url),
		swap:    fmt.Sprintf("{profile: %s, region: %s, endpoint: %q}", labProfile, region, url),
		handler: s,
		helper:  helperName,
		files: map[string]string{
			"aws-config":      fmt.Sprintf("[profile %s]\nregion = %s\n", labProfile, region),
			"aws-credentials": fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", labProfile, s.Key, s.Secret),
		},
		env: map[string]string{
			"AWS_CONFIG_FILE":             filepath.Join(dir, "aws-config"),
			"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "aws-credentials"),
		},
		snapshots: func() int { return len(s.Snapshots()) },
		launch: func(h spec, address string, protected bool) (placed, error) {
			in := ec2test.Instance{Platform: "windows", Address: address, MAC: h.board.mac, Tags: map[string]string{"Name": h.Name}}
			if protected {
				in.Tags["aws:autoscaling:groupName"] = "web"
			}
			id, volume := s.Launch(in, ec2test.Volume{Tags: map[string]string{"Backup": "daily"}})
			return placed{address: region + "/" + id + "?profile=" + labProfile,
				look: func() sight { return lookEC2(s, id, volume, helper) }, shown: func() string { return showEC2(s, id, volume) }}, nil
		},
	}, nil
}

func lookEC2(s *ec2test.Server, id, volume, helper string) (t sight) {
	at := s.Volume(volume).Attachment
	t.runs = s.Instance(id).State == "running" && at.Instance == id
	if at.Instance == helper && at.State == "attached" {
		t.mark = strings.ReplaceAll(volume, "-", "")
	}
	return t
}

func showEC2(s *ec2test.Server, id, volume string) string {
	in, v := s.Instance(id), s.Volume(volume)
	return fmt.Sprintf("%s with %v, %s %v at %+v", in.State, in.Tags, volume, v.Tags, v.Attachment)
}
