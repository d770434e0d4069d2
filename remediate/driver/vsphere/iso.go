package vsphere

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// An ISO is the way in vsphere-iso: the machine boots the rescue image from its CD-ROM drive,
// once, and its disks stay where they are: on snapshots, linked clones, encrypted ones.
//
// The image is every host's own, since it bears a token; it lies beside the machine's files
// while it is needed, under a name that says nothing of the token. Everything is changed while
// the power is off:
//
//	Enter: power off, upload, image in and CD-ROM first, power on
//	Leave: power off, drive and order as they were, image deleted, power on
//
// How drive and order were is kept in the machine's own configuration (unbrick.before), from
// the change that inserts the image to the one that takes it out: any process finds it there.
//
// Rights beside System.Read: [ISOPrivileges]. Addresses are those of the way vsphere.
type ISO struct {
	platform *platform
	client   *http.Client
}

var _ remediate.Driver = (*ISO)(nil)

// ISOPrivileges returns what the account needs, by VMware's names.
func ISOPrivileges() []string {
	return []string{"VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn", "VirtualMachine.Interact.SetCDMedia",
		"VirtualMachine.Interact.DeviceConnection", "VirtualMachine.Config.EditDevice", "VirtualMachine.Config.AddRemoveDevice",
		"VirtualMachine.Config.Settings", "VirtualMachine.Config.AdvancedConfig", "Datastore.Browse", "Datastore.FileManagement"}
}

// NewISO returns the driver. Client fetches the image from the rescue server; nil is
// http.DefaultClient. Helpers are not used.
func NewISO(o Options, client *http.Client) *ISO {
	if client == nil {
		client = http.DefaultClient
	}
	return &ISO{New(o).(*platform), client}
}

// before is where a machine's configuration keeps how it stood.
const before = "unbrick.before"

// isoLooked are the properties that say how a machine stands on this way.
var isoLooked = append([]string{"config.template", "config.extraConfig", "runtime.question"}, looked...)

// Observe implements remediate.Driver. It also refuses a machine that has no place for a CD-ROM
// drive, or waits for an answer.
func (d *ISO) Observe(ctx context.Context, t remediate.Target) (remediate.Posture, error) {
	v, err := d.visit(ctx, t)
	if err != nil {
		return remediate.Posture{}, err
	}
	if err := v.look(ctx); err != nil {
		return remediate.Posture{}, err
	}
	p := remediate.Posture{Power: string(v.power()), Detail: map[string]string{"machine": v.vm.Name}}
	if image := v.inserted(); image != "" {
		p.Detail["left"] = image
	}
	return p, nil
}

// A visit is one call for one machine.
type visit struct {
	*instance
	sight
	client *http.Client
}

func (d *ISO) visit(ctx context.Context, t remediate.Target) (*visit, error) {
	in, err := d.platform.Reach(ctx, t)
	if err != nil {
		return nil, err
	}
	return &visit{instance: in.(*instance), client: d.client}, nil
}

// look sees how the machine stands, and refuses one that cannot be treated.
func (v *visit) look(ctx context.Context) (err error) {
	if v.sight, err = v.see(ctx, isoLooked); err != nil {
		return err
	}
	if err = whole(v.vm); err == nil {
		err = v.treatable()
	}
	if err != nil {
		return fmt.Errorf("the rescue image is not booted on virtual machine %s: %w", v.vm.Name, err)
	}
	return nil
}

func (v *visit) treatable() error {
	switch {
	case v.vm.Config.Template:
		return fmt.Errorf("it is a template: nothing runs there\nrepair it as a machine, and make it a template again")
	case v.vm.Runtime.PowerState == types.VirtualMachinePowerStateSuspended:
		return fmt.Errorf("it is suspended: its memory would go on with a disk that has changed\nresume it and look, or power it off (govc vm.power -off)")
	case v.vm.Runtime.Question != nil:
		return fmt.Errorf("it waits for an answer: %s\nanswer it first (govc vm.question)", v.vm.Runtime.Question.Text)
	}
	if _, err := v.drive(); err != nil {
		return err
	}
	return quiet(v.sight)
}

// settle looks until nothing is being done to the machine.
func (v *visit) settle(ctx context.Context) error {
	for {
		err := v.look(ctx)
		if err != nil || v.power() != swap.Changing {
			return err
		}
		select {
		case <-time.After(v.opt.Poll):
		case <-ctx.Done():
			return fmt.Errorf("virtual machine %s is still being changed: %w", v.vm.Name, context.Cause(ctx))
		}
	}
}

// maxISOSteps ends a call in which somebody undoes each step.
const maxISOSteps = 8

