// Package hypervtest is a hypervisor that takes PowerShell scripts, without PowerShell or
// Hyper-V: for tests of those who write such scripts.
//
// It understands lines of cmdlets of the Hyper-V module, each with the parameters that its
// documentation names (learn.microsoft.com/powershell/module/hyper-v) and in one form alone,
// and refuses every other line. Of scripts that only read, it makes sure that they use cmdlets
// that read, and answers as read.ps1 of remediate/driver/hyperv and list.ps1 of
// inventory/source/hyperv would.
package hypervtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A VM is a virtual machine.
type VM struct {
	ID, Name    string
	State       string // Off, Running, Saved, …
	Generation  int
	Clustered   bool
	Replication string
	SCSI        int // controllers
	Drives      []Drive
	DVDs        []int
	Boot        []Entry // of generation 2
	Checkpoints int
	Shielded    bool
	TPM         bool
	UUID        string // of its BIOS
	Serial      string
	MACs        []string // as Hyper-V writes them: twelve digits

	bootFails int
	passing   int // looks for which it shows a state in between
}

// A Drive is one of a VM.
type Drive struct {
	Type             string
	Number, Location int
	Path, Disk       string
	Reservations     bool
	Max, Min         int
	QoS              string
}

// An Entry is one of an order of boot.
type Entry struct{ Kind, Key string }

// A Server is a hypervisor. Use New.
type Server struct {
	computer string

	mu      sync.Mutex
	vms     []*VM
	files   map[string]bool // lower case
	denied  bool
	full    bool
	events  map[string][]string
	wrong   []string
	actions int
	known   []string // scripts that only read
}

// New returns a hypervisor of that computer name.
func New(computer string) *Server {
	return &Server{computer: computer, files: map[string]bool{}, events: map[string][]string{}}
}

// Add adds a VM, with the files of its drives.
func (s *Server) Add(v VM) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.Drives, v.Boot = slices.Clone(v.Drives), slices.Clone(v.Boot)
	for _, d := range v.Drives {
		s.files[strings.ToLower(d.Path)] = true
	}
	s.vms = append(s.vms, &v)
}

// Change changes a VM as somebody else does.
func (s *Server) Change(name string, change func(*VM)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.vms {
		if v.Name == name {
			change(v)
		}
	}
}

// Shown is a VM as it stands, to compare with.
func (s *Server) Shown(name string) (text string) {
	s.Change(name, func(v *VM) {
		w := *v
		w.passing = 0
		w.Drives = slices.Clone(v.Drives)
		slices.SortFunc(w.Drives, func(a, b Drive) int { return strings.Compare(a.place(), b.place()) })
		text = fmt.Sprintf("%+v", w)
	})
	return text
}

// Deny has every cmdlet of Hyper-V refused: the account is in no group that may use them.
func (s *Server) Deny() { s.mu.Lock(); s.denied = true; s.mu.Unlock() }

// FailBoot has the next change of a VM's order of boot fail.
func (s *Server) FailBoot(name string) { s.Change(name, func(v *VM) { v.bootFails++ }) }

// Fill leaves no room for copies.
func (s *Server) Fill() { s.mu.Lock(); s.full = true; s.mu.Unlock() }

// Has says whether there is a file.
func (s *Server) Has(file string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[strings.ToLower(file)]
}

// Copies returns how many copies of disks there are.
func (s *Server) Copies() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for file := range s.files {
		if strings.HasSuffix(file, ".copy") {
			n++
		}
	}
	return n
}

// Events returns what became of a disk: "added to NAME" while that ran, "started with NAME".
func (s *Server) Events(file string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events[strings.ToLower(file)])
}

// Actions is how many cmdlets changed something.
func (s *Server) Actions() int { s.mu.Lock(); defer s.mu.Unlock(); return s.actions }

// Wrong says what should not have happened: a disk on two VMs at once.
func (s *Server) Wrong() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.wrong) }

