// Package ec2test is a server that answers as Amazon EC2 does (Query API, version 2016-11-15),
// for those who swap volumes. It imports nothing of unbrick's.
//
// It is as strict as the real one where that is known, with EC2's own error codes; a comment
// says where each rule is from. UG is the EC2 User Guide, EBS the EBS User Guide, API the EC2
// API Reference, ERR its page "Error codes for the Amazon EC2 API". What is not documented, as
// the code of some refusals, is as others have seen it, and says so.
//
// Time passes by requests. What a change sets going ends when the thing was read Steps times;
// and the first read after a change shows what was before it, since EC2 is eventually
// consistent (API, "Eventual consistency").
package ec2test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// An Instance is one instance. Its fields are what is true, which reads show a little later.
type Instance struct {
	ID, Image, Type, Zone string
	Architecture          string // x86_64
	State                 string // running, stopped, …
	Reason                string // code of the state reason: Client.UserInitiatedHibernate
	Transition            string // reason of the last one: User initiated (2024-07-19 05:12:33 GMT)
	Platform              string // "windows" or nothing
	Lifecycle             string // spot, scheduled, capacity-block, or nothing
	RootDevice            string // /dev/sda1
	RootType              string // ebs
	Address, MAC          string
	PublicIP, PublicOwner string // "amazon" owns those that change
	TPM                   string // v2.0
	Manager               string // the service that manages it
	Tags                  map[string]string
	ProductCodes          []string
	StopProtected         bool
	Wedged                bool // it stops only when it is forced
	NoCapacity            int  // so many starts are refused
	NoKey                 bool // it cannot use the key of its volume: it starts, and stops again
	Hidden                int  // so many reads do not show it yet

	to         string // the state it goes to
	left       int    // reads until then
	shown, old string // the state that reads show, and showed before
	reads      int
}

// A Volume is one EBS volume.
type Volume struct {
	ID, Zone   string
	Key        string // of KMS, of an encrypted one
	Shared     bool   // Multi-Attach
	Tags       map[string]string
	Attachment Attachment
	Stuck      bool     // it leaves an instance that runs only when it is forced
	Booted     []string // "disk" for each start from it, "helper" for each time it was hung on another instance

	left       int
	shown, old Attachment
	reads      int
}

// An Attachment is where a volume is. The zero value is nowhere.
type Attachment struct {
	Instance, Device, State string // State: attaching, attached, detaching
	DeleteOnTermination     bool
}

// A Snapshot is one of a volume.
type Snapshot struct {
	ID, Volume, Description string
	Tags                    map[string]string
	hidden                  int
}

// A Server is EC2 in one region, with Systems Manager beside it.
type Server struct {
	Region      string
	Key, Secret string // of the only user
	Steps       int    // reads until a change is through; 2 if 0
	Flap        int    // every so many reads show what was before the last change; 0 never
	PageCap     int    // things on a page at most, whatever is asked; 1,000 if 0
	Denied      map[string]bool
	Types       map[string]Type
	HelperRoom  int   // volumes on one instance at most; 27 if 0
	Shell       Shell // runs what Systems Manager is told to; nil: nothing runs, and all succeeds

	mu        sync.Mutex
	instances map[string]*Instance
	volumes   map[string]*Volume
	snapshots map[string]*Snapshot
	pages     map[string]int // by token: where it goes on
	changes   int
	calls     map[string]int
	n         int
	nodes     map[string]Node
	commands  []*Command
	heard     bytes.Buffer // by Systems Manager
}

// A Type is an instance type.
type Type struct {
	Nitro, Store bool // EBS is NVMe; it has instance store volumes
}

// New returns the server of a region, with no instances.
func New(region string) *Server {
	return &Server{Region: region, Key: "AKIDEXAMPLE", Secret: "wJalrXUtnFEMI", Types: map[string]Type{
		"m5.large": {Nitro: true}, "m5d.large": {Nitro: true, Store: true}, "t2.large": {},
	}, instances: map[string]*Instance{}, volumes: map[string]*Volume{}, snapshots: map[string]*Snapshot{}, pages: map[string]int{}, calls: map[string]int{}}
}

