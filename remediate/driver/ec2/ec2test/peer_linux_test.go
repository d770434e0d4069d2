package ec2test_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"unbrick/remediate/driver/ec2/ec2test"
	"unbrick/remediate/lab/testenv"
)

// awscli is Debian's: it is written in Python, on botocore, and has no code in common with the
// SDK for Go.
const awscli = "/usr/bin/aws"

// commands does what /usr/bin/aws does, for many command lines, since it takes longer to start
// than to work.
const commands = `
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver
aws = create_clidriver()
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = aws.main(json.loads(line))
        except SystemExit as e:
            code = e.code
    print(json.dumps({'code': code, 'out': out.getvalue(), 'err': err.getvalue()}))
`

// A told is a command line, and what the tool prints: its JSON without spaces, or a part of its
// complaint, which begins with "…".
type told struct{ line, want string }

// tell has Amazon's tool do the lines in turn, on a server, as commands for EC2.
func tell(t *testing.T, h http.Handler, secret string, lines []told) {
	t.Helper()
	tellOf(t, "ec2", h, secret, lines)
}

func tellOf(t *testing.T, service string, h http.Handler, secret string, lines []told) {
	t.Helper()
	testenv.Need(t, awscli)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	var in, stderr bytes.Buffer
	for _, l := range lines {
		_ = json.NewEncoder(&in).Encode(append([]string{"--endpoint-url", server.URL, "--region", "eu-west-1", service}, strings.Fields(l.line)...))
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", commands)
	cmd.Stdin, cmd.Stderr = &in, &stderr
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=" + secret,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "NO_PROXY=*"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	answers := json.NewDecoder(bytes.NewReader(out))
	for _, l := range lines {
		var a struct {
			Code     int
			Out, Err string
		}
		if err := answers.Decode(&a); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if json.Compact(&got, []byte(a.Out)) != nil {
			got.WriteString(a.Out)
		}
		part, refused := strings.CutPrefix(l.want, "…")
		if (a.Code != 0) != refused || !refused && got.String() != l.want || !strings.Contains(a.Err, part) && refused {
			t.Errorf("aws %s %s: code %d, %s%s\nwant %s", service, l.line, a.Code, got.Bytes(), a.Err, l.want)
		}
	}
}

// TestCLISwaps takes a volume to another instance and back with Amazon's own tool, which knows
// nothing of this server but its address.
func TestCLISwaps(t *testing.T) {
	t.Parallel()
	s := ec2test.New("eu-west-1")
	s.Steps = 1
	id, volume := s.Launch(ec2test.Instance{ID: "i-1", Platform: "windows", Tags: map[string]string{"Name": "WS-1"}}, ec2test.Volume{ID: "vol-1"})
	s.Launch(ec2test.Instance{ID: "i-2"}, ec2test.Volume{ID: "vol-2"})
	state := told{"describe-instances --instance-ids i-1 --query Reservations[].Instances[].State.Name", ""}
	at := told{"describe-volumes --filters Name=volume-id,Values=vol-1 --query Volumes[].[State,Attachments[0].[InstanceId,Device,State]]", ""}
	const onHost, onHelper, nowhere = `[["in-use",["i-1","/dev/sda1","attached"]]]`, `[["in-use",["i-2","/dev/sdf","attached"]]]`, `[["available",null]]`
	see := func(l told, want string) told { l.want = want; return l }
	tell(t, s, s.Secret, []told{
		{"stop-instances --instance-ids i-1 --query StoppingInstances[].[PreviousState.Name,CurrentState.Name]", `[["running","stopping"]]`},
		see(state, `["running"]`), see(state, `["stopped"]`), // the first look after a change is a late one
		{"detach-volume --volume-id vol-1 --instance-id i-1 --device /dev/sda1 --query State", `"detaching"`},
		see(at, onHost), see(at, nowhere),
		{"attach-volume --volume-id vol-1 --instance-id i-2 --device /dev/sdf --query [State,DeleteOnTermination]", `["attaching",false]`},
		{"attach-volume --volume-id vol-1 --instance-id i-1 --device /dev/sda1", "…An error occurred (VolumeInUse) when calling the AttachVolume operation: vol-1 is already attached to an instance"},
		see(at, nowhere), see(at, onHelper),
		{"create-snapshot --volume-id vol-1 --description before,&<after> --tag-specifications ResourceType=snapshot,Tags=[{Key=unbrick,Value=m1},{Key=Name,Value=x:y}] --query [VolumeId,State,Description,Tags[].Value]", `["vol-1","pending","before,&<after>",["x:y","m1"]]`},
		{"describe-snapshots --owner-ids self --filters Name=tag:unbrick,Values=m1 --query length(Snapshots)", "0"},
		{"describe-snapshots --owner-ids self --filters Name=tag:unbrick,Values=m1 Name=volume-id,Values=vol-1 Name=status,Values=pending,completed --query Snapshots[].VolumeId", `["vol-1"]`},
		{"start-instances --instance-ids i-1", "…(InvalidParameterValue)"}, // without its root
		{"detach-volume --volume-id vol-1 --query State", `"detaching"`},
		see(at, onHelper), see(at, nowhere),
		{"attach-volume --volume-id vol-1 --instance-id i-1 --device /dev/sda1 --query State", `"attaching"`},
		see(at, nowhere), see(at, onHost),
		{"start-instances --instance-ids i-1 --query StartingInstances[].CurrentState.Name", `["pending"]`},
		// Last: after it the tool's parser takes no other command in the same process.
		{`modify-instance-attribute --instance-id i-1 --block-device-mappings [{"DeviceName":"/dev/sda1","Ebs":{"DeleteOnTermination":true}}]`, ""},
	})
	if a := s.Volume(volume).Attachment; a.Instance != id || !a.DeleteOnTermination || len(s.Volume(volume).Booted) != 2 {
		t.Errorf("%+v, %v", a, s.Volume(volume).Booted)
	}
}

// TestCLIReads: pages, filters and refusals are those that Amazon's own tool expects.
func TestCLIReads(t *testing.T) {
	t.Parallel()
	s := ec2test.New("eu-west-1")
	s.PageCap = 5
	for range 11 {
		s.Launch(ec2test.Instance{Platform: "windows", Tags: map[string]string{"Site": "SYD"}}, ec2test.Volume{})
	}
	s.Launch(ec2test.Instance{ID: "i-lone", Tags: map[string]string{"Patch": "a b"}, StopProtected: true}, ec2test.Volume{ID: "vol-lone"})
	s.Set("", "vol-lone", func(_ *ec2test.Instance, v *ec2test.Volume) { v.Attachment = ec2test.Attachment{} })
	before := s.Changes()
	tell(t, s, s.Secret, []told{
		{"describe-instances --page-size 5 --filters Name=tag:Site,Values=S?D,nowhere Name=instance-state-name,Values=running --query length(Reservations)", "11"},
		{"describe-instances --page-size 5 --max-items 7 --query [length(Reservations[].Instances[]),type(NextToken)]", `[7,"string"]`},
		{"describe-instances --filters Name=tag-key,Values=Patch --query Reservations[].Instances[].InstanceId", `["i-lone"]`},
		{"describe-instances --filters Name=instance-id,Values=i-lo* --query Reservations[].Instances[].Tags[].[Key,Value]", `[["Patch","a b"]]`},
		{"describe-volumes --page-size 5 --filters Name=status,Values=in-use --query length(Volumes)", "11"},
		{"describe-volumes --filters Name=status,Values=available --query Volumes[].VolumeId", `["vol-lone"]`},
		{"describe-instance-attribute --instance-id i-lone --attribute disableApiStop --query DisableApiStop.Value", "true"},
		{"describe-instance-types --instance-types m5d.large --query InstanceTypes[].[InstanceStorageSupported,EbsInfo.NvmeSupport]", `[[true,"required"]]`},
		{"describe-instances --max-results 4", "…(InvalidParameterValue)"},
		{"describe-instances --page-size 5 --instance-ids i-lone", "…(InvalidParameterCombination)"},
		{"describe-instances --instance-ids i-nobody", "…(InvalidInstanceID.NotFound)"},
		{"describe-volumes --filters Name=colour,Values=red", "…The filter 'colour' is invalid"},
		{"stop-instances --instance-ids i-lone", "…(OperationNotPermitted)"},
		{"stop-instances --instance-ids i-lone --dry-run", "…(DryRunOperation) when calling the StopInstances operation: Request would have succeeded"},
	})
	if s.Changes() != before {
		t.Errorf("%d changes", s.Changes()-before)
	}
	tell(t, s, "wrong", []told{{"describe-volumes", "…(SignatureDoesNotMatch)"}})
}

// TestCLIThrottled: the tool takes a throttle for one, and asks again; of a missing right it
// says so at once.
func TestCLIThrottled(t *testing.T) {
	t.Parallel()
	s := ec2test.New("eu-west-1")
	s.Launch(ec2test.Instance{ID: "i-1"}, ec2test.Volume{})
	var n atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n.Add(1) {
		case 1:
			ec2test.Throttle(w, r)
		case 2:
			s.ServeHTTP(w, r)
		default:
			ec2test.Refuse(w, r)
		}
	})
	tell(t, h, s.Secret, []told{
		{"describe-instances --query Reservations[].Instances[].InstanceId", `["i-1"]`},
		{"describe-instances", "…(UnauthorizedOperation)"},
	})
	if n.Load() != 3 {
		t.Errorf("%d requests", n.Load())
	}
}

