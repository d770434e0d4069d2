package proxmoxtest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var rollbackPath = regexp.MustCompile(`^/snapshot/([^/]+)/rollback$`)

// keep adds a snapshot, with the configuration of now (PVE::AbstractConfig, __snapshot_prepare).
func (v *VM) keep(name string) {
	if v.kept == nil {
		v.kept = map[string]map[string]string{}
	}
	v.kept[name] = maps.Clone(v.Config)
	v.snapshots = append(v.snapshots, name)
	v.Config["parent"] = name
}

// Snapshot makes a snapshot of a guest as somebody else does. The clock of the cluster stands at
// 2023-11-14 22:13:20 UTC for all of them.
func (s *Server) Snapshot(id int, name string) { s.Change(id, func(v *VM) { v.keep(name) }) }

// configThen is what GET /config answers for a snapshot.
func (v *VM) configThen(name string) (any, error) {
	was, ok := v.kept[name]
	if !ok {
		return nil, failed("snapshot '%s' does not exist", name)
	}
	all := map[string]any{"digest": v.digest()}
	for key, value := range was {
		all[key] = value
	}
	return all, nil
}

// rollback puts disks and configuration back, and leaves the guest stopped (PVE::AbstractConfig,
// snapshot_rollback). On ZFS only the newest snapshot can be gone to (PVE::Storage::ZFSPoolPlugin,
// volume_rollback_is_possible). It needs VM.Snapshot or VM.Snapshot.Rollback (API viewer).
func (s *Server) rollback(v *VM, name string) (any, error) {
	if err := s.allowed(fmt.Sprintf("/vms/%d", v.ID), "VM.Snapshot.Rollback"); err != nil {
		return nil, err
	}
	if s.busy(v) {
		return nil, timeout(v)
	}
	return s.fork(v, "qmrollback", func() error {
		was, ok := v.kept[name]
		if !ok {
			return failed("snapshot '%s' does not exist", name)
		}
		if err := v.locked(); err != nil {
			return err
		}
		for key, value := range v.Config {
			if st := s.storage(value); isDrive(key) && st != nil && strings.HasPrefix(st.Kind, "zfs") && slices.Index(v.snapshots, name) < len(v.snapshots)-1 {
				return failed("can't rollback, '%s' is not most recent snapshot", name)
			}
		}
		v.Running = false
		v.Config = maps.Clone(was)
		v.Config["parent"] = name
		v.pending, v.leaving = map[string]string{}, map[string]bool{}
		s.happened(fmt.Sprintf("guest %d", v.ID), "went to "+name+" with", v)
		return nil
	}), nil
}
