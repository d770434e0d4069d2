package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"unbrick/bitlocker/fve"
	"unbrick/bitlocker/fve/fvetest"
	"unbrick/bitlocker/keytest"
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
	lock    *keytest.Filing // what opens its volume; nil: it is not encrypted
}

// newRealHosts builds the rescue image, which is then the lab's, and two hosts with the
// faulty file on their disks, switched off; the disk of the second is encrypted.
func newRealHosts(ctx context.Context, o Options, log *actionLog) (hosts []*realHost, err error) {
	o.Say("building the rescue image from Debian's signed parts")
	if _, err := image.Build(ctx, image.Options{Out: filepath.Join(o.Dir, "image"), Profile: image.Lab}); err != nil {
		return nil, err
	}
	o.Say("building a stand-in for Windows, and two disks with it")
	dir := filepath.Join(o.Dir, "vm")
	sys, err := vm.BuildSystem(ctx, vm.SystemOptions{Dir: dir})
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(o.Seed, 48))
	locks := []*keytest.Filing{nil, {ID: keytest.NewKeyID(rng), Key: keytest.NewKey(rng)}}
	for i, lock := range locks {
		h := &realHost{lock: lock, Host: inventory.Host{
			Name: fmt.Sprintf("VM-%05d", i+1), Serial: fmt.Sprintf("SN-VM-%05d", i+1), UUID: fmt.Sprintf("4c4c4544-0042-3510-8052-b4c04f4e313%d", i+1),
			MAC:  []string{fmt.Sprintf("52:54:00:12:34:5%d", i+1)},
			Site: "LAB", Country: "GB", Region: "EMEA", TimeZone: "Europe/London", Opens: "08:00", Tier: inventory.Critical,
		}}
		if err := h.build(ctx, filepath.Join(dir, h.Name), sys, log); err != nil {
			return hosts, fmt.Errorf("cannot make %s: %w", h.Name, err)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// build makes the disk and the computer, and puts it behind a BMC.
func (h *realHost) build(ctx context.Context, dir string, sys *vm.System, log *actionLog) (err error) {
	disk := vm.Disk{Faulty: true, Good: true}
	if h.lock != nil {
		disk.Encrypted = &vm.Encryption{Protectors: []fvetest.Protector{{ID: h.lock.ID, Kind: fve.RecoveryPassword, Key: h.lock.Key}}}
	}
	h.machine, err = vm.New(ctx, vm.Options{Dir: dir, Name: h.Name, Serial: h.Serial, UUID: h.UUID, MAC: h.MAC[0], System: sys, Disk: disk})
	if err != nil {
		return err
	}
	h.bmc, err = redfishtest.Start(redfishtest.Options{
		Model: redfishtest.IDRAC9(), User: controllerUser, Password: controllerPassword,
		UUID: h.UUID, Serial: h.Serial, Host: h.machine, Record: log.recorder(h.Name),
	})
	if err != nil {
		h.machine.Close()
		return err
	}
	h.machine.Attach(h.bmc)
	h.Address = h.machine.Address()
	h.Routes = []inventory.Route{{Driver: "redfish", Address: h.bmc.URL()}}
	return nil
}

func (h *realHost) inventory() inventory.Host             { return h.Host }
func (h *realHost) left() []string                        { return leftInBMC(h.bmc) }
func (h *realHost) deserves() (remediate.Verdict, string) { return remediate.Fixed, "redfish" }
func (h *realHost) powerOn()                              { h.machine.Start(redfishtest.Boot{Device: redfishtest.Hdd}) }

func (h *realHost) filing() (keytest.Filing, bool) {
	if h.lock == nil {
		return keytest.Filing{}, false
	}
	return keytest.Filing{ID: h.lock.ID, Host: h.Name, Key: h.lock.Key}, true
}

func (h *realHost) close() {
	h.bmc.Close()
	h.machine.Close()
}
