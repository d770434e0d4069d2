package gcetest_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"unbrick/remediate/driver/gce/gcetest"
	"unbrick/remediate/lab/testenv"
)

// libcloud, Apache's library in Python, takes a disk from an instance to another and back. Its
// own connection knows pages of lists, operations that are asked for until they are done, and
// errors; its driver asks for more of a project when it starts than disks have to do with.
const libcloud = `
import sys
from libcloud.common.google import GoogleAuthType
from libcloud.compute.drivers.gce import GCEConnection
host, port = sys.argv[1].split(':')
api = GCEConnection('x', None, secure=False, host=host, port=int(port), auth_type=GoogleAuthType.GCE, credential_file=sys.argv[2], project='corp')
api.poll_interval = 0.001

def do(path, params=None, data=None):
    try:
        return api.async_request(path, method='POST', params=params, data=data).object['status']
    except Exception as e:
        return '%s %s' % (type(e).__name__, e.code)

def get(path, *fields):
    try:
        got = api.request(path).object
    except Exception as e:
        return '%s %s' % (type(e).__name__, e.code)
    return [got.get(f) for f in fields]

zones = api.request_aggregated_items('instances')['items']
print({z: [i['name'] for i in zones[z]['instances']] for z in sorted(zones)})
zone, host, helper = '/zones/eu-a', '/zones/eu-a/instances/ws-1', '/zones/eu-a/instances/helper'
boot = api.request(host).object['disks'][0]
print(boot['deviceName'], boot['boot'], boot['autoDelete'], get(host, 'status'))
print(do(helper + '/attachDisk', data={'source': boot['source'], 'deviceName': 'x'}))
print(do(host + '/stop'), get(host, 'status'))
print(do(host + '/detachDisk', {'deviceName': boot['deviceName']}), get(host, 'disks'))
print(do(zone + '/disks/ws-1/createSnapshot', data={'name': 'before-ws-1', 'labels': {'unbrick': 'm1'}}), get('/global/snapshots/before-ws-1', 'name', 'labels'))
print(do(helper + '/attachDisk', data={'source': boot['source'], 'deviceName': 'x', 'autoDelete': False}), [d['deviceName'] for d in api.request(helper).object['disks']])
print(do(host + '/start'))
print(do(helper + '/detachDisk', {'deviceName': 'x'}), do(helper + '/detachDisk', {'deviceName': 'x'}))
print(do(host + '/attachDisk', data={k: boot[k] for k in ('source', 'deviceName', 'boot', 'mode', 'interface', 'type')}))
print(do(host + '/setDiskAutoDelete', {'deviceName': boot['deviceName'], 'autoDelete': 'true'}))
print(do(host + '/start'), get(host, 'status'), api.request(host).object['disks'][0]['autoDelete'])
print(get('/zones/eu-a/instances/nobody'), do('/zones/eu-a/instances/nobody/stop'), get('/zones/eu-a/operations/nothing'))
print(do('/zones/eu-b/instances/ws-2/stop'))
`

// TestLibcloud: a client that nobody here wrote takes this for Compute Engine.
func TestLibcloud(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	testenv.Need(t, python, "/usr/lib/python3/dist-packages/libcloud")
	s := gcetest.New("corp")
	for _, name := range []string{"helper", "ws-1", "ws-3", "ws-4"} {
		s.AddInstance(gcetest.Instance{Zone: "eu-a", Name: name})
	}
	s.AddInstance(gcetest.Instance{Zone: "eu-b", Name: "ws-2"})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(`{"access_token": "t0", "token_type": "Bearer", "expire_time": "2036-07-19T04:09:00Z"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "-c", libcloud, strings.TrimPrefix(server.URL, "http://"), token)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "NO_PROXY=*"}
	out, err := cmd.CombinedOutput()
	const want = `{'zones/eu-a': ['helper', 'ws-1', 'ws-3', 'ws-4'], 'zones/eu-b': ['ws-2']}
ws-1 True True ['RUNNING']
ResourceInUseError RESOURCE_IN_USE_BY_ANOTHER_RESOURCE
DONE ['TERMINATED']
DONE [[]]
DONE ['before-ws-1', {'unbrick': 'm1'}]
DONE ['helper', 'x']
InvalidRequestError invalid
DONE InvalidRequestError invalid
DONE
DONE
DONE ['RUNNING'] True
ResourceNotFoundError None ResourceNotFoundError None ResourceNotFoundError None
DONE
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	if got := strings.Join(s.Events(), ", "); got != "ws-1 on helper, ws-1 started" {
		t.Error(got)
	}
}
