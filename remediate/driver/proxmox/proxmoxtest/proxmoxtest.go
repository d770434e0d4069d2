// Package proxmoxtest is a cluster of Proxmox VE without machines behind it, for tests of
// clients: the part of its API that has to do with disks, power and snapshots of guests.
//
// It is as strict as the real one, after the API viewer (pve.proxmox.com/pve-docs/api-viewer),
// the Proxmox VE Administration Guide (chapters "QEMU/KVM Virtual Machines", "High
// Availability", "User Management") and the sources of qemu-server 8 and pve-storage 8 (named
// at each check). Time passes by requests: a task ends a few of them after it began.
package proxmoxtest

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A VM is a guest as it is made.
type VM struct {
	ID                    int
	Name, Node, Tags      string
	Pool                  string
	Container             bool
	Running               bool
	Template              bool
	HA                    string            // state that the HA manager was told: started, ignored, …; empty: not managed
	Config                map[string]string // keys as in its configuration file
	pending               map[string]string
	leaving               map[string]bool
	snapshots             []string
	kept                  map[string]map[string]string // the configuration of each
	snapping              string
	shown                 string // its status in the list of all, which lags
	unplugFails, unheeded int
	bootFails             int
}

// A Storage is where volumes are.
type Storage struct {
	ID          string
	Shared      bool
	Nodes       []string // that have it
	NoSnapshots bool     // as plain LVM
	Kind        string   // its plugin: zfspool, …; lvmthin if empty
}

// A Server is a cluster. Use New.
type Server struct {
	token string

	mu       sync.Mutex
	clock    int
	vms      map[int]*VM
	storages []Storage
	volumes  map[string]bool
	tasks    map[string]*task // by UPID
	active   []*task          // those at work, and those that ended a short while ago
	missing  map[string]bool
	events   map[string][]string
	wrong    []string
	actions  int
}

// New returns a cluster that takes one API token: USER@REALM!NAME=SECRET.
func New(token string) *Server {
	return &Server{token: token, vms: map[int]*VM{}, tasks: map[string]*task{}, volumes: map[string]bool{}, missing: map[string]bool{}, events: map[string][]string{}}
}

// AddStorage adds a storage.
func (s *Server) AddStorage(st Storage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.storages = append(s.storages, st)
}

// Add adds a guest, with the volumes that its configuration names.
func (s *Server) Add(v VM) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.Config, v.pending, v.leaving = maps.Clone(v.Config), map[string]string{}, map[string]bool{}
	v.shown = v.status()
	for key, value := range v.Config {
		if isDrive(key) {
			s.volumes[volumeOf(value)] = true
		}
	}
	s.vms[v.ID] = &v
}

// Remove removes a guest, as its destruction does.
func (s *Server) Remove(id int) { s.mu.Lock(); delete(s.vms, id); s.mu.Unlock() }

// Change changes a guest as somebody else does.
func (s *Server) Change(id int, change func(v *VM)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.vms[id])
}

// Config returns the configuration of a guest, with what is pending as "pending KEY", and
// whether it runs as "running".
func (s *Server) Config(id int) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.vms[id]
	all := maps.Clone(v.Config)
	for key, value := range v.pending {
		all["pending "+key] = value
	}
	for key := range v.leaving {
		all["pending "+key] = "deleted"
	}
	all["running"] = fmt.Sprint(v.Running)
	return all
}

// Snapshots returns the names of a guest's snapshots.
func (s *Server) Snapshots(id int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.vms[id].snapshots)
}

// Deny takes a privilege from the token: Deny("/vms/100", "VM.PowerMgmt").
func (s *Server) Deny(path, privilege string) {
	s.mu.Lock()
	s.missing[path+" "+privilege] = true
	s.mu.Unlock()
}

// FailUnplug has the next unplugging of a guest's disk time out.
func (s *Server) FailUnplug(id int) { s.Change(id, func(v *VM) { v.unplugFails++ }) }

// FailPlug has the next plugging of a disk into a guest that runs fail.
func (s *Server) FailPlug(id int) { s.Change(id, func(v *VM) { v.unheeded++ }) }

// FailBoot has the next change of a guest's order of boot fail, when all before it is done.
func (s *Server) FailBoot(id int) { s.Change(id, func(v *VM) { v.bootFails++ }) }

// Events returns what became of a volume: "plugged into 900", "started with 100".
func (s *Server) Events(volume string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events[volume])
}

// Actions is how many requests changed something.
func (s *Server) Actions() int { s.mu.Lock(); defer s.mu.Unlock(); return s.actions }

// Wrong says what should not have happened: a volume on two guests at once.
func (s *Server) Wrong() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.wrong) }

// Settle lets every task end.
func (s *Server) Settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 100 {
		s.tick()
	}
}

// tick lets time pass: tasks end in the order in which they began.
func (s *Server) tick() {
	s.clock++
	s.active = slices.DeleteFunc(s.active, func(t *task) bool { return t.exit != "" && s.clock >= t.due+10 })
	for _, t := range s.active {
		if t.exit == "" && s.clock >= t.due {
			t.exit = "OK"
			if err := t.do(); err != nil {
				t.exit = err.Error()
			}
		}
	}
	if s.clock%8 == 0 { // pvestatd broadcasts every ten seconds
		for _, v := range s.vms {
			v.shown = v.status()
		}
	}
}

func (v *VM) status() string {
	if v.Running {
		return "running"
	}
	return "stopped"
}

// digest is that of a configuration file (PVE::QemuServer, parse_vm_config: SHA-1 of its text).
func (v *VM) digest() string {
	h := sha1.New()
	for _, part := range []map[string]string{v.Config, v.pending} {
		for _, key := range slices.Sorted(maps.Keys(part)) {
			fmt.Fprintf(h, "%s: %s\n", key, part[key])
		}
		fmt.Fprintln(h)
	}
	fmt.Fprint(h, slices.Sorted(maps.Keys(v.leaving)), v.snapshots)
	return hex.EncodeToString(h.Sum(nil))
}

var driveKey = regexp.MustCompile(`^(ide[0-3]|sata[0-5]|scsi([0-9]|[12][0-9]|30)|virtio([0-9]|1[0-5]))$`)

func isDrive(key string) bool { return driveKey.MatchString(key) }

func volumeOf(value string) string { first, _, _ := strings.Cut(value, ","); return first }

// ownerOf is the guest that a volume is named after (PVE::Storage::Plugin, parse_volname).
func ownerOf(volume string) string {
	parts := strings.Split(volume[strings.LastIndexAny(volume, ":/")+1:], "-")
	if len(parts) < 3 {
		return ""
	}
	return parts[1]
}

// A fault is an answer that is not a success.
type fault struct {
	status int
	text   string
	errors map[string]string
}

func (f *fault) Error() string { return f.text }

func failed(format string, args ...any) error {
	return &fault{status: http.StatusInternalServerError, text: fmt.Sprintf(format, args...) + "\n"}
}

func invalid(name, text string) error {
	return &fault{http.StatusBadRequest, "Parameter verification failed.\n", map[string]string{name: text + "\n"}}
}

// Fail answers as the API does that refuses a request.
func Fail(w http.ResponseWriter, status int, text string) {
	write(w, nil, &fault{status: status, text: text})
}

func write(w http.ResponseWriter, data any, err error) {
	body := map[string]any{"data": data}
	status := http.StatusOK
	if f, ok := err.(*fault); ok {
		status, body["message"] = f.status, f.text
		if f.errors != nil {
			body["errors"] = f.errors
		}
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
