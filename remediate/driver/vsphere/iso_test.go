package vsphere_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	source "unbrick/inventory/source/vsphere"
	"unbrick/remediate"
	"unbrick/remediate/driver/drivertest"
	"unbrick/remediate/driver/vsphere"
	"unbrick/remediate/driver/vsphere/vspheretest"
)

const isoText = "the rescue image, with a token in it"

// media serves the image, as the rescue server does.
func media(t *testing.T) remediate.Image {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(isoText)))
		io.WriteString(w, isoText)
	}))
	t.Cleanup(s.Close)
	return remediate.Image{URL: s.URL + "/i/t0ken/rescue.iso"}
}

func (b *bench) iso() *vsphere.ISO {
	return vsphere.NewISO(vsphere.Options{Conns: []*source.Conn{b.conn}, Poll: 8}, nil)
}

func (b *bench) isoRig(t *testing.T) drivertest.Rig {
	vmdk, _ := b.VMDK(b.vm)
	was := b.Text(b.vm)
	img := media(t)
	return drivertest.Rig{Driver: b.iso(), Target: b.target(b.vm), Image: img, Refuses: true,
		Boots: func() []string {
			all := b.Booted(vmdk)
			for i, one := range all {
				switch {
				case one == vspheretest.Started:
					all[i] = drivertest.Disk
				case b.Images("ws1")[one] == isoText || strings.HasPrefix(one, "[LocalDS_0] ws1/unbrick-rescue-"):
					all[i] = img.URL
				}
			}
			return all
		},
		Actions: b.Actions, Requests: b.line.Requests, Cut: b.line.Cut, Revive: b.line.Revive, Hang: b.line.Hang,
		Left: func() string {
			if is := b.Text(b.vm); is != was {
				return "it was\n" + was + "and is\n" + is
			}
			if n := len(b.Images("ws1")); n > 0 || b.Extra(b.vm, "unbrick.before") != "" {
				return fmt.Sprintf("%d images, and %q", n, b.Extra(b.vm, "unbrick.before"))
			}
			return ""
		},
	}
}

// TestISO passes the suite of drivers, on a machine whose drive has something else in it and
// that has an order in which it boots.
func TestISO(t *testing.T) {
	b := newBench(t)
	b.Looks = 1 // the other way has slower ones
	b.Edit(b.vm, full)
	restore, err := b.Keep(b.vm, b.helper)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Run(t, func(t *testing.T) drivertest.Rig {
		if err := restore(); err != nil {
			t.Fatal(err)
		}
		b.connect(t)
		return b.isoRig(t)
	})
}

// A machine with an empty drive and no order, and one without a drive, are put back as they were
// too.
func TestISOBare(t *testing.T) {
	for name, change := range map[string]func(*simulator.VirtualMachine){
		"empty": func(*simulator.VirtualMachine) {},
		"none":  func(m *simulator.VirtualMachine) { m.Config.Hardware.Device = deleteDrives(m.Config.Hardware.Device) },
	} {
		b := newBench(t)
		b.Edit(b.vm, change)
		r := b.isoRig(t)
		if err := r.Driver.Enter(t.Context(), r.Target, r.Image); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if boots := r.Boots(); boots[len(boots)-1] != r.Image.URL {
			t.Errorf("%s: it booted %q", name, boots)
		}
		if err := r.Driver.Leave(t.Context(), r.Target, remediate.Posture{}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if left := r.Left(); left != "" {
			t.Errorf("%s: %s", name, left)
		}
	}
}

func full(m *simulator.VirtualMachine) {
	var key int32
	for _, dev := range m.Config.Hardware.Device {
		switch d := dev.(type) {
		case *types.VirtualDisk:
			key = d.Key
		case *types.VirtualCdrom:
			d.Backing = &types.VirtualCdromRemoteAtapiBackingInfo{VirtualDeviceRemoteDeviceBackingInfo: types.VirtualDeviceRemoteDeviceBackingInfo{DeviceName: "laptop"}}
			d.Connectable = &types.VirtualDeviceConnectInfo{AllowGuestControl: true}
		}
	}
	m.Config.BootOptions = &types.VirtualMachineBootOptions{BootDelay: 10, BootOrder: []types.BaseVirtualMachineBootOptionsBootableDevice{
		&types.VirtualMachineBootOptionsBootableDiskDevice{DeviceKey: key}, &types.VirtualMachineBootOptionsBootableCdromDevice{}}}
}

func deleteDrives(all []types.BaseVirtualDevice) (rest []types.BaseVirtualDevice) {
	for _, dev := range all {
		if _, cd := dev.(*types.VirtualCdrom); !cd {
			rest = append(rest, dev)
		}
	}
	return rest
}

// What the machine boots is what the rescue server gave, whole, under a name that does not say
// the token; a half that was left is replaced. A Windows that was seen up is not restarted.
func TestUpload(t *testing.T) {
	b := newBench(t)
	img, d := media(t), b.iso()
	vmdk, _ := b.VMDK(b.vm)
	for _, half := range []bool{false, true} {
		if err := d.Enter(t.Context(), b.target(b.vm), img); err != nil {
			t.Fatal(err)
		}
		all := b.Images("ws1")
		for name, text := range all {
			if len(all) != 1 || text != isoText || strings.Contains(name, "t0ken") {
				t.Errorf("images %q", all)
			}
			up := b.target(b.vm)
			up.Up = true
			n := len(b.Booted(vmdk))
			if err := d.Leave(t.Context(), up, remediate.Posture{}); err != nil {
				t.Fatal(err)
			}
			if len(b.Booted(vmdk)) != n || len(b.Images("ws1")) != 0 {
				t.Errorf("booted %q, images %q", b.Booted(vmdk), b.Images("ws1"))
			}
			if !half {
				if err := b.Write(name, isoText[:9]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(all) == 0 {
			t.Fatal("no image")
		}
	}
}

// A machine that cannot boot the image is refused before anything is done.
func TestISORefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(vm)
		want   string
	}{
		"no place":  {func(m vm) { m.Config.Hardware.Device = nil }, "govc device.cdrom.add"},
		"template":  {func(m vm) { m.Config.Template = true }, "template"},
		"asks":      {func(m vm) { m.Runtime.Question = &types.VirtualMachineQuestionInfo{Text: "moved?"} }, "govc vm.question"},
		"suspended": {func(m vm) { m.Runtime.PowerState = types.VirtualMachinePowerStateSuspended }, "suspended"},
	} {
		b := newBench(t)
		b.Edit(b.vm, c.change)
		n := b.Actions()
		_, err := b.iso().Observe(t.Context(), b.target(b.vm))
		if again := b.iso().Enter(t.Context(), b.target(b.vm), media(t)); err == nil || again == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(again.Error(), c.want) || b.Actions() != n {
			t.Errorf("%s: %v, %v; want %q", name, err, again, c.want)
		}
	}
}
