package proxmox_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"unbrick/inventory"
	"unbrick/inventory/rest"
	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate/driver/proxmox"
	"unbrick/remediate/driver/proxmox/proxmoxtest"
	"unbrick/remediate/rescue"
	"unbrick/remediate/swap"
	"unbrick/remediate/swap/swaptest"
)

func checked(t *testing.T, s *proxmoxtest.Server) swap.Checkup {
	d := swap.New(swap.Options{Way: "proxmox", Platform: platform(t, line(t, s).URL), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}, Snapshot: true})
	found := d.Check(t.Context(), target("WS-0100", "prod/100"))
	if s.Actions() != 0 {
		t.Error("something was changed")
	}
	return found
}

// Check names the privileges that are missing, and on which path.
func TestCheck(t *testing.T) {
	s := cluster()
	if f := checked(t, s); f.Platform != nil || f.Rights != nil || f.Refused != nil || f.Helper != nil || len(f.Helpers) != 1 {
		t.Errorf("all is there: %+v", f)
	}
	s.Deny("/vms/100", "VM.PowerMgmt")
	s.Deny("/vms/100", "VM.Snapshot")
	s.Deny("/vms/900", "VM.Config.Disk")
	s.Deny("/storage/local-lvm", "Datastore.Audit")
	var lacks *inventory.RightError
	const want = "VM.PowerMgmt, VM.Snapshot on /vms/100; VM.Config.Disk on /vms/900; Datastore.Audit on /storage/local-lvm"
	if f := checked(t, s); !errors.As(f.Rights, &lacks) || lacks.Right != want {
		t.Errorf("got  %v\nwant %s", f.Rights, want)
	}
}

// Check says what is wrong with the helper.
func TestCheckHelper(t *testing.T) {
	for want, change := range map[string]func(v *proxmoxtest.VM){
		"start one beside it":               func(v *proxmoxtest.VM) { v.Running = false },
		"takes no disk while it runs":       func(v *proxmoxtest.VM) { v.Config["hotplug"] = "network,usb" },
		"the SCSI controller of the helper": func(v *proxmoxtest.VM) { v.Config["scsihw"] = "lsi" },
	} {
		s := cluster()
		s.Change(900, change)
		if f := checked(t, s); f.Helper == nil || !strings.Contains(f.Helper.Error(), want) {
			t.Errorf("%q: %+v", want, f)
		}
	}
	s := cluster()
	s.Remove(900)
	if f := checked(t, s); f.Helper == nil {
		t.Errorf("there is none: %+v", f)
	}
}

// Where nobody answers, somebody who waits is not kept for repeated reads.
func TestCheckDead(t *testing.T) {
	t.Setenv("PROXMOX_VE_API_TOKEN", token)
	clusters, err := proxmox.Connect(0, api.Access{Name: "prod", URL: "http://127.0.0.1:1", Pause: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	d := swap.New(swap.Options{Way: "proxmox", Platform: proxmox.New(proxmox.Options{Clusters: clusters}), Desk: new(swaptest.Desk), Records: &rescue.MemRecords{}})
	if f := d.Check(rest.Briefly(t.Context()), target("WS-0100", "prod/100")); f.Platform == nil || !strings.Contains(f.Platform.Error(), "cannot reach Proxmox VE prod") {
		t.Errorf("%+v", f)
	}
}