func (d Drive) place() string { return fmt.Sprintf("%s:%d:%d", d.Type, d.Number, d.Location) }

// having returns a VM other than v that has a file: one that runs, if only these are meant.
func (s *Server) having(file string, v *VM, running bool) *VM {
	for _, other := range s.vms {
		if other == v || running && other.State != "Running" {
			continue
		}
		if slices.ContainsFunc(other.Drives, func(d Drive) bool { return strings.EqualFold(d.Path, file) }) {
			return other
		}
	}
	return nil
}

func (s *Server) happened(file, what string) {
	s.events[strings.ToLower(file)] = append(s.events[strings.ToLower(file)], what)
}

// start is Start-VM. One that runs it only warns of.
func (s *Server) start(v *VM) error {
	if v.State == "Running" {
		return nil
	}
	for _, d := range v.Drives {
		if s.having(d.Path, v, true) != nil {
			return fmt.Errorf("'%s' failed to start. Attachment '%s' cannot be opened: The process cannot access the file because it is being used by another process. (0x80070020)", v.Name, d.Path)
		}
		if d.Disk == "" && !s.files[strings.ToLower(d.Path)] {
			return fmt.Errorf("'%s' failed to start. Attachment '%s' cannot be opened: The system cannot find the file specified. (0x80070002)", v.Name, d.Path)
		}
	}
	v.State, v.passing = "Running", 1
	for _, d := range v.Drives {
		s.happened(d.Path, "started with "+v.Name)
	}
	return nil
}

// add is Add-VMHardDiskDrive.
func (s *Server) add(v *VM, d Drive) error {
	switch {
	case d.Type == "SCSI" && d.Number >= v.SCSI || d.Type == "IDE" && v.Generation == 2:
		return fmt.Errorf("a controller could not be found for the specified values")
	case d.Type == "IDE" && v.State != "Off":
		return fmt.Errorf("'%s' failed to add device 'Virtual Hard Disk': the operation cannot be performed while the virtual machine is in its current state", v.Name)
	case slices.Contains(v.DVDs, d.Location) || slices.ContainsFunc(v.Drives, func(o Drive) bool { return o.place() == d.place() }):
		return fmt.Errorf("the specified location is already in use by disk on the controller %s %d at location %d", d.Type, d.Number, d.Location)
	case !s.files[strings.ToLower(d.Path)]:
		return fmt.Errorf("cannot attach '%s': the system cannot find the file specified", d.Path)
	case s.having(d.Path, v, true) != nil:
		return fmt.Errorf("failed to add device 'Virtual Hard Disk': '%s' is being used by another process (0x80070020)", d.Path)
	}
	v.Drives = append(v.Drives, d)
	if v.Generation == 2 { // a new drive boots last
		v.Boot = append(v.Boot, Entry{"Drive", d.place()})
	}
	if v.State == "Running" {
		s.happened(d.Path, "added to "+v.Name)
	}
	if other := s.having(d.Path, v, false); other != nil {
		s.wrong = append(s.wrong, fmt.Sprintf("%s is on %s and %s at once", d.Path, v.Name, other.Name))
	}
	return nil
}

// remove is Remove-VMHardDiskDrive.
func (s *Server) remove(v *VM, d Drive) error {
	if d.Type == "IDE" && v.State != "Off" {
		return fmt.Errorf("'%s' failed to remove device 'Virtual Hard Disk': the operation cannot be performed while the virtual machine is in its current state", v.Name)
	}
	if d.Type == "SCSI" && v.State == "Running" && v.Boot != nil && len(v.Boot) > 0 && v.Boot[0].Key == d.place() {
		s.wrong = append(s.wrong, "the disk that "+v.Name+" runs from was torn from it")
	}
	v.Drives = slices.DeleteFunc(v.Drives, func(o Drive) bool { return o.place() == d.place() })
	v.Boot = slices.DeleteFunc(v.Boot, func(e Entry) bool { return e == Entry{"Drive", d.place()} })
	return nil
}
