package proxmox

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"unbrick/remediate/swap"
)

// A detail is how a disk hangs on its guest.
type detail struct {
	Key      string `json:"key"`   // scsi0
	Drive    string `json:"drive"` // its value, to the letter
	Boot     string `json:"boot,omitempty"`
	BootDisk string `json:"bootdisk,omitempty"`
}

func readDetail(s swap.Slot) (d detail, err error) {
	if err = json.Unmarshal(s.Detail, &d); err != nil || d.Key == "" {
		err = fmt.Errorf("the journal does not say how %s hung: %v", s.Volume, err)
	}
	return d, err
}

// Describe implements swap.Instance.
func (in *instance) Describe(ctx context.Context) (swap.Slot, error) {
	g, err := in.read(ctx, in.row)
	if err != nil {
		return swap.Slot{}, err
	}
	s, err := in.status(ctx, in.row)
	if err != nil {
		return swap.Slot{}, err
	}
	refuse := func(err error) (swap.Slot, error) {
		return swap.Slot{}, fmt.Errorf("the disk of %s on cluster %s is not swapped: %w", name(in.row), in.Name(), err)
	}
	if in.opt.isHelper(in.row) {
		return refuse(fmt.Errorf("it is a helper, on which the disks of others hang\ntake it out of the inventory, or make another helper"))
	}
	if err := g.swappable(s); err != nil {
		return refuse(err)
	}
	d, err := g.system(in.at.disk)
	if err == nil {
		err = d.swappable(g)
	}
	if err == nil {
		in.volume = d.volume
		err = in.near(d.volume)
	}
	if err != nil {
		return refuse(err)
	}
	b, err := json.Marshal(detail{d.key, d.text, g.keys["boot"].value, g.keys["bootdisk"].value})
	if err != nil {
		return swap.Slot{}, err
	}
	slot := swap.Slot{Volume: d.volume, Name: fmt.Sprintf("%s as %s of %s", d.volume, d.key, name(in.row)), Detail: b}
	if g.keys["tpmstate0"].value != "" {
		slot.Remark = map[string]string{"tpm": "it stays with the guest: a volume that BitLocker bound to it needs its recovery key"}
	}
	return slot, nil
}

// swappable says why a guest's disk cannot be taken off it and put back as it was.
func (g guest) swappable(s status) error {
	lock := s.Lock
	if lock == "" {
		lock = g.keys["lock"].value
	}
	managed := scalar(s.HA.Managed)
	switch {
	case g.on("template"):
		return fmt.Errorf("it is a template\nrepair what was cloned from it")
	case lock == "suspended" || lock == "suspending":
		return fmt.Errorf("its memory was saved, and would go on with a disk that has changed\nstart it and look, or stop it for good (qm start %d, qm stop %d)", g.VMID, g.VMID)
	case lock != "":
		return fmt.Errorf("it is locked (%s): something is at work on it, or was and broke off\nwait until that has ended; if nothing is at work: qm unlock %d", lock, g.VMID)
	case managed != "" && managed != "0" && s.HA.State != "ignored":
		return fmt.Errorf("the HA manager looks after it, and would start, stop or move it in between\nha-manager set vm:%d --state ignored, and back to %q when all is done", g.VMID, s.HA.State)
	case g.on("protection"):
		return fmt.Errorf("its protection flag forbids to take disks off it\nqm set %d --protection 0, and back to 1 when all is done", g.VMID)
	}
	for key, v := range g.keys {
		if v.pending != "" || v.leaving {
			return fmt.Errorf("a change of %s waits for its next start: it would come into effect in between\nmake it or take it back (qm pending %d, qm set %d --revert %s)", key, g.VMID, g.VMID, key)
		}
	}
	return nil
}

// swappable says why a disk cannot be hung elsewhere.
func (d drive) swappable(g guest) error {
	switch {
	case strings.HasPrefix(d.volume, "/") || !strings.Contains(d.volume, ":"):
		return fmt.Errorf("%s is %s, passed through whole: only root may name a path\nhang it on a helper by hand (qm set, on the node), or repair it by another way in", d.key, d.volume)
	case d.options["snapshot"] != "" && d.options["snapshot"] != "0":
		return fmt.Errorf("%s is thrown back at each start (snapshot=1): what is written to it does not last\nrepair the volume with snapshot=0", d.key)
	case d.options["ro"] != "" && d.options["ro"] != "0":
		return fmt.Errorf("%s is read-only\nrepair what it is made from", d.key)
	}
	if owner := owner(d.volume); owner != "" && owner != fmt.Sprint(g.VMID) {
		return fmt.Errorf("%s, %s, belongs to guest %s, which may write to it too: a cluster of two, or a mistake\nrepair it as the disk of %s, with both of them stopped", d.key, d.volume, owner, owner)
	}
	return nil
}

// owner returns the id of the guest that a volume is named after, as Proxmox finds it: of
// "nfs:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2" and "lvm:vm-100-disk-0" that is 100.
func owner(volume string) string {
	_, path, _ := strings.Cut(volume, ":")
	file := path[strings.LastIndex(path, "/")+1:]
	parts := strings.Split(file, "-")
	if len(parts) < 3 || parts[0] != "vm" && parts[0] != "base" {
		return ""
	}
	return parts[1]
}
