package lab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/object"

	api "unbrick/inventory/source/vsphere"
	"unbrick/remediate/driver/vsphere/vspheretest"
)

// newVSphere plays a vCenter: VMware's own simulator, made stricter.
func newVSphere(_, url string) (*cloud, error) {
	vspheretest.Quiet()
	s, err := vspheretest.New()
	if err != nil {
		return nil, err
	}
	helper, err := s.Add(vspheretest.Machine{Name: helperName, Guest: "debian12_64Guest", Extra: map[string]string{"disk.EnableUUID": "TRUE"}})
	if err != nil {
		s.Close()
		return nil, err
	}
	login := fmt.Sprintf(`url: %q, user: %s, password: "file:vcenter-password"`, url, vspheretest.User)
	var guests []*object.VirtualMachine
	return &cloud{
		kind:    "vsphere",
		source:  login + ", windows: true",
		swap:    "[{" + login + "}]",
		handler: s,
		server:  closing(s.Close),
		helper:  helperName,
		mute:    true,
		files:   map[string]string{"vcenter-password": vspheretest.Password + "\n"},
		snapshots: func() int { // they are clones
			return len(strings.Fields(s.Machines())) - len(guests) - 1
		},
		settle: s.Settle,
		launch: func(h spec, _ string, protected bool) (placed, error) {
			vm, err := s.Add(vspheretest.Machine{Name: h.Name, UUID: h.UUID})
			if err != nil {
				return placed{}, err
			}
			guests = append(guests, vm)
			if protected { // also against vsphere-iso, which machines have beside vsphere
				s.Ask(vm, "moved or copied?")
			}
			_, disk := s.VMDK(vm)
			return placed{address: strings.TrimPrefix(url, "http://") + "/" + s.InstanceUUID(vm), serial: api.Serial(h.UUID),
				look: func() sight { return lookVSphere(s, vm, helper, disk) }, shown: func() string { return s.Text(vm) }}, nil
		},
	}, nil
}

func lookVSphere(s *vspheretest.Server, vm, helper *object.VirtualMachine, disk string) (t sight) {
	on, own := s.Stands(vm)
	t.runs = on && slices.Contains(own, disk)
	if _, lent := s.Stands(helper); slices.Contains(lent, disk) {
		t.mark = strings.ToLower(strings.ReplaceAll(disk, "-", ""))
	}
	return t
}
