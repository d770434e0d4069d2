package openstacktest_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/driver/openstack/openstacktest"
	"unbrick/remediate/lab/testenv"
)

// commands does what /usr/bin/openstack does, for many command lines, since it takes longer to
// start than to work. All of them speak one version.
const commands = `
import contextlib, io, json, sys
from openstackclient.shell import OpenStackShell
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = OpenStackShell().run(json.loads(line))
        except SystemExit as e:
            code = e.code
    print(json.dumps({'code': code, 'out': out.getvalue(), 'err': err.getvalue()}))
`

// A told is a command line, and what the tool prints: its words, or a part of its complaint,
// which begins with "…".
type told struct{ line, want string }

// tell has OpenStack's own tool do the lines in turn, on a cloud. It is written in Python, on
// openstacksdk and novaclient, and has no code in common with gophercloud.
func tell(t *testing.T, c *openstacktest.Cloud, version string, lines []told) {
	t.Helper()
	testenv.Need(t, "/usr/bin/openstack")
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	var in, stderr bytes.Buffer
	for _, l := range lines {
		_ = json.NewEncoder(&in).Encode(strings.Fields(l.line))
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-W", "ignore", "-c", commands)
	cmd.Stdin, cmd.Stderr = &in, &stderr
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "NO_PROXY=*", "OS_AUTH_URL=" + server.URL + "/identity/v3", "OS_IDENTITY_API_VERSION=3", "OS_COMPUTE_API_VERSION=" + version,
		"OS_USERNAME=operator", "OS_PASSWORD=" + c.Password, "OS_PROJECT_NAME=fleet", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default"}
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
		part, refused := strings.CutPrefix(l.want, "…")
		got := strings.Join(strings.Fields(a.Out), " ")
		if (a.Code != 0) != refused || !refused && got != l.want || !strings.Contains(a.Err, part) && refused {
			t.Errorf("openstack %s: code %d, %s%s\nwant %s", l.line, a.Code, got, a.Err, l.want)
		}
	}
}

const (
	rescueDisk = "an ISO"
	ws1        = "7b0c1f3e-0000-4000-8000-000000000001"
)

// TestClientRescues has a server rescued with an image, and put back, by OpenStack's own tool.
func TestClientRescues(t *testing.T) {
	t.Parallel()
	c := openstacktest.New()
	c.AddServer(openstacktest.Server{ID: ws1, Name: "WS-1"})
	iso := filepath.Join(t.TempDir(), "rescue.iso")
	if err := os.WriteFile(iso, []byte(rescueDisk), 0o600); err != nil {
		t.Fatal(err)
	}
	const status = "server show " + ws1 + " -f value -c status" // three requests, by the last of which a task has ended
	tell(t, c, "2.1", []told{
		{"image create --disk-format iso --container-format bare --private --file " + iso + " --property hw_rescue_device=cdrom resc -f value -c status -c visibility", "queued private"},
		{"image show resc -f value -c status -c size -c disk_format", "iso 6 active"},
		{"server stop " + ws1, ""},
		{status, "ACTIVE"},
		{status, "SHUTOFF"},
		{"server rescue --image resc " + ws1, ""},
		{"server unrescue " + ws1, "…Cannot 'unrescue' instance " + ws1 + " while it is in vm_state stopped (HTTP 409)"},
		{status, "RESCUE"},
		{"server rescue --image resc WS-1", "…Cannot 'rescue' instance " + ws1 + " while it is in vm_state rescued (HTTP 409)"},
		{"image delete resc", "…could not be deleted because it is in use"},
		{"server unrescue " + ws1, ""},
		{status, "RESCUE"},
		{status, "ACTIVE"},
		{"image delete resc", ""},
		{"image show resc", "…No Image found for resc"},
	})
	if got := strings.Join(c.Boots(ws1), ","); got != rescueDisk+","+openstacktest.Disk {
		t.Error(got)
	}
}

// TestClientReads: logins, pages and refusals are those that OpenStack's own tool expects.
func TestClientReads(t *testing.T) {
	t.Parallel()
	c := openstacktest.New()
	for n := range 5 {
		digit := string(rune('1' + n))
		c.AddServer(openstacktest.Server{ID: ws1[:len(ws1)-1] + digit, Name: "WS-" + digit, Volume: n == 4})
		c.AddImage(openstacktest.Object{"id": "1a" + ws1[2:len(ws1)-1] + digit, "name": "image-" + digit, "status": "active"})
	}
	tell(t, c, "2.1", []told{
		{"token issue -f value -c project_id -c user_id", "c8 b7"},
		{"--os-password wrong token issue", "…The request you have made requires authentication. (HTTP 401)"},
		{"--os-project-name other server list", "…(HTTP 401)"},
		{"server list --limit -1 -f value -c Name -c Flavor", "WS-1 m1.large WS-2 m1.large WS-3 m1.large WS-4 m1.large WS-5 m1.large"},
		{"image list -f value -c Name", "image-1 image-2 image-3 image-4 image-5"},
		{"server show WS-9", "…No server with a name or ID of 'WS-9' exists."},
		{"server show " + ws1 + " -f value -c name", "WS-1"},
		{"server lock WS-1", ""},
		{"server rescue --image image-1 WS-1", "…Instance " + ws1 + " is locked (HTTP 409)"},
		{"server unlock WS-1", ""},
		{"server rescue --image image-1 WS-5", "…Cannot rescue a volume-backed instance (HTTP 400)"},
	})
	c.Deny("os_compute_api:servers:stop", true)
	tell(t, c, "2.87", []told{
		{"server list --limit -1 -f value -c Name -c Flavor --name S-[23]$", "WS-2 m1.large WS-3 m1.large"},
		{"server rescue --image image-1 WS-5", ""},
		{"server stop WS-2", "…Policy doesn't allow os_compute_api:servers:stop to be performed. (HTTP 403)"},
	})
	c.Max = "2.60"
	tell(t, c, "2.87", []told{
		{"server list", "…Version 2.87 is not supported by the API. Minimum is 2.1 and maximum is 2.60. (HTTP 406)"},
	})
}
