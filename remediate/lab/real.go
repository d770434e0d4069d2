package lab

import (
	"context"
	"fmt"
	"path/filepath"

	"unbrick/inventory"
	"unbrick/remediate"
	"unbrick/remediate/driver/redfish/redfishtest"
	"unbrick/remediate/lab/vm"
	"unbrick/remediate/rescue/image"
)

// A realHost is a computer in QEMU behind a simulated BMC.
type realHost struct {
	inventory.Host
	machine *vm.Machine
	bmc     *redfishtest.BMC
}

// newRealHost builds the rescue image, which is now the lab's, and one host with the faulty
// file on its disk, switched off.
func newRealHost(ctx context.Context, o Options, log *actionLog) (_ *realHost, err error) {
	o.Say("building the rescue image from Debian's signed parts")
	if _, err := image.Build(ctx, image.Options{Out: filepath.Join(o.Dir, "image"), Profile: image.Lab}); err != nil {
		return nil, err
	}
	dir := filepath.Join(o.Dir, "vm")
	o.Say("building a disk with a stand-in for Windows in " + dir)
	sys, err := vm.BuildSystem(ctx, vm.SystemOptions{Dir: dir})
	if err != nil {
		return nil, err
	}
	h := &realHost{Host: inventory.Host{
		Name: "VM-00001", Serial: "SN-VM-00001", UUID: "4c4c4544-0042-3510-8052-b4c04f4e3132", MAC: []string{"52:54:00:12:34:56"},
		Site: "LAB", Country: "GB", Region: "EMEA", TimeZone: "Europe/London", Opens: "08:00", Tier: inventory.Critical,
	}}
	h.machine, err = vm.New(ctx, vm.Options{
		Dir: dir, Name: h.Name, Serial: h.Serial, UUID: h.UUID, MAC: h.MAC[0], System: sys, Disk: vm.Disk{Faulty: true, Good: true},
	})
	if err != nil {
		return nil, err
	}
	h.bmc, err = redfishtest.Start(redfishtest.Options{
		Model: redfishtest.IDRAC9(), User: bmcUser, Password: bmcPassword,
		UUID: h.UUID, Serial: h.Serial, Host: h.machine, Record: log.recorder(h.Name),
	})
	if err != nil {
		h.machine.Close()
		return nil, fmt.Errorf("cannot start the BMC of %s: %w", h.Name, err)
	}
	h.machine.Attach(h.bmc)
	h.Address = h.machine.Address()
	h.Routes = []inventory.Route{{Driver: "redfish", Address: h.bmc.URL()}}
	return h, nil
}

func (h *realHost) inventory() inventory.Host    { return h.Host }
func (h *realHost) controller() *redfishtest.BMC { return h.bmc }
func (h *realHost) deserves() remediate.Verdict  { return remediate.Fixed }
func (h *realHost) powerOn()                     { h.machine.Start(redfishtest.Boot{Device: redfishtest.Hdd}) }

func (h *realHost) close() {
	h.bmc.Close()
	h.machine.Close()
}
