package proxmox

import (
	"context"
	"fmt"
	"strings"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate/swap"
)

// markPrefix begins the serial numbers of disks that swap hung on a helper.
const markPrefix = "unbrick-"

// Look implements swap.Instance. A task that another call set going is not yet done: it shows
// as Changing, and where it may be about the volume as Moving.
func (in *instance) Look(ctx context.Context, e swap.Entry) (swap.State, error) {
	// The tasks first: what one that ended in between has done is then seen.
	tasks, err := in.tasks(ctx, in.row)
	if err != nil {
		return swap.State{}, err
	}
	s, err := in.status(ctx, in.row)
	if err != nil {
		return swap.State{}, err
	}
	state := swap.State{Power: s.power(), Volume: swap.Own}
	if len(tasks) > 0 {
		state.Power = swap.Changing
	}
	if e.Slot.Volume == "" {
		return state, nil
	}
	in.volume = e.Slot.Volume
	g, err := in.read(ctx, in.row)
	if err != nil {
		return swap.State{}, err
	}
	if key, _ := g.find(e.Slot.Volume); key != "" {
		if e.Snapshot {
			state.Snapshot, err = in.hasSnapshot(ctx, e.Mark)
		}
		if was, bad := readDetail(e.Slot); bad == nil && state.Power == swap.Off && was.same(g) != nil {
			state.Volume = swap.Free // it was hung back, and that did not end well
		}
		return state, err
	}
	if configures(tasks) {
		state.Volume = swap.Moving
		return state, nil
	}
	state.Volume, state.On, err = in.away(ctx, e.Slot.Volume)
	return state, err
}

// away says where a volume is that the guest does not have.
func (in *instance) away(ctx context.Context, volume string) (swap.Place, string, error) {
	for _, r := range in.helpers() {
		tasks, err := in.tasks(ctx, r)
		if err != nil {
			return "", "", err
		}
		g, err := in.read(ctx, r)
		if err != nil {
			return "", "", err
		}
		key, s := g.find(volume)
		if key != "" && s.value != "" {
			if _, p := api.Properties(s.value); strings.HasPrefix(p["serial"], markPrefix) {
				return swap.Lent, r.Name, nil
			}
			return swap.Elsewhere, r.Name, nil
		}
		if configures(tasks) {
			return swap.Moving, "", nil // this volume, or another
		}
	}
	return swap.Free, "", nil
}

// helpers returns those of the cluster, wherever they are and whether they run or not.
func (in *instance) helpers() (all []api.Resource) {
	for _, r := range in.rows {
		if in.opt.isHelper(r) && r.VMID != in.row.VMID {
			all = append(all, r)
		}
	}
	return all
}

// shared says whether a volume can be reached from a node other than the guest's.
func (in *instance) shared(volume, node string) bool {
	storage, _, _ := strings.Cut(volume, ":")
	for _, r := range in.rows {
		if r.Type == "storage" && r.Storage == storage && r.Node == node && r.Shared != 0 {
			return true
		}
	}
	return false
}

// reaches says whether a helper can have a volume.
func (in *instance) reaches(r api.Resource, volume string) bool {
	return r.Node == in.row.Node || in.shared(volume, r.Node)
}

// near makes sure that there is a helper which a volume can be hung on, and that its name is
// no other's: by that the agent on it is told what it may repair.
func (in *instance) near(volume string) error {
	seen := map[string]int{}
	found := ""
	for _, r := range in.helpers() {
		if seen[r.Name] != 0 {
			return fmt.Errorf("the helpers %d and %d are both called %q: give each a name of its own", seen[r.Name], r.VMID, r.Name)
		}
		seen[r.Name] = r.VMID
		if in.reaches(r, volume) {
			found = r.Name
		}
	}
	if found == "" && len(seen) > 0 {
		storage, _, _ := strings.Cut(volume, ":")
		return fmt.Errorf("storage %q is on node %s alone, and no helper is\nmake one there (or give the token Datastore.Audit on /storage/%s, if it is shared)", storage, in.row.Node, storage)
	}
	return nil
}

// Helpers implements swap.Instance.
func (in *instance) Helpers(ctx context.Context) (all []swap.Helper, err error) {
	var unfit error
	for _, r := range in.helpers() {
		if !in.reaches(r, in.volume) {
			continue
		}
		s, err := in.status(ctx, r)
		if err != nil {
			return nil, err
		}
		if s.power() != swap.On || s.Lock != "" {
			continue
		}
		g, err := in.read(ctx, r)
		if err != nil {
			return nil, err
		}
		if err := g.fit(); err != nil {
			unfit = err
			continue
		}
		n := 0
		for key, v := range g.keys {
			if _, p := api.Properties(v.value); isDrive(key) && strings.HasPrefix(p["serial"], markPrefix) {
				n++
			}
		}
		all = append(all, swap.Helper{Name: r.Name, Lent: n})
	}
	if len(all) == 0 {
		return nil, unfit
	}
	return all, nil
}

// fit says why a helper that runs takes no disks.
func (g guest) fit() error {
	hotplug, set := g.keys["hotplug"]
	if set && hotplug.value != "1" && !strings.Contains(hotplug.value, "disk") {
		return fmt.Errorf("the helper %s takes no disk while it runs\nqm set %d --hotplug network,disk,usb, and start it again", name(g.Resource), g.VMID)
	}
	if !strings.HasPrefix(g.keys["scsihw"].value, "virtio-scsi") {
		return fmt.Errorf("the SCSI controller of the helper %s is not virtio-scsi\nqm set %d --scsihw virtio-scsi-pci, and start it again", name(g.Resource), g.VMID)
	}
	return nil
}
