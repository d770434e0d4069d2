// Package openstacktest plays the part of an OpenStack cloud that servers and their rescue mode
// are: Keystone, Nova, Glance, and of Cinder what a volume says of itself, behind one http.Handler, as strict as their API references and
// sources say. It imports nothing of ours.
//
// Time passes by requests: what Nova does to a server takes a few of them. Sources are named
// where a check is; "api-ref" is docs.openstack.org/api-ref, "nova" the source of openstack/nova.
package openstacktest

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

// A Cloud has one project, and a user who may work in it. It is safe for concurrent use.
type Cloud struct {
	Password string // of the user "operator"
	Max      string // the highest microversion of Nova: "2.90"
	BFV      bool   // computes have the trait COMPUTE_RESCUE_BFV

	mu      sync.Mutex
	servers []*server
	images  []*image
	volumes map[string]Object
	ids     int
	token   int
	lives   int // requests that a token is good for; -1: for ever
	actions int
	denied  map[string]bool
	fails   map[string]string
}

// New returns a cloud of the release 2020 (Ussuri) or later.
func New() *Cloud {
	return &Cloud{Password: "s3cret", Max: "2.90", BFV: true, lives: -1, volumes: map[string]Object{}, denied: map[string]bool{}, fails: map[string]string{}}
}

// A server is one of Nova's.
type server struct {
	Object
	vm    string // vm_state
	left  int    // requests until its task ends
	end   func()
	boots []string
	tpm   bool
}

// Disk is what a server boots that is not rescued.
const Disk = "disk"

// A Server is one that AddServer makes.
type Server struct {
	ID, Name string
	Volume   bool   // it starts from a volume
	TPM      bool   // a virtual one
	More     Object // laid over it
}

// AddServer makes a server, which runs.
func (c *Cloud) AddServer(s Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := Object{"id": s.ID, "name": s.Name, "status": "ACTIVE", "OS-EXT-STS:task_state": nil, "locked": false, "metadata": Object{}, "image": Object{"id": "00000000-0000-4000-8000-0000000000aa"},
		"OS-EXT-AZ:availability_zone": "nova", "flavor": Object{"original_name": "m1.large", "extra_specs": Object{}}}
	if s.Volume {
		o["image"] = ""
	}
	maps.Copy(o, s.More)
	vm := map[string]string{"ACTIVE": "active", "SHUTOFF": "stopped", "RESCUE": "rescued", "ERROR": "error"}[o["status"].(string)]
	if vm == "" {
		vm = strings.ToLower(o["status"].(string))
	}
	c.servers = append(c.servers, &server{Object: o, vm: vm, tpm: s.TPM})
}

// Set changes a server behind everybody's back.
func (c *Cloud) Set(id, field string, value any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.find(id)
	s.Object[field] = value
	if field == "status" {
		s.vm = map[any]string{"ACTIVE": "active", "SHUTOFF": "stopped", "RESCUE": "rescued", "ERROR": "error"}[value]
	}
}

// Deny has a policy forbid what it is for, as "os_compute_api:os-rescue", or no longer.
func (c *Cloud) Deny(policy string, denied bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied[policy] = denied
}

// Fail has the next action of that name end in ERROR, for that reason.
func (c *Cloud) Fail(action, fault string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails[action] = fault
}

// Lives has the token end after so many requests.
func (c *Cloud) Lives(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives = n
}

// Boots returns what a server booted since it was made: what was in an image, or [Disk].
func (c *Cloud) Boots(id string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.find(id).boots)
}

// Stands returns the status of a server, how often it has booted since it was made, and what it
// booted last. No time passes by it.
func (c *Cloud) Stands(id string) (status string, boots int, last string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.find(id)
	if boots = len(s.boots); boots > 0 {
		last = s.boots[boots-1]
	}
	return s.Object["status"].(string), boots, last
}

// Actions returns how often anything was changed.
func (c *Cloud) Actions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.actions
}

// View returns all that there is, when everything under way has ended.
func (c *Cloud) View() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 20 {
		c.tick()
	}
	var b strings.Builder
	for _, s := range c.servers {
		fmt.Fprintf(&b, "server %v\n", s.Object)
	}
	for _, i := range c.images {
		fmt.Fprintf(&b, "image %v %v\n", i.Object["name"], i.Object["status"])
	}
	return b.String()
}

// AddImage puts an image there.
func (c *Cloud) AddImage(o Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.images = append(c.images, &image{Object: o})
}

// AddVolume puts a volume there.
func (c *Cloud) AddVolume(id string, o Object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o["id"] = id
	c.volumes[id] = o
}

// Changes says whether a request is there to change something: a login is not.
func Changes(r *http.Request) bool {
	return r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/auth/tokens")
}

// tick lets time pass.
func (c *Cloud) tick() {
	for _, s := range c.servers {
		if s.left > 0 {
			if s.left--; s.left == 0 {
				s.Object["OS-EXT-STS:task_state"] = nil
				s.end()
			}
		}
	}
}

func (c *Cloud) find(id string) *server {
	for _, s := range c.servers {
		if s.Object["id"] == id {
			return s
		}
	}
	return nil
}

// be sets what a server is.
func (s *server) be(vm, status string) { s.vm, s.Object["status"] = vm, status }
