package proxmoxtest

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// config is what GET /config answers: pending changes count as made.
func (s *Server) config(v *VM) map[string]any {
	all := map[string]any{"digest": v.digest()}
	for key, value := range v.Config {
		if !v.leaving[key] {
			all[key] = value
		}
	}
	for key, value := range v.pending {
		all[key] = value
	}
	return all
}

// pending is one row for each key (PVE::GuestHelpers, config_with_pending_array), the digest
// among them.
func (s *Server) pending(v *VM) (rows []map[string]any) {
	current := maps.Clone(v.Config)
	current["digest"] = v.digest()
	for key, value := range current {
		row := map[string]any{"key": key, "value": value}
		if p, ok := v.pending[key]; ok {
			row["pending"] = p
		}
		if v.leaving[key] {
			row["delete"] = 1
		}
		rows = append(rows, row)
	}
	for key, value := range v.pending {
		if _, ok := v.Config[key]; !ok {
			rows = append(rows, map[string]any{"key": key, "pending": value})
		}
	}
	return rows
}

func (s *Server) current(v *VM) map[string]any {
	ha := map[string]any{"managed": 0}
	if v.HA != "" {
		ha = map[string]any{"managed": 1, "state": v.HA}
	}
	all := map[string]any{"status": v.status(), "qmpstatus": v.status(), "vmid": v.ID, "name": v.Name, "ha": ha}
	if lock := v.Config["lock"]; lock != "" {
		all["lock"] = lock
	}
	return all
}

// locked is PVE::AbstractConfig's check_lock.
func (v *VM) locked() error {
	if lock := v.Config["lock"]; lock != "" {
		return failed("VM is locked (%s)", lock)
	}
	return nil
}

// stop stops a guest; one that does not run it leaves alone (PVE::QemuServer, vm_stop). Of one
// that the HA manager looks after it only tells that (Administration Guide, High Availability).
func (s *Server) stop(v *VM) (any, error) {
	if v.HA != "" && v.HA != "ignored" {
		return s.fork(v, "hastop", func() error { v.HA = "stopped"; return nil }), nil
	}
	return s.fork(v, "qmstop", func() error {
		if err := v.locked(); err != nil {
			return err
		}
		v.Running = false
		for key, value := range v.pending {
			v.Config[key] = value
		}
		for key := range v.leaving {
			delete(v.Config, key)
		}
		v.pending, v.leaving = map[string]string{}, map[string]bool{}
		return nil
	}), nil
}

func (s *Server) start(v *VM) (any, error) {
	if v.HA != "" && v.HA != "ignored" {
		return s.fork(v, "hastart", func() error { v.HA = "started"; return nil }), nil
	}
	return s.fork(v, "qmstart", func() error {
		if err := v.locked(); err != nil {
			return err
		}
		if v.Template {
			return failed("you can't start a vm if it's a template")
		}
		if v.Running {
			return failed("VM %d already running", v.ID)
		}
		v.Running = true
		for key, value := range v.Config {
			if isDrive(key) {
				s.happened(volumeOf(value), "started with", v)
			}
		}
		return nil
	}), nil
}

func (s *Server) happened(volume, what string, v *VM) {
	s.events[volume] = append(s.events[volume], fmt.Sprintf("%s %d", what, v.ID))
	s.twice(volume)
}

// twice notes a volume that two guests have, of which one runs: Proxmox itself would let them
// destroy it.
func (s *Server) twice(volume string) {
	if volume == "none" {
		return
	}
	var on []int
	running := false
	for id, v := range s.vms {
		for key, value := range v.Config {
			if isDrive(key) && volumeOf(value) == volume {
				on = append(on, id)
				running = running || v.Running
			}
		}
	}
	if slices.Sort(on); len(on) > 1 && running {
		s.wrong = append(s.wrong, fmt.Sprintf("%s is on %v at once", volume, on))
	}
}

// snapshotName is the format pve-configid.
var snapshotName = regexp.MustCompile(`(?i)^[a-z][a-z0-9_-]{1,39}$`)

func (s *Server) snapshot(v *VM, form url.Values) (any, error) {
	name := form.Get("snapname")
	if !snapshotName.MatchString(name) || name == "current" || name == "pending" {
		return nil, invalid("snapname", "invalid format - invalid configuration ID '"+name+"'")
	}
	if s.busy(v) {
		return nil, timeout(v)
	}
	if err := v.locked(); err != nil {
		return nil, err
	}
	v.snapping = name // the section is there at once, with snapstate: prepare
	return s.fork(v, "qmsnapshot", func() error {
		defer func() { v.snapping = "" }()
		if slices.Contains(v.snapshots, name) {
			return failed("snapshot name '%s' already used", name)
		}
		for key, value := range v.Config { // PVE::AbstractConfig, has_feature
			if st := s.storage(value); isDrive(key) && st != nil && st.NoSnapshots {
				return failed("snapshot feature is not available")
			}
		}
		v.keep(name)
		return nil
	}), nil
}

func (s *Server) listSnapshots(v *VM) []map[string]any {
	all := []map[string]any{{"name": "current", "description": "You are here!", "parent": v.Config["parent"]}}
	for _, name := range v.snapshots {
		row := map[string]any{"name": name, "snaptime": 1700000000, "vmstate": 0}
		if v.kept[name]["vmstate"] != "" { // the volume that has the memory
			row["vmstate"] = 1
		}
		all = append(all, row)
	}
	if v.snapping != "" && !slices.Contains(v.snapshots, v.snapping) {
		all = append(all, map[string]any{"name": v.snapping, "snapstate": "prepare"})
	}
	return all
}

func (s *Server) storage(value string) *Storage {
	id, _, _ := strings.Cut(volumeOf(value), ":")
	for i := range s.storages {
		if s.storages[i].ID == id {
			return &s.storages[i]
		}
	}
	return nil
}

// timeout is that of the guest's lock file, which a task holds (PVE::Tools, lock_file).
func timeout(v *VM) error {
	return &fault{status: http.StatusInternalServerError, text: fmt.Sprintf("can't lock file '/var/lock/qemu-server/lock-%d.conf' - got timeout\n", v.ID)}
}
