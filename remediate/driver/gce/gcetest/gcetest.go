// Package gcetest plays the part of Google Compute Engine that instances, disks, snapshots and
// operations are: an http.Handler that is as strict as the API's reference says, for those who
// write what swaps disks there. It imports nothing of ours.
//
// Time passes by requests: an operation takes a few of them, and what it did shows on disks one
// request later than on instances. Sources are named where a check is; "reference" is
// cloud.google.com/compute/docs/reference/rest/v1.
package gcetest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// An Object is a resource as the API shows it.
type Object = map[string]any

// A Server is one project. It is safe for concurrent use.
type Server struct {
	Project string

	mu        sync.Mutex
	clock     int
	ids       int
	instances map[string]Object // by zone/name
	disks     map[string]Object // by link from projects/ on
	snapshots map[string]Object
	ops       []*operation
	live      []*operation // those of them that disks do not show yet
	byRequest map[string]*operation
	events    []string
	actions   int
	denied    map[string]bool
	failures  map[string]string // method to the code of an operation that fails, once
	token     string
	lives     int
	groups    map[string][]string
	dark      []string
	ignores   bool
}

// New returns a server that knows one project and one token, "t0".
func New(project string) *Server {
	return &Server{Project: project, instances: map[string]Object{}, disks: map[string]Object{}, snapshots: map[string]Object{},
		byRequest: map[string]*operation{}, denied: map[string]bool{}, failures: map[string]string{}, token: "t0", lives: -1, groups: map[string][]string{}}
}

const root = "https://www.googleapis.com/compute/v1/"

// An Instance is one that AddInstance makes: it runs and starts from a disk of its own.
type Instance struct {
	Zone, Name string
	Regional   bool   // its boot disk is one of the region
	Disk       Object // laid over what the boot disk is
	Attached   Object // laid over how it hangs
	More       Object // laid over the instance
}

// AddInstance makes an instance.
func (s *Server) AddInstance(i Instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids += 2
	zone := fmt.Sprintf("projects/%s/zones/%s", s.Project, i.Zone)
	link, disk := zone+"/instances/"+i.Name, zone+"/disks/"+i.Name
	if i.Regional {
		disk = fmt.Sprintf("projects/%s/regions/%s/disks/%s", s.Project, regionOf(i.Zone), i.Name)
	}
	d := overlay(Object{"id": fmt.Sprint(4000000000000000000 + s.ids), "name": i.Name, "selfLink": root + disk, "status": "READY", "users": []any{root + link}}, i.Disk)
	s.disks[disk] = d
	s.instances[i.Zone+"/"+i.Name] = overlay(Object{
		"id": fmt.Sprint(4000000000000000001 + s.ids), "name": i.Name, "zone": root + zone, "selfLink": root + link, "status": "RUNNING", "machineType": root + zone + "/machineTypes/n2-standard-4",
		"lastStartTimestamp": s.now(),
		"disks": []any{overlay(told(d, Object{"type": "PERSISTENT", "mode": "READ_WRITE", "source": root + disk, "deviceName": i.Name, "index": float64(0),
			"boot": true, "autoDelete": true, "interface": "SCSI"}), i.Attached)},
	}, i.More)
}

// told lays over an attachment what a disk says of itself (reference, disks: licenses and
// guestOsFeatures; an instance shows them at its disks).
func told(d, attached Object) Object {
	for _, field := range []string{"licenses", "guestOsFeatures"} {
		if d[field] != nil {
			attached[field] = d[field]
		}
	}
	return attached
}

func regionOf(zone string) string { return zone[:strings.LastIndexByte(zone, '-')] }

func overlay(o, over Object) Object {
	maps.Copy(o, over)
	return o
}

// AddGroup makes an unmanaged instance group.
func (s *Server) AddGroup(zone, name string, members ...string) { s.groups[zone+"/"+name] = members }

// Deny takes a permission away, as "compute.instances.stop", or gives it back.
func (s *Server) Deny(permission string, denied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[permission] = denied
}

// Fail has the next operation of a method, as "start", end with an error of that code.
func (s *Server) Fail(method, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[method] = code
}

// Forget has attachDisk forget autoDelete: the reference does not promise that it is heeded.
func (s *Server) Forget() { s.ignores = true }

// Darken has zones not answer.
func (s *Server) Darken(zones ...string) { s.dark = zones }

// Lives has tokens be good for so many requests; Token hands out the next.
func (s *Server) Lives(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives = n
}

// Events returns what became of disks and instances: "NAME on HELPER", "NAME started".
func (s *Server) Events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Actions returns how many operations were begun.
func (s *Server) Actions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.actions
}

// Pass lets time pass until every operation is done.
func (s *Server) Pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 20 {
		s.tick()
	}
}

// View returns all that there is, without what changes by itself: times.
func (s *Server) View() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.instances)) {
		fmt.Fprintf(&b, "%s %v\n", k, still(s.instances[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(s.disks)) {
		fmt.Fprintf(&b, "%s %v\n", k, still(s.disks[k]))
	}
	return b.String()
}

// Snapshots returns the names of the snapshots.
func (s *Server) Snapshots() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.snapshots))
}

func still(o Object) Object {
	o = maps.Clone(o)
	maps.DeleteFunc(o, func(k string, _ any) bool { return strings.HasSuffix(k, "Timestamp") })
	return o
}

// Set changes an instance behind everybody's back.
func (s *Server) Set(zone, name, field string, value any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances[zone+"/"+name][field] = value
}

// Stands returns the status of an instance, and the names of its disks by those of their devices.
func (s *Server) Stands(zone, name string) (status string, disks map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.instances[zone+"/"+name]
	disks = map[string]string{}
	for _, o := range i["disks"].([]any) {
		source := o.(Object)["source"].(string)
		disks[o.(Object)["deviceName"].(string)] = source[strings.LastIndexByte(source, '/')+1:]
	}
	return i["status"].(string), disks
}

// Disks returns how the disks of an instance hang.
func (s *Server) Disks(zone, name string) []any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.instances[zone+"/"+name]["disks"].([]any)
}

// Changes says whether a request is there to change something: waiting for an operation is not.
func Changes(r *http.Request) bool {
	return r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/wait") && !strings.HasSuffix(r.URL.Path, "/listInstances") &&
		!strings.HasSuffix(r.URL.Path, "/testIamPermissions") && r.URL.Path != "/token"
}

func (s *Server) now() string {
	s.clock++
	return fmt.Sprintf("2026-07-19T04:%02d:%02d.000-07:00", s.clock/60%60, s.clock%60)
}
