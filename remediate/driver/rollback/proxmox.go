package rollback

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	api "unbrick/inventory/source/proxmox"
	"unbrick/remediate"
	"unbrick/remediate/swap"
)

// ProxmoxOptions say which clusters there are.
type ProxmoxOptions struct {
	// Clusters are those that addresses may name. Where there is one, they need not. Those of the
	// way proxmox serve both ways at one pace.
	Clusters []*api.Client
	Every    time.Duration // how often a task is looked at; 1 s if 0
}

// Proxmox returns the platform of virtual machines of Proxmox VE. It does not reach the clusters.
// Addresses are those of the way proxmox.
//
// A snapshot that has the memory of then is refused, since Proxmox starts with it at once, and so
// is a machine with a disk on ZFS: there only the newest snapshot can be gone to, and that would
// be the one of the present. The same for what the HA manager would start meanwhile. The token
// needs on /vms/VMID VM.Audit, VM.PowerMgmt, VM.Snapshot and VM.Snapshot.Rollback, and
// Datastore.Audit on its storages: without that, a disk on ZFS is found out only when Proxmox
// refuses to go back, and the machine is started as it was. Proved against proxmoxtest, which is
// as strict as its sources are, and not on a real cluster.
func Proxmox(o ProxmoxOptions) Platform {
	return proxmox{clusters: o.Clusters, every: cmp.Or(o.Every, time.Second)}
}

type proxmox struct {
	clusters []*api.Client
	every    time.Duration
}

// Reach implements Platform.
func (p proxmox) Reach(ctx context.Context, t remediate.Target) (Machine, error) {
	text, _, _ := strings.Cut(t.Route.Address, "?") // which disk is swapped does not matter
	cluster, id, named := strings.Cut(text, "/")
	if !named {
		cluster, id = "", text
	}
	vmid, err := strconv.Atoi(id)
	if err != nil || vmid < 100 {
		return nil, fmt.Errorf("%q is no address of a virtual machine of Proxmox VE\nwrite CLUSTER/VMID, such as prod/100", t.Route.Address)
	}
	i := slices.IndexFunc(p.clusters, func(c *api.Client) bool {
		return c.Name() == cluster || cluster == "" && len(p.clusters) == 1
	})
	if i < 0 {
		return nil, fmt.Errorf("no cluster %q of Proxmox VE is configured: add it, or correct the address of the route", cluster)
	}
	m := &qemu{Client: p.clusters[i], every: p.every, host: t.Host.UUID}
	if err := m.Get(ctx, "/cluster/resources", &m.rows); err != nil {
		return nil, m.say("cannot list the guests", err)
	}
	i = slices.IndexFunc(m.rows, func(r resource) bool { return r.Type == "qemu" && r.VMID == vmid })
	if i < 0 {
		return nil, fmt.Errorf("cluster %s shows no virtual machine %d: correct the address of the route, or give the token VM.Audit on /vms/%d", m.Name(), vmid, vmid)
	}
	m.row = m.rows[i]
	return m, nil
}

// A resource is a row of what there is in a cluster.
type resource struct {
	api.Resource
	Plugin string `json:"plugintype"` // of a storage: zfspool, lvmthin, …
}

// A qemu is a virtual machine during one call.
type qemu struct {
	*api.Client
	every time.Duration
	rows  []resource
	row   resource
	host  string // UUID that the inventory has; empty: none
}

// Close implements Machine.
func (m *qemu) Close() error { return nil }

