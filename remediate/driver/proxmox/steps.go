package proxmox

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"strings"

	"unbrick/remediate/swap"
)

// Do implements swap.Instance. It returns when the task has ended, or its context has.
func (in *instance) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	switch step {
	case swap.Stop:
		return in.run(ctx, in.row, "/status/stop", url.Values{}, "cannot stop "+name(in.row))
	case swap.Start:
		return in.run(ctx, in.row, "/status/start", url.Values{}, "cannot start "+name(in.row))
	case swap.Snap:
		return in.snap(ctx, e)
	case swap.Release:
		return in.release(ctx, e)
	case swap.Return:
		return in.giveBack(ctx, e)
	case swap.Lend:
		return in.lend(ctx, e, helper)
	case swap.Recover:
		return in.recover(ctx, e, helper)
	}
	return fmt.Errorf("Proxmox VE knows no step %q", step)
}

// hasSnapshot says whether the guest has a snapshot of that name, complete.
func (in *instance) hasSnapshot(ctx context.Context, mark string) (bool, error) {
	there, state, err := in.snapshot(ctx, mark)
	return there && state == "", err
}

// HasSnapshot implements swap.SnapshotFinder.
func (in *instance) HasSnapshot(ctx context.Context, e swap.Entry) (bool, error) {
	there, _, err := in.snapshot(ctx, e.Mark)
	return there, err
}

// snapshot says whether the guest has a snapshot of that name, and what is done to it: prepare or
// delete, while it is made or removed.
func (in *instance) snapshot(ctx context.Context, mark string) (there bool, state string, err error) {
	var all []struct {
		Name  string `json:"name"`
		State string `json:"snapstate"`
	}
	if err := in.Get(ctx, in.row.Path()+"/snapshot", &all); err != nil {
		return false, "", in.say("cannot list the snapshots of "+name(in.row), err)
	}
	for _, s := range all {
		if s.Name == mark {
			return true, s.State, nil
		}
	}
	return false, "", nil
}

// snap makes a snapshot of all disks of the guest while it is off: Proxmox makes none of one.
func (in *instance) snap(ctx context.Context, e swap.Entry) error {
	form := url.Values{"snapname": {e.Mark}, "vmstate": {"0"}, "description": {"by unbrick, before it repairs a disk; qm delsnapshot removes it"}}
	return in.run(ctx, in.row, "/snapshot", form, "cannot make a snapshot of "+name(in.row)+
		" (all its disks have to be on storage that can: ZFS, LVM-thin, Ceph, or qcow2 files; else run without snapshots, or vzdump it yourself)")
}

// Removal returns the command that removes the snapshot of an entry, on the node of the guest.
func Removal(e swap.Entry) string {
	a, err := parseAddress(e.Address)
	if err != nil || !e.Snapshot {
		return ""
	}
	return fmt.Sprintf("qm delsnapshot %d %s", a.vmid, e.Mark)
}

// release takes the disk off the guest, which keeps it as unused. From one that somebody started
// just now, Proxmox would unplug it.
func (in *instance) release(ctx context.Context, e swap.Entry) error {
	s, err := in.status(ctx, in.row)
	if err != nil {
		return err
	}
	if s.power() != swap.Off {
		return fmt.Errorf("%s on cluster %s was started just now, so its disk is not taken off it", name(in.row), in.Name())
	}
	g, err := in.read(ctx, in.row)
	if err != nil {
		return err
	}
	key, _ := g.find(e.Slot.Volume)
	if key == "" {
		return nil
	}
	return in.set(ctx, g, url.Values{"delete": {key}}, fmt.Sprintf("cannot take %s off %s", key, name(in.row)))
}

// giveBack hangs the disk back as it hung, and makes sure of it.
func (in *instance) giveBack(ctx context.Context, e swap.Entry) error {
	was, err := readDetail(e.Slot)
	if err != nil {
		return err
	}
	if err := in.forget(ctx, e.Slot.Volume); err != nil {
		return err
	}
	g, err := in.read(ctx, in.row)
	if err != nil {
		return err
	}
	switch key, _ := g.find(e.Slot.Volume); {
	case key == was.Key && was.same(g) == nil:
		return nil
	case key == "" || key == was.Key:
		if other := g.keys[was.Key]; key == "" && other.value != "" {
			return fmt.Errorf("%s was on %s of %s, where somebody has hung %s meanwhile: take that off (qm set %d --delete %s)", e.Slot.Volume, was.Key, name(in.row), other.value, g.VMID, was.Key)
		}
		if err := in.set(ctx, g, was.form(g), fmt.Sprintf("cannot hang %s back on %s", was.Key, name(in.row))); err != nil {
			return err
		}
		if g, err = in.read(ctx, in.row); err != nil {
			return err
		}
	}
	return was.same(g)
}

// form is what makes a guest's disk and order of boot again what they were.
func (d detail) form(g guest) url.Values {
	form := url.Values{d.Key: {d.Drive}}
	var gone []string
	for key, was := range map[string]string{"boot": d.Boot, "bootdisk": d.BootDisk} {
		switch is := g.keys[key].value; {
		case is == was:
		case was == "":
			gone = append(gone, key)
		default:
			form.Set(key, was)
		}
	}
	if len(gone) > 0 {
		form.Set("delete", strings.Join(gone, ","))
	}
	return form
}

// same makes sure that disk and order of boot are what they were. The size that a configuration
// shows is what Proxmox last measured.
func (d detail) same(g guest) error {
	is, was := parseDrive(d.Key, g.keys[d.Key].value), parseDrive(d.Key, d.Drive)
	delete(is.options, "size")
	delete(was.options, "size")
	if is.volume != was.volume || !maps.Equal(is.options, was.options) {
		return fmt.Errorf("the disk is back on %s, but not as it was: %s is %q, and was %q", name(g.Resource), d.Key, g.keys[d.Key].value, d.Drive)
	}
	if boot, disk := g.keys["boot"].value, g.keys["bootdisk"].value; boot != d.Boot || disk != d.BootDisk {
		return fmt.Errorf("the disk is back on %s, but its order of boot is %q, %q, and was %q, %q", name(g.Resource), boot, disk, d.Boot, d.BootDisk)
	}
	return nil
}

// forget takes back what waits for the next start of a helper: it would then have a disk that
// is somewhere else.
func (in *instance) forget(ctx context.Context, volume string) error {
	for _, r := range in.helpers() {
		g, err := in.read(ctx, r)
		if err != nil {
			return err
		}
		if key, s := g.find(volume); key != "" && s.value == "" {
			if err := in.set(ctx, g, url.Values{"revert": {key}}, "cannot take back what waits on the helper "+name(r)); err != nil {
				return err
			}
		}
	}
	return nil
}

// helper returns the one of that name.
func (in *instance) helper(ctx context.Context, called string) (guest, error) {
	for _, r := range in.helpers() {
		if r.Name == called {
			return in.read(ctx, r)
		}
	}
	return guest{}, fmt.Errorf("the helper %q is not on cluster %s any more", called, in.Name())
}
