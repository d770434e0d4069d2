// Package azuretest is a server that answers as Azure's Resource Manager does where virtual
// machines, managed disks and snapshots are concerned, and is as strict: what Azure refuses is
// refused with Azure's own codes. Time passes by requests: an operation takes a few of them, and
// some things are shown late.
//
// Each check names what it is from. Documents of learn.microsoft.com are named by their title;
// issues, in which errors are quoted as users got them, by repository and number.
package azuretest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Subscription is the one that there is.
const Subscription = "5ed1bd1e-0000-4000-8000-00000000000a"

// A Cloud is a subscription. It is safe for concurrent use; its resources are added before.
type Cloud struct {
	Takes int // requests that an operation lasts; 2 if 0
	Late  int // requests after which a disk shows that it was let go of; 1 if 0
	Page  int // rows in one answer of a list; 2 if 0

	mu        sync.Mutex
	clock     int
	machines  []*Machine
	disks     []*Disk
	snapshots []*Disk
	locks     []Lock
	works     []*work
	live      []*work // those of them that go on
	actions   int
	booted    map[string][]string
	denied    []string
}

// A Machine is a virtual machine.
type Machine struct {
	Group, Name, Location, Zone string
	VMID                        string
	Tags                        map[string]string
	OSType                      string // Windows if empty
	OSDisk                      Hook
	Data                        []Hook
	Power                       string // running if empty
	State                       string // of provisioning; Succeeded if empty
	Most                        int    // data disks that its size can have; any if 0
	Address, MAC                string // of its network card; it has none if empty

	Properties map[string]any // more of them
	Top        map[string]any // beside them: plan, managedBy, resources

	version int
	work    *work // the operation on it
	fails   func(m *Machine) *Fault
}

// A Hook is how a disk hangs in a machine.
type Hook struct {
	Disk                    string // name, in the machine's group
	Lun                     int
	Caching, Create, Delete string
	Accelerated             bool

	detaching bool
}

// A Disk is a managed disk, or a snapshot of one.
type Disk struct {
	Group, Name, Location, Zone string
	Tags                        map[string]string
	State                       string // Unattached if empty
	Size                        int
	Properties                  map[string]any // more of them

	by     string // resource id of the machine that has it
	made   string // provisioning state
	source string
}

// A Lock is a management lock, ReadOnly or CanNotDelete.
type Lock struct{ Scope, Name, Level string }

// A Fault is an error of Azure.
type Fault struct {
	Status        int
	Code, Message string
}

func fault(status int, code, format string, args ...any) *Fault {
	return &Fault{status, code, fmt.Sprintf(format, args...)}
}

// Add adds resources: *Machine, *Disk, Lock. A machine's disks come before it.
func (c *Cloud) Add(all ...any) *Cloud {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range all {
		switch one := one.(type) {
		case *Machine:
			c.addMachine(one)
		case *Disk:
			one.made = "Succeeded"
			if one.State == "" {
				one.State = "Unattached"
			}
			if one.Size == 0 {
				one.Size = 127
			}
			c.disks = append(c.disks, one)
		case Lock:
			c.locks = append(c.locks, one)
		}
	}
	return c
}

func (c *Cloud) addMachine(m *Machine) {
	for at, usual := range map[*string]string{
		&m.OSType: "Windows", &m.Power: "running", &m.State: "Succeeded",
		&m.OSDisk.Caching: "ReadWrite", &m.OSDisk.Create: "FromImage", &m.OSDisk.Delete: "Detach",
	} {
		if *at == "" {
			*at = usual
		}
	}
	for _, h := range append([]Hook{m.OSDisk}, m.Data...) {
		if d := c.disk(c.disks, m.Group, h.Disk); d != nil {
			d.by, d.State = m.id(), attached(m)
		}
	}
	c.machines = append(c.machines, m)
}

// attached is the state of a disk that a machine has ("Disk State", reference of the REST API).
func attached(m *Machine) string {
	if m.Power == "deallocated" {
		return "Reserved"
	}
	return "Attached"
}

func (m *Machine) id() string {
	return "/subscriptions/" + Subscription + "/resourceGroups/" + m.Group + "/providers/Microsoft.Compute/virtualMachines/" + m.Name
}

func (d *Disk) id(kind string) string {
	return "/subscriptions/" + Subscription + "/resourceGroups/" + d.Group + "/providers/Microsoft.Compute/" + kind + "/" + d.Name
}

func (c *Cloud) machine(group, name string) *Machine {
	for _, m := range c.machines {
		if strings.EqualFold(m.Group, group) && strings.EqualFold(m.Name, name) {
			return m
		}
	}
	return nil
}