// Look implements Machine.
func (m *qemu) Look(ctx context.Context) (s State, err error) {
	busy, err := m.busy(ctx) // first: what a task that ended in between has done is then seen
	if err != nil {
		return s, err
	}
	var now struct {
		Status string `json:"status"` // running or stopped
		Lock   string `json:"lock"`
		HA     struct {
			State string `json:"state"`
		} `json:"ha"`
	}
	conf := map[string]any{}
	if err = m.Get(ctx, m.row.Path()+"/status/current", &now); err == nil {
		err = m.Get(ctx, m.row.Path()+"/config", &conf)
	}
	if err != nil {
		return s, m.say("cannot ask how it stands", err)
	}
	smbios, _ := conf["smbios1"].(string)
	uuid, _ := api.SMBIOS(smbios)
	if uuid = strings.ToLower(uuid); m.host != "" && uuid != "" && m.host != uuid {
		return s, fmt.Errorf("virtual machine %d on cluster %s has the UUID %s, and the host %s: an id is used again when a guest is removed\ncorrect the address of the route", m.row.VMID, m.Name(), uuid, m.host)
	}
	s = State{ID: strings.TrimSpace(fmt.Sprintf("proxmox %s %s %d", m.Name(), uuid, m.row.VMID)), Name: m.row.Name, Power: Off}
	switch {
	case busy:
		s.Power = Changing
	case now.Status != "stopped":
		s.Power = On
	}
	disks := disksOf(conf)
	switch {
	case now.Lock != "":
		s.Refused = fmt.Sprintf("it is locked (%s)\nwait until that has ended; if nothing is at work on it, qm unlock %d", now.Lock, m.row.VMID)
	case now.HA.State != "" && now.HA.State != "ignored":
		s.Refused = fmt.Sprintf("the HA manager looks after it, and would start it meanwhile\nha-manager set vm:%d --state ignored", m.row.VMID)
	default:
		s.Refused = m.refused(disks)
	}
	s.Snapshots, err = m.snapshots(ctx, disks)
	for i := range s.Snapshots {
		// The node went down in the midst of it: where the disks stand nobody knows.
		s.Snapshots[i].Current = s.Snapshots[i].Current && now.Lock != lockRollback
	}
	return s, err
}

const lockRollback = "rollback"

// busy says whether a task is at work on the machine, as far as it is the token's own or that
// has Sys.Audit.
func (m *qemu) busy(ctx context.Context) (bool, error) {
	var tasks []struct {
		ID   string `json:"id"`
		Ends int64  `json:"endtime"`
	}
	id := strconv.Itoa(m.row.VMID)
	if err := m.Get(ctx, "/nodes/"+url.PathEscape(m.row.Node)+"/tasks?source=active&vmid="+id, &tasks); err != nil {
		return false, m.say("cannot list the tasks", err)
	}
	for _, t := range tasks {
		if t.ID == id && t.Ends == 0 {
			return true, nil
		}
	}
	return false, nil
}

var driveKey = regexp.MustCompile(`^(ide|sata|scsi|virtio|efidisk)[0-9]+$`)

// disksOf returns what disks a configuration has, and on which keys.
func disksOf(conf map[string]any) (all []string) {
	for key, v := range conf {
		text, _ := v.(string)
		volume, named := api.Properties(text)
		volume = cmp.Or(volume, named["file"])
		if driveKey.MatchString(key) && named["media"] != "cdrom" && volume != "none" && !strings.Contains(volume, "cloudinit") {
			all = append(all, key+" on "+volume)
		}
	}
	slices.Sort(all)
	return all
}

// refused says why the machine must not go back to any snapshot: of some storages, not beyond
// the one of the present (PVE::Storage::ZFSPoolPlugin, volume_rollback_is_possible).
func (m *qemu) refused(disks []string) string {
	for _, d := range disks {
		_, volume, _ := strings.Cut(d, " on ")
		storage, _, _ := strings.Cut(volume, ":")
		for _, r := range m.rows {
			if r.Type == "storage" && r.Storage == storage && strings.HasPrefix(r.Plugin, "zfs") {
				return fmt.Sprintf("%s is on ZFS, where no snapshot of the present can be kept when an older one is gone to\ngo back by hand, if the present may be lost for good (qm rollback), or repair the host by another way in", d)
			}
		}
	}
	return ""
}

