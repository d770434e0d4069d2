package netbox_test

import (
	"os/exec"
	"testing"

	"unbrick/inventory/sourcetest"
	"unbrick/remediate/lab/testenv"
)

const pynetbox = `
import sys, pynetbox
nb = pynetbox.api(sys.argv[1], token='abc')
print(nb.status()['netbox-version'])
print([d.name for d in nb.dcim.devices.all()])
print([d.serial for d in nb.dcim.devices.all(limit=1)])
print(nb.dcim.devices.count())
print([d.name for d in nb.dcim.devices.filter(role='pc')])
print([(s.name, s.time_zone, s.region.name) for s in nb.dcim.sites.all()])
`

// TestPynetbox: NetBox's own client takes the box for one.
func TestPynetbox(t *testing.T) {
	const python = "/usr/bin/python3"
	testenv.Need(t, python, "/usr/lib/python3/dist-packages/pynetbox")
	b := newBox(t, 5)
	open(t, b, &sourcetest.Service{}, nil)
	cmd := exec.CommandContext(t.Context(), python, "-W", "ignore", "-c", pynetbox, b.url)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "NO_PROXY=*"}
	out, err := cmd.CombinedOutput()
	const want = `4.2.0
['PC0', 'PC1', 'PC2', 'PC3', 'PC4']
['S100', 'S101', 'S102', 'S103', 'S104']
5
['PC0', 'PC1', 'PC2', 'PC3', 'PC4']
[('Sydney', 'Australia/Sydney', 'APAC')]
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}