// Launch makes an instance that runs, with a root volume, and returns both ids. What in does not
// say is made up.
func (s *Server) Launch(in Instance, root Volume) (instance, volume string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	or := func(field *string, v string) {
		if *field == "" {
			*field = v
		}
	}
	or(&in.ID, fmt.Sprintf("i-%017x", s.n))
	or(&root.ID, fmt.Sprintf("vol-%017x", s.n))
	or(&in.Zone, s.Region+"a")
	or(&in.Type, "m5.large")
	or(&in.Architecture, "x86_64")
	or(&in.Image, "ami-0123456789abcdef0")
	or(&in.State, "running")
	or(&in.RootDevice, "/dev/sda1")
	or(&in.RootType, "ebs")
	or(&in.Address, fmt.Sprintf("10.0.%d.%d", s.n/250, s.n%250+1))
	or(&in.MAC, fmt.Sprintf("02:00:00:00:%02x:%02x", s.n/256, s.n%256))
	in.shown = in.State
	s.instances[in.ID] = &in
	if in.RootType == "ebs" {
		root.Zone = in.Zone
		root.Attachment = Attachment{in.ID, in.RootDevice, "attached", true}
		root.shown = root.Attachment
		s.volumes[root.ID] = &root
	}
	return in.ID, root.ID
}

// Instance returns an instance as it is.
func (s *Server) Instance(id string) Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.instances[id]
}

// Volume returns a volume as it is.
func (s *Server) Volume(id string) Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := *s.volumes[id]
	v.Booted = slices.Clone(v.Booted)
	return v
}

// Instances returns the ids of all instances.
func (s *Server) Instances() []string { s.mu.Lock(); defer s.mu.Unlock(); return sorted(s.instances) }

// Snapshots returns all snapshots.
func (s *Server) Snapshots() (all []Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(s.snapshots)) {
		all = append(all, *s.snapshots[id])
	}
	return all
}

// Set changes an instance and a volume, either of which may be nobody's, behind everybody's back.
func (s *Server) Set(instance, volume string, change func(*Instance, *Volume)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, v := s.instances[instance], s.volumes[volume]
	change(in, v)
	if in != nil {
		in.shown, in.left = in.State, 0
	}
	if v != nil {
		v.shown, v.left = v.Attachment, 0
	}
}

// Changes is how often anything was changed.
func (s *Server) Changes() int { s.mu.Lock(); defer s.mu.Unlock(); return s.changes }

// Calls are the requests so far, by action.
func (s *Server) Calls() map[string]int { s.mu.Lock(); defer s.mu.Unlock(); return maps.Clone(s.calls) }

func (s *Server) steps() int {
	if s.Steps == 0 {
		return 2
	}
	return s.Steps
}

// read shows an instance, and lets its time pass.
func (in *Instance) read(flap int) Instance {
	out := *in
	out.State = in.shown
	if in.reads++; flap > 0 && in.reads%flap == 0 && in.old != "" {
		out.State = in.old
	}
	if in.to != "" {
		if in.left--; in.left <= 0 {
			in.State, in.to = in.to, ""
		}
	}
	if in.shown != in.State {
		in.shown, in.old = in.State, in.shown
	}
	return out
}

// read shows where a volume is, and lets its time pass.
func (v *Volume) read(flap int) Attachment {
	out := v.shown
	if v.reads++; flap > 0 && v.reads%flap == 0 && v.old != (Attachment{}) {
		out = v.old
	}
	if v.left > 0 {
		if v.left--; v.left == 0 {
			switch v.Attachment.State {
			case "attaching":
				v.Attachment.State = "attached"
			case "detaching":
				v.Attachment = Attachment{}
			}
		}
	}
	if v.shown != v.Attachment {
		v.shown, v.old = v.Attachment, v.shown
	}
	return out
}

var _ http.Handler = (*Server)(nil)
