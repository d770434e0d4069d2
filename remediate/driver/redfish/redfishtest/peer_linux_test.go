package redfishtest_test

import (
	"os/exec"
	"strings"
	"testing"

	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/testenv"
)

// sushy, with which OpenStack's Ironic boots real machines from virtual media, does so here, in
// each slot for a disc until one takes the image.
const sushy = `
import sys, sushy
from sushy import auth, exceptions

def refused(f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except (exceptions.HTTPError, exceptions.MissingActionError) as e:
        return True

for url in sys.argv[1:]:
    root = sushy.Sushy(url, auth=auth.SessionOrBasicAuth('admin', 'secret'), verify=False)
    system = root.get_system_collection().get_members()[0]
    slots = [m for m in system.managers[0].virtual_media.get_members() if {sushy.VIRTUAL_MEDIA_CD, sushy.VIRTUAL_MEDIA_DVD} & set(m.media_types)]
    taken = [m for m in slots if not refused(m.insert_media, 'http://192.0.2.7:8080/abc/rescue.iso')][:1]
    said = []
    for m in taken:
        m.refresh(force=True)
        said += [m.identity, str(m.inserted)]
    target = sushy.BOOT_SOURCE_TARGET_USB_CD if sushy.BOOT_SOURCE_TARGET_USB_CD in system.get_allowed_system_boot_source_values() else sushy.BOOT_SOURCE_TARGET_CD
    system.set_system_boot_options(target, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE, mode=sushy.BOOT_SOURCE_MODE_UEFI)
    system.reset_system(sushy.RESET_FORCE_RESTART)
    system.refresh(force=True)
    said.append(system.power_state.value)
    for m in taken:
        said.append('late' if refused(m.eject_media) and not refused(m.eject_media) else 'gone')
    system.reset_system(sushy.RESET_FORCE_OFF)
    system.refresh(force=True)
    print(*said, system.power_state.value)
`

// TestSushy: what Ironic does to BMCs it can do to these, on the ways that its version for media
// under managers knows. What then boots is what the models say of real ones.
func TestSushy(t *testing.T) {
	t.Parallel()
	const python = "/usr/bin/python3"
	testenv.Need(t, python, "/usr/lib/python3/dist-packages/sushy")
	wants := []struct {
		model         redfishtest.Model
		said, started string
	}{
		{redfishtest.IDRAC8(), "CD True On gone Off", "Hdd"},    // Cd is the drive with a tray
		{redfishtest.IDRAC9Old(), "CD True On gone Off", "Hdd"}, // so it is here
		{redfishtest.IDRAC9(), "CD True On gone Off", "Cd"},
		{redfishtest.ILO5(), "2 True On late Off", "Cd"},   // not during POST
		{redfishtest.XCC(), "EXT1 True On gone Off", "Cd"}, // by PATCH, since Allow says so
		{redfishtest.Supermicro(), "VirtualMedia1 True On gone Off", "Cd"},
		{redfishtest.OpenBMC(), "Slot_1 True On gone Off", "Cd"},
		{redfishtest.AMI(), "On Off", "Hdd"}, // it insists on what nobody needs
		{redfishtest.CiscoUCS(), "1 True On gone Off", "Cd"},
	}
	args := []string{"-W", "ignore", "-c", sushy}
	var bmcs []*redfishtest.BMC
	for _, w := range wants {
		b, _ := start(t, redfishtest.Options{Model: w.model})
		bmcs, args = append(bmcs, b), append(args, b.URL())
	}
	cmd := exec.CommandContext(t.Context(), python, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "NO_PROXY=*"}
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) != len(wants) {
		t.Fatalf("%v: %s", err, out)
	}
	for i, w := range wants {
		var started []string
		for _, boot := range bmcs[i].State().Boots {
			started = append(started, boot.Device)
		}
		if got := strings.Join(started, " "); lines[i] != w.said || got != w.started {
			t.Errorf("%s: %q, started %q", w.model.Name, lines[i], got)
		}
	}
}
