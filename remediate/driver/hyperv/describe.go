package hyperv

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"unbrick/remediate/swap"
)

// A record is how a disk hangs on its virtual machine.
type record struct {
	Drive drive   `json:"drive"`
	Boot  []entry `json:"boot,omitempty"` // of generation 2
}

func readRecord(s swap.Slot) (r record, err error) {
	if err = json.Unmarshal(s.Detail, &r); err != nil || r.Drive.Path == "" {
		err = fmt.Errorf("the journal does not say how %s hung: %v", s.Volume, err)
	}
	return r, err
}

// Describe implements swap.Instance.
func (in *instance) Describe(ctx context.Context) (swap.Slot, error) {
	s, err := in.read(ctx, "")
	if err != nil {
		return swap.Slot{}, err
	}
	m, err := s.machine(in)
	if err != nil {
		return swap.Slot{}, err
	}
	if s.Detail == nil {
		return swap.Slot{}, fmt.Errorf("hypervisor %s does not say how %s is made up", in.at.host, m.Name)
	}
	err = in.swappable(m, *s.Detail)
	var d drive
	if err == nil {
		d, err = m.system(in.at.disk, s.Detail.Boot)
	}
	if err == nil {
		err = d.swappable(s, m)
	}
	if err != nil {
		return swap.Slot{}, fmt.Errorf("the disk of %s on hypervisor %s is not swapped: %w", m.Name, in.at.host, err)
	}
	b, err := json.Marshal(record{d, s.Detail.Boot})
	if err != nil {
		return swap.Slot{}, err
	}
	slot := swap.Slot{Volume: d.Path, Name: fmt.Sprintf("%s as %s of %s", d.Path, d.place(), m.Name), Detail: b}
	if s.Detail.TPM {
		slot.Remark = map[string]string{"tpm": "it stays with the virtual machine: a volume that BitLocker bound to it needs its recovery key"}
	}
	return slot, nil
}

// swappable says why a virtual machine's disk cannot be taken off it and put back as it was.
func (in *instance) swappable(m machine, d detail) error {
	name := quote(m.Name)
	for _, h := range in.opt.Helpers {
		if strings.EqualFold(h, m.Name) {
			return fmt.Errorf("it is a helper, on which the disks of others hang\ntake it out of the inventory, or make another helper")
		}
	}
	switch {
	case d.Shielded:
		return fmt.Errorf("it is shielded: no other virtual machine may read its disk\nunshield it with its owner's guardian, or repair it by another way in")
	case m.Clustered:
		return fmt.Errorf("a failover cluster looks after it, and would start or move it in between\ntake it out of the cluster (Remove-ClusterGroup -VMId %s -RemoveResources), and put it back when all is done (Add-ClusterVirtualMachineRole -VMName %s)", m.ID, name)
	case m.Replication != "" && m.Replication != "Disabled":
		return fmt.Errorf("it is replicated (%s): what is written to the disk elsewhere would be missing in the replica\nRemove-VMReplication -VMName %s, and set it up again when all is done", m.Replication, name)
	case d.Checkpoints > 0:
		return fmt.Errorf("it has %d checkpoints: the disk is a chain of files, which a change beneath would break\nGet-VMSnapshot -VMName %s | Remove-VMSnapshot, and wait until they are merged; or apply one from before the incident", d.Checkpoints, name)
	case strings.Contains(m.State, "Saved"):
		return fmt.Errorf("its memory was saved, and would go on with a disk that has changed\nStart-VM -Name %s and look, or Remove-VMSavedState -VMName %s", name, name)
	}
	return nil
}

// swappable says why a disk cannot be hung on a helper.
func (d drive) swappable(s site, m machine) error {
	ext := strings.ToLower(path.Ext(strings.ReplaceAll(d.Path, `\`, "/")))
	switch {
	case d.Disk != "":
		return fmt.Errorf("the disk at %s is disk %s of the hypervisor, passed through whole\nhang it on a helper by hand, or repair it by another way in", d.place(), d.Disk)
	case d.Reservations || ext == ".vhds":
		return fmt.Errorf("the disk %s is shared with other virtual machines: two would write to it\nrepair it on one of them, by another way in", d.Path)
	case ext == ".avhdx" || ext == ".avhd":
		return fmt.Errorf("the disk %s is the end of a chain of checkpoints, though no checkpoint is there\nwait until they are merged, or merge them (Hyper-V manager, Edit disk)", d.Path)
	case ext != ".vhdx" && ext != ".vhd":
		return fmt.Errorf("the disk at %s is %q, and no file that can be hung on a helper\nrepair it by another way in", d.place(), d.Path)
	}
	for _, other := range s.VMs {
		if _, ok := other.find(d.Path); ok && other.ID != m.ID {
			return fmt.Errorf("%s has %s too\ntake it off there, or give the host the address of the virtual machine that it is", other.Name, d.Path)
		}
	}
	return nil
}

// system returns the disk that Windows starts from: the one that is asked for; of generation 1
// the first on IDE; of generation 2 the first in the order of boot; or the only one there is.
func (m machine) system(asked string, boot []entry) (drive, error) {
	if asked != "" {
		if d, ok := m.at(asked); ok {
			return d, nil
		}
		return drive{}, fmt.Errorf("it has no disk at %s", asked)
	}
	if d, ok := m.at("IDE:0:0"); ok && m.Generation == 1 {
		return d, nil
	}
	for _, e := range boot {
		if d, ok := m.at(e.Key); ok && e.Kind == "Drive" {
			return d, nil
		}
	}
	if len(m.Drives) == 1 {
		return m.Drives[0], nil
	}
	return drive{}, fmt.Errorf("it has %d disks, and none is in its order of boot\nsay which one Windows starts from: put ?disk=SCSI:0:0 behind the address of the route", len(m.Drives))
}