// climb does steps until there is none to do. Each step follows a look.
func (v *visit) climb(ctx context.Context, next func() func(context.Context) error) error {
	for range maxISOSteps {
		if err := v.settle(ctx); err != nil {
			return err
		}
		step := next()
		if step == nil {
			return nil
		}
		if err := step(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("somebody or something undoes what is done to virtual machine %s: look who else manages it", v.vm.Name)
}

// Enter implements remediate.Driver.
func (d *ISO) Enter(ctx context.Context, t remediate.Target, img remediate.Image) error {
	v, err := d.visit(ctx, t)
	if err != nil {
		return err
	}
	return v.climb(ctx, func() func(context.Context) error {
		in, on := v.inserted() == v.file(img), v.power() == swap.On
		switch {
		case in && on:
			return nil // it was started with it: what is in was put in while it was off
		case on:
			return v.stop
		case in:
			return func(ctx context.Context) error { return v.start(ctx, swap.Entry{}) }
		}
		return func(ctx context.Context) error {
			if err := v.upload(ctx, img); err != nil {
				return err
			}
			return v.insert(ctx, v.file(img))
		}
	})
}

// Leave implements remediate.Driver. What it puts back is what the machine's configuration says.
func (d *ISO) Leave(ctx context.Context, t remediate.Target, _ remediate.Posture) error {
	v, err := d.visit(ctx, t)
	if err != nil {
		return err
	}
	swept := false
	return v.climb(ctx, func() func(context.Context) error {
		on := v.power() == swap.On
		switch {
		case (v.inserted() != "" || v.record() != "") && on && !t.Up:
			return v.stop
		case v.inserted() != "" || v.record() != "":
			return v.takeOut
		case !swept:
			swept = true
			return v.sweep
		case on || t.Up:
			return nil
		}
		return func(ctx context.Context) error { return v.start(ctx, swap.Entry{}) }
	})
}

// isoPrefix begins the names of our images.
const isoPrefix = "unbrick-rescue-"

// file is where the image lies: in the machine's own folder, which its ESXi host sees.
func (v *visit) file(img remediate.Image) string {
	return path.Join(path.Dir(v.vm.Config.Files.VmPathName), isoPrefix+digest(img.URL)+".iso")
}

// inserted returns the image of ours that is in a drive, or nothing.
func (v *visit) inserted() string {
	for _, cd := range v.drives() {
		if b, ok := cd.Backing.(*types.VirtualCdromIsoBackingInfo); ok && strings.HasPrefix(path.Base(b.FileName), isoPrefix) {
			return b.FileName
		}
	}
	return ""
}

// record returns what the machine's configuration keeps of how it stood, or nothing.
func (v *visit) record() string {
	for _, o := range v.vm.Config.ExtraConfig {
		if o.GetOptionValue().Key == before {
			return fmt.Sprint(o.GetOptionValue().Value)
		}
	}
	return ""
}

func (v *visit) drives() (all []*types.VirtualCdrom) {
	for _, dev := range v.vm.Config.Hardware.Device {
		if cd, ok := dev.(*types.VirtualCdrom); ok {
			all = append(all, cd)
		}
	}
	return all
}

// drive returns the drive to use: the one that has an image of ours, or the first, or one to be
// added, whose key is negative.
func (v *visit) drive() (*types.VirtualCdrom, error) {
	all := v.drives()
	for _, cd := range all {
		if b, ok := cd.Backing.(*types.VirtualCdromIsoBackingInfo); ok && strings.HasPrefix(path.Base(b.FileName), isoPrefix) {
			return cd, nil
		}
	}
	if len(all) > 0 {
		return all[0], nil
	}
	for _, dev := range v.vm.Config.Hardware.Device {
		units := int32(0)
		switch dev.(type) {
		case *types.VirtualIDEController:
			units = 2
		case *types.VirtualAHCIController:
			units = 30
		}
		for u := range units {
			if key := dev.GetVirtualDevice().Key; !slices.ContainsFunc(v.vm.Config.Hardware.Device, func(d types.BaseVirtualDevice) bool {
				at := d.GetVirtualDevice()
				return at.ControllerKey == key && at.UnitNumber != nil && *at.UnitNumber == u
			}) {
				return &types.VirtualCdrom{VirtualDevice: types.VirtualDevice{Key: -1, ControllerKey: key, UnitNumber: &u}}, nil
			}
		}
	}
	return nil, fmt.Errorf("it has no CD-ROM drive, and no IDE or SATA controller with room for one\nadd a drive (govc device.cdrom.add), or use the way vsphere")
}