// TestCLICommands: Amazon's own tool has commands run, and takes what it is refused for that.
func TestCLICommands(t *testing.T) {
	t.Parallel()
	s := ec2test.New("eu-west-1")
	s.Shell = func(id, script string) (string, string, int) { return script + " on " + id, "bad", len(script) - 5 }
	for range 12 {
		id, _ := s.Launch(ec2test.Instance{}, ec2test.Volume{})
		s.Manage(id, ec2test.Node{Platform: "Linux", Ping: "Online"})
	}
	s.Launch(ec2test.Instance{ID: "i-windows"}, ec2test.Volume{})
	s.Manage("i-windows", ec2test.Node{Platform: "Windows", Ping: "Online"})
	s.Launch(ec2test.Instance{ID: "i-lost"}, ec2test.Volume{})
	s.Manage("i-lost", ec2test.Node{Platform: "Linux", Ping: "ConnectionLost"})
	const id, command, second = "i-00000000000000003", "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
	send := "send-command --document-name AWS-RunShellScript --comment remark --query Command.[CommandId,Comment,InstanceIds] --instance-ids "
	const script = ` --parameters {"commands":["a","b","c"],"executionTimeout":["60"]}`
	look := "get-command-invocation --query [Status,ResponseCode,StandardOutputContent,StandardErrorContent] --instance-id " + id + " --command-id "
	tellOf(t, "ssm", s, s.Secret, []told{
		{"describe-instance-information --page-size 5 --query length(InstanceInformationList)", "14"},
		{"describe-instance-information --filters Key=InstanceIds,Values=i-lost,i-nobody --query InstanceInformationList[].[InstanceId,PingStatus,PlatformType]", `[["i-lost","ConnectionLost","Linux"]]`},
		{"describe-instance-information --filters Key=Colour,Values=red", "…(InvalidFilterKey)"},
		{send + id + script, `["` + command + `","remark",["` + id + `"]]`},
		{look + command, "…(InvocationDoesNotExist)"},
		{look + command, `["InProgress",-1,"",""]`},
		{look + command, `["Success",0,"a\nb\nc on ` + id + `","bad"]`},
		{send + id + ` --parameters {"commands":["false"]}`, `["` + second + `","remark",["` + id + `"]]`},
		{"list-commands --instance-id " + id + " --query Commands[].CommandId", `["` + second + `","` + command + `"]`},
		{"list-commands --instance-id i-lost --query Commands", "[]"},
		{send + "i-lost" + script, "…(InvalidInstanceId)"},
		{send + "i-nobody" + script, "…(InvalidInstanceId)"},
		{send + "i-windows" + script, "…(UnsupportedPlatformType)"},
		{send + id + ` --parameters {"commands":["a"],"colour":["red"]}`, "…(InvalidParameters)"},
		{send + id + ` --parameters {"executionTimeout":["60"]}`, "…(InvalidParameters)"},
		{strings.Replace(send, "AWS-RunShellScript", "AWS-RunPerlScript", 1) + id + script, "…(InvalidDocument)"},
		{look + strings.Replace(command, "8000", "9000", 1), "…(InvocationDoesNotExist)"},
		{"list-documents", "…(UnknownOperationException)"},
	})
	s.Denied = map[string]bool{"SendCommand": true}
	tellOf(t, "ssm", s, s.Secret, []told{{send + id + script, "…(AccessDeniedException)"}})
	tellOf(t, "ssm", s, "wrong", []told{{"list-commands", "…(InvalidSignatureException)"}})
	if n := len(s.Commands()); n != 2 {
		t.Errorf("%d commands", n)
	}
}