func (c *Cloud) disk(among []*Disk, group, name string) *Disk {
	for _, d := range among {
		if strings.EqualFold(d.Group, group) && strings.EqualFold(d.Name, name) {
			return d
		}
	}
	return nil
}

// diskByID finds a disk by its resource id.
func (c *Cloud) diskByID(id string) *Disk {
	for _, d := range c.disks {
		if strings.EqualFold(d.id("disks"), id) {
			return d
		}
	}
	return nil
}

// A work is an operation that goes on.
type work struct {
	name string
	due  int
	done bool
	err  *Fault
	end  func() *Fault
}

// begin begins an operation.
func (c *Cloud) begin(end func() *Fault) *work {
	w := &work{name: fmt.Sprintf("op-%d", len(c.works)+1), due: c.clock + max(c.Takes, 2), end: end}
	c.works, c.live = append(c.works, w), append(c.live, w)
	c.actions++
	return w
}

// after does something some requests later, without anybody asking.
func (c *Cloud) after(n int, do func()) {
	c.live = append(c.live, &work{name: "-", due: c.clock + n, end: func() *Fault { do(); return nil }})
}

// tick lets a request's time pass.
func (c *Cloud) tick() {
	c.clock++
	for _, w := range slices.Clone(c.live) { // an end may begin another
		if w.due <= c.clock {
			w.done = true
			w.err = w.end()
		}
	}
	c.live = slices.DeleteFunc(c.live, func(w *work) bool { return w.done })
}

// Deny takes actions from the account that it would have by its role, for good: what it lacks is
// told to who asks, and refused where a list is read.
func (c *Cloud) Deny(actions ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.denied = append(c.denied, actions...)
}

// Actions is how often anything was changed.
func (c *Cloud) Actions() int { c.mu.Lock(); defer c.mu.Unlock(); return c.actions }

// Booted returns what became of a disk: "helper" each time it was attached to a machine as data,
// "disk" each time one was started with it.
func (c *Cloud) Booted(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.booted[name])
}

func (c *Cloud) boots(name, what string) {
	if c.booted == nil {
		c.booted = map[string][]string{}
	}
	c.booted[name] = append(c.booted[name], what)
}

// Change changes a machine, by its name.
func (c *Cloud) Change(name string, change func(m *Machine)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.machines {
		if m.Name == name {
			change(m)
			m.version++
		}
	}
}

// ChangeDisk changes a disk, by its name.
func (c *Cloud) ChangeDisk(name string, change func(d *Disk)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.disks {
		if d.Name == name {
			change(d)
		}
	}
}

// Machine returns a machine as it is, by its name.
func (c *Cloud) Machine(name string) (m Machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.machines {
		if one.Name == name {
			m = *one
			m.Data = slices.Clone(one.Data)
		}
	}
	return m
}

// Reattach has a machine hold a disk that it shows among its own: for one that was renamed.
func (c *Cloud) Reattach(machine, disk string) {
	c.Change(machine, func(m *Machine) {
		for _, d := range c.disks {
			if d.Name == disk {
				d.by = m.id()
			}
		}
	})
}

// OnWork has operations on a machine begin, and then end with the fault that fails returns.
func (c *Cloud) OnWork(name string, fails func(m *Machine) *Fault) {
	if fails == nil { // called by fails itself
		for _, m := range c.machines {
			if m.Name == name {
				m.fails = nil
			}
		}
		return
	}
	c.Change(name, func(m *Machine) { m.fails = fails })
}

// Settle lets all that goes on come to its end.
func (c *Cloud) Settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range 20 {
		c.tick()
	}
}

// Inventory says how everything stands, in lines that can be compared: machines, disks, and
// the snapshots' names.
func (c *Cloud) Inventory() (resources []string, snapshots []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.machines {
		resources = append(resources, fmt.Sprintf("machine %s: %s, %s, tags %v, OS disk %+v, data disks %+v", m.Name, m.Power, m.State, m.Tags, m.OSDisk, m.Data))
	}
	for _, d := range c.disks {
		resources = append(resources, fmt.Sprintf("disk %s: %s by %q, tags %v", d.Name, d.State, d.by, d.Tags))
	}
	for _, s := range c.snapshots {
		snapshots = append(snapshots, s.Name)
	}
	return resources, snapshots
}

// ServeHTTP implements http.Handler.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tick()
	answer, f := c.answer(r)
	if f != nil {
		answer = &reply{status: f.Status, body: object{"error": object{"code": f.Code, "message": f.Message}}}
	}
	answer.write(w, r)
}