// snapshots returns those that are complete, oldest first. Its disks now are given.
func (m *qemu) snapshots(ctx context.Context, disks []string) (all []Snapshot, err error) {
	var rows []struct {
		Name   string `json:"name"`
		Parent string `json:"parent"`
		Time   int64  `json:"snaptime"`
		Memory int    `json:"vmstate"`
		State  string `json:"snapstate"` // prepare or delete, while one is made or removed
	}
	if err := m.Get(ctx, m.row.Path()+"/snapshot", &rows); err != nil {
		return nil, m.say("cannot list the snapshots", err)
	}
	current := ""
	for _, r := range rows {
		if r.Name == "current" { // what is no snapshot
			current = r.Parent
		}
	}
	for _, r := range rows {
		if r.Name == "current" || r.State != "" {
			continue
		}
		one := Snapshot{ID: r.Name, Name: r.Name, Made: time.Unix(r.Time, 0).UTC(), Memory: r.Memory != 0, Current: r.Name == current}
		var then map[string]any
		if err := m.Get(ctx, m.row.Path()+"/config?snapshot="+url.QueryEscape(r.Name), &then); err != nil {
			return nil, m.say("cannot read snapshot "+r.Name, err)
		}
		if was := disksOf(then); one.Memory {
			one.Refused = fmt.Sprintf("it has the memory of then, with which Proxmox would start it at once\ngo back by hand (qm rollback %d %s), or repair the host by another way in", m.row.VMID, r.Name)
		} else if !slices.Equal(was, disks) {
			one.Refused = fmt.Sprintf("the machine had other disks then: %q, and now %q\nmake them the same again, or go back by hand (qm rollback)", was, disks)
		}
		all = append(all, one)
	}
	slices.SortStableFunc(all, func(a, b Snapshot) int { return a.Made.Compare(b.Made) })
	return all, nil
}

// Do implements Machine. It waits for the task: its error is nowhere else.
func (m *qemu) Do(ctx context.Context, step Step, snapshot string) error {
	call, form := "", url.Values{}
	switch step {
	case Stop:
		call = "/status/stop"
	case Start:
		call = "/status/start"
	case Keep:
		call, form = "/snapshot", url.Values{"snapname": {snapshot}, "vmstate": {"0"}, "description": {"by unbrick, before it went back to an older one"}}
	case Back:
		call = "/snapshot/" + url.PathEscape(snapshot) + "/rollback"
	default:
		return fmt.Errorf("Proxmox VE knows no step %q", step)
	}
	what := fmt.Sprintf("cannot %s virtual machine %d", step, m.row.VMID)
	var upid string // none if it has ended already
	if err := m.Post(ctx, m.row.Path()+call, form, &upid); err != nil || upid == "" {
		return m.say(what, err)
	}
	for {
		var s struct {
			Status string `json:"status"`
			Exit   string `json:"exitstatus"`
		}
		err := m.Get(ctx, "/nodes/"+url.PathEscape(m.row.Node)+"/tasks/"+url.PathEscape(upid)+"/status", &s)
		switch {
		case err != nil:
			return m.say(what, err)
		case s.Status == "stopped" && (s.Exit == "OK" || strings.HasPrefix(s.Exit, "WARNINGS")):
			return nil
		case s.Status == "stopped":
			err = &api.Error{Status: http.StatusInternalServerError, Message: "the task ended with: " + api.Line(s.Exit)}
			if strings.Contains(s.Exit, "locked ("+lockRollback+")") {
				return fmt.Errorf("%s on cluster %s: %v\nan earlier rollback was cut off half-way: qm unlock %d, then at once qm rollback %d SNAPSHOT", what, m.Name(), err, m.row.VMID, m.row.VMID)
			}
			return m.say(what, err)
		}
		select {
		case <-time.After(m.every):
		case <-ctx.Done():
			return m.say(what, context.Cause(ctx))
		}
	}
}

// say wraps an error of the API. What may pass by itself is a *remediate.RetryError.
func (m *qemu) say(what string, err error) error {
	return swap.Say(what+" on cluster "+m.Name(), err)
}
