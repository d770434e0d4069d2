package proxmoxtest_test

import (
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"unbrick/remediate/driver/proxmox/proxmoxtest"
	"unbrick/remediate/lab/testenv"
)

// proxmoxer, in Python, takes a disk from a guest to another and back, and tells what it sees.
const proxmoxer = `
import sys
from proxmoxer import ProxmoxAPI, ResourceException
host, user, name, secret = sys.argv[1:]
api = ProxmoxAPI(host, user=user, token_name=name, token_value=secret, verify_ssl=False)

def task(node, upid):
    assert upid.startswith('UPID:' + node + ':'), upid
    while (state := api.nodes(node).tasks(upid).status.get())['status'] == 'running':
        pass
    return state['exitstatus']

def refused(call, *args, **kwargs):
    try:
        return call(*args, **kwargs)
    except ResourceException as e:
        return e.status_code

print(*sorted((r['vmid'], r['name'], r['node']) for r in api.cluster.resources.get(type='vm')), [r['storage'] for r in api.cluster.resources.get(type='storage')], refused(api.cluster.resources.get, type='qemu'))
host, helper = api.nodes('pve1').qemu(100), api.nodes('pve1').qemu(900)
print(task('pve1', host.status.stop.post()), host.status.current.get()['status'])
print(task('pve1', host.snapshot.post(snapname='before', description='a & b = c')), sorted(s['name'] for s in host.snapshot.get()))
was = host.config.get()
print(was['scsi0'], was['boot'])
print(refused(host.config.post, delete='scsi0', digest='0' * 40), refused(host.config.post, scsi99='x'), refused(host.config.post))
print(task('pve1', host.config.post(delete='scsi0', digest=was['digest'])), {k: v for k, v in host.config.get().items() if k in ('scsi0', 'unused0', 'boot')})
print(task('pve1', helper.config.post(scsi1=was['scsi0'].split(',')[0] + ',serial=unbrick-1')), helper.config.get()['scsi1'])
print([(r['key'], r.get('delete')) for r in helper.pending.get() if r['key'] == 'scsi1'])
print(task('pve1', helper.config.post(delete='scsi1', digest=helper.config.get()['digest'])), 'scsi1' in helper.config.get())
print(task('pve1', host.config.post(scsi0=was['scsi0'], boot=was['boot'])), [host.config.get().get(k) for k in ('scsi0', 'unused0', 'boot')])
print(task('pve1', host.status.start.post()), host.status.current.get()['status'])
print(refused(api.nodes('pve1').qemu(101).config.get), refused(api.nodes('pve2').qemu(100).config.get), refused(api.version.get))
print(refused(ProxmoxAPI(sys.argv[1], user=user, token_name=name, token_value='wrong', verify_ssl=False).cluster.resources.get))
`

// TestProxmoxer: a client that nobody here wrote takes this for a cluster of Proxmox VE.
func TestProxmoxer(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	testenv.Need(t, python, "/usr/lib/python3/dist-packages/proxmoxer", "/usr/lib/python3/dist-packages/requests")
	s := proxmoxtest.New("unbrick@pve!night=12345678-90ab-cdef")
	s.AddStorage(proxmoxtest.Storage{ID: "local-lvm", Nodes: []string{"pve1"}})
	for id, name := range map[int]string{100: "WS-100", 900: "helper"} {
		disk := map[int]string{100: "local-lvm:vm-100-disk-0", 900: "local-lvm:vm-900-disk-0"}[id]
		s.Add(proxmoxtest.VM{ID: id, Name: name, Node: "pve1", Running: true, Config: map[string]string{
			"name": name, "scsihw": "virtio-scsi-pci", "scsi0": disk + ",size=64G", "boot": "order=scsi0", "hotplug": "disk,network,usb"}})
	}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "-c", proxmoxer, strings.TrimPrefix(server.URL, "https://"), "unbrick@pve", "night", "12345678-90ab-cdef")
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "NO_PROXY=*"}
	out, err := cmd.CombinedOutput()
	const want = `(100, 'WS-100', 'pve1') (900, 'helper', 'pve1') ['local-lvm'] 400
OK stopped
OK ['before', 'current']
local-lvm:vm-100-disk-0,size=64G order=scsi0
500 400 500
OK {'boot': 'order=', 'unused0': 'local-lvm:vm-100-disk-0'}
OK local-lvm:vm-100-disk-0,serial=unbrick-1
[('scsi1', None)]
OK False
OK ['local-lvm:vm-100-disk-0,size=64G', None, 'order=scsi0']
OK running
500 500 501
401
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	if got := strings.Join(s.Events("local-lvm:vm-100-disk-0"), ", "); got != "plugged into 900, started with 100" {
		t.Error(got)
	}
	if w := s.Wrong(); len(w) > 0 {
		t.Error(w)
	}
}
