package proxmoxtest

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// configure is POST /config (qemu-server, PVE::API2::Qemu, update_vm): what can be refused at
// once is, the rest is the task's.
func (s *Server) configure(v *VM, form url.Values) (any, error) {
	change := map[string]string{}
	for key := range form {
		change[key] = form.Get(key)
	}
	digest, gone, revert := change["digest"], list(change["delete"]), list(change["revert"])
	delete(change, "digest")
	delete(change, "delete")
	delete(change, "revert")
	if len(change)+len(gone)+len(revert) == 0 {
		return nil, failed("no options specified")
	}
	for _, key := range slices.Concat(gone, revert) {
		if !isDrive(key) && key != "boot" && key != "bootdisk" {
			return nil, invalid("delete", "unknown option '"+key+"'")
		}
	}
	for key, value := range change {
		if err := s.mayHave(v, key, value); err != nil {
			return nil, err
		}
	}
	if s.busy(v) {
		return nil, timeout(v)
	}
	if digest != "" && digest != v.digest() {
		return nil, failed("detected modified configuration - file changed by other user? Try again.")
	}
	if err := v.locked(); err != nil {
		return nil, err
	}
	return s.fork(v, "qmconfig", func() error {
		for _, key := range revert {
			delete(v.pending, key)
			delete(v.leaving, key)
		}
		for _, key := range gone {
			if err := s.drop(v, key); err != nil {
				return err
			}
		}
		return s.write(v, change)
	}), nil
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
}

// mayHave checks a value, and whether the token may give it to the guest: a volume of another
// needs VM.Config.Disk there and Datastore.Audit on its storage (pve-storage, PVE::Storage,
// check_volume_access), and a path root@pam.
func (s *Server) mayHave(v *VM, key, value string) error {
	if key == "boot" || key == "bootdisk" {
		return nil
	}
	if !isDrive(key) {
		return invalid(key, "property is not defined in schema and the schema does not allow additional properties")
	}
	volume := volumeOf(value)
	for _, option := range strings.Split(value, ",")[1:] {
		name, text, ok := strings.Cut(option, "=")
		if !ok || name == "serial" && len(text) > 60 {
			return invalid(key, "invalid format - format error")
		}
	}
	st := s.storage(value)
	if strings.HasPrefix(volume, "/") {
		return failed("Only root can pass arbitrary filesystem paths.")
	}
	if st == nil {
		return failed("storage '%s' does not exist", strings.SplitN(volume, ":", 2)[0])
	}
	owner := ownerOf(volume)
	if owner == strconv.Itoa(v.ID) {
		return nil
	}
	if err := s.allowed("/storage/"+st.ID, "Datastore.Audit"); err != nil {
		return err
	}
	return s.allowed("/vms/"+owner, "VM.Config.Disk")
}

// drop deletes a key. A disk also goes out of the order of boot, and its owner keeps it as
// unused.
func (s *Server) drop(v *VM, key string) error {
	value, current := v.Config[key]
	if _, pending := v.pending[key]; !current && !pending {
		return nil // it only warns
	}
	if isDrive(key) && v.Config["protection"] == "1" { // PVE::AbstractConfig, check_protection
		return failed("can't remove drive '%s' - protection mode enabled", key)
	}
	delete(v.pending, key)
	if !current {
		return nil
	}
	if boot, ok := strings.CutPrefix(v.Config["boot"], "order="); ok && slices.Contains(strings.Split(boot, ";"), key) {
		v.Config["boot"] = "order=" + strings.Join(slices.DeleteFunc(strings.Split(boot, ";"), func(k string) bool { return k == key }), ";")
	}
	if v.Running && isDrive(key) {
		if !v.hotplugs() {
			v.leaving[key] = true
			return nil
		}
		if v.unplugFails > 0 { // the guest does not let go of it
			v.unplugFails--
			v.leaving[key] = true
			return failed("Parameter verification failed. %s: hotplug problem - error on hot-unplugging device '%s'", key, key)
		}
	}
	delete(v.Config, key)
	delete(v.leaving, key)
	if isDrive(key) && ownerOf(volumeOf(value)) == strconv.Itoa(v.ID) {
		for n := 0; ; n++ {
			if unused := fmt.Sprintf("unused%d", n); v.Config[unused] == "" {
				v.Config[unused] = volumeOf(value)
				break
			}
		}
	}
	return nil
}

func (v *VM) hotplugs() bool {
	set, ok := v.Config["hotplug"]
	return !ok || set == "1" || strings.Contains(set, "disk")
}

// write sets keys. A volume that is used again is no longer unused (PVE::QemuServer,
// write_vm_config).
func (s *Server) write(v *VM, change map[string]string) error {
	for key, value := range change {
		if !isDrive(key) {
			continue
		}
		if st := s.storage(value); !s.volumes[volumeOf(value)] || !slices.Contains(st.Nodes, v.Node) {
			return failed("no such logical volume %s", volumeOf(value))
		}
		if v.Running && (!v.hotplugs() || v.unheeded > 0) {
			v.pending[key] = value
			if v.unheeded > 0 {
				v.unheeded--
				return failed("Parameter verification failed. %s: hotplug problem - adding drive failed", key)
			}
			continue
		}
		v.Config[key] = value
		for k, unused := range v.Config {
			if strings.HasPrefix(k, "unused") && unused == volumeOf(value) {
				delete(v.Config, k)
			}
		}
		if v.Running {
			s.happened(volumeOf(value), "plugged into", v)
		}
		s.twice(volumeOf(value))
	}
	for _, key := range []string{"boot", "bootdisk"} {
		value, ok := change[key]
		if !ok {
			continue
		}
		if v.bootFails > 0 {
			v.bootFails--
			return failed("unable to write file - No space left on device")
		}
		if order, ok := strings.CutPrefix(value, "order="); ok {
			for _, dev := range strings.Split(order, ";") {
				if _, there := v.Config[dev]; !there {
					return failed("invalid bootorder: device '%s' does not exist'", dev)
				}
			}
		}
		v.Config[key] = value
	}
	return nil
}
