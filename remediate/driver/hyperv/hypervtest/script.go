package hypervtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Run runs a script, and returns what it prints and the error that ended it.
func (s *Server) Run(script string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.denied {
		return "", fmt.Errorf("You do not have the required permission to complete this task. Contact the administrator of the authorization policy for the computer '%s'.", s.computer)
	}
	if lines := strings.SplitN(script, "\r\n", 3); len(lines) == 3 && strings.HasPrefix(lines[2], reads) {
		id, file := given.FindStringSubmatch(lines[0]), given.FindStringSubmatch(lines[1])
		if id == nil || file == nil || id[1] != "id" || file[1] != "copy" {
			return "", errors.New("the stand-in does not know what the script is given")
		}
		return s.read(lines[2], unquote(id[2]), unquote(file[2]))
	}
	if strings.HasPrefix(script, lists) {
		return s.list(script)
	}
	r := run{server: s}
	for _, line := range strings.Split(strings.TrimSuffix(script, "\r\n"), "\r\n") {
		if err := r.line(line); err != nil {
			return "", err
		}
	}
	return "", nil
}

// literal is a text in single quotes, each quote in it doubled.
const literal = `'((?:[^'\x{2018}-\x{201b}\r\n]|''|\x{2018}\x{2018}|\x{2019}\x{2019}|\x{201a}\x{201a}|\x{201b}\x{201b})*)'`

func unquote(text string) string {
	return strings.NewReplacer("''", "'", "\u2018\u2018", "\u2018", "\u2019\u2019", "\u2019", "\u201a\u201a", "\u201a", "\u201b\u201b", "\u201b").Replace(text)
}

// How scripts begin that only read: one reads how all stands, one which virtual machines there
// are.
const (
	reads = "# Says how a hypervisor stands, and changes nothing."
	lists = "# Lists the virtual machines of a hypervisor."
)

var (
	given   = line(`\$(id|copy) = ` + literal)
	cmdlets = regexp.MustCompile(`\b[A-Z][A-Za-z]+-[A-Z][A-Za-z]+\b`)
)

// readers are the cmdlets that a script which only reads may use.
var readers = []string{
	"Get-VM", "Get-VMHardDiskDrive", "Get-VMDvdDrive", "Get-VMScsiController", "Get-VMFirmware", "Get-VMSecurity", "Get-VMSnapshot",
	"Get-VMNetworkAdapter", "Get-CimInstance", "Get-Command", "ForEach-Object", "Where-Object", "ConvertTo-Json", "Test-Path",
}

type object = map[string]any

// check refuses a script that is to read and does more.
func (s *Server) check(script string) error {
	if slices.Contains(s.known, script) { // it was looked through
		return nil
	}
	for _, name := range cmdlets.FindAllString(script, -1) {
		if !slices.Contains(readers, name) {
			return fmt.Errorf("a script that reads uses %s", name)
		}
	}
	s.known = append(s.known, script)
	return nil
}

// answer is what a script prints that reads.
func answer(o object) (string, error) {
	b, err := json.Marshal(o)
	return "unbrick:" + base64.StdEncoding.EncodeToString(b) + ":unbrick\r\n", err
}

// list answers the script that lists virtual machines.
func (s *Server) list(script string) (string, error) {
	if err := s.check(script); err != nil {
		return "", err
	}
	vms := []object{}
	for _, v := range s.vms {
		vms = append(vms, object{"id": v.ID, "name": v.Name, "state": v.shown(), "notes": "", "heartbeat": "", "uuid": v.UUID, "serial": v.Serial,
			"clustered": v.Clustered, "macs": append([]string{}, v.MACs...)})
	}
	return answer(object{"computer": s.computer, "vms": vms})
}

// read answers the script that reads how all stands.
func (s *Server) read(script, id, file string) (string, error) {
	if err := s.check(script); err != nil {
		return "", err
	}
	vms := []object{}
	var detail object
	for _, v := range s.vms {
		drives := []object{}
		for _, d := range v.Drives {
			drives = append(drives, object{"type": d.Type, "number": d.Number, "location": d.Location, "path": d.Path, "disk": d.Disk,
				"reservations": d.Reservations, "max": strconv.Itoa(d.Max), "min": strconv.Itoa(d.Min), "qos": d.QoS})
		}
		vms = append(vms, object{"id": v.ID, "name": v.Name, "state": v.shown(), "generation": v.Generation, "clustered": v.Clustered,
			"replication": v.Replication, "scsi": v.SCSI, "drives": drives, "dvds": append([]int{}, v.DVDs...)})
		if strings.EqualFold(v.ID, id) {
			boot := []object{}
			for _, e := range v.Boot {
				boot = append(boot, object{"kind": e.Kind, "key": e.Key})
			}
			detail = object{"checkpoints": v.Checkpoints, "shielded": v.Shielded, "tpm": v.TPM, "boot": boot, "copy": s.files[strings.ToLower(file)]}
		}
	}
	return answer(object{"computer": s.computer, "vms": vms, "detail": detail})
}

// shown is the state that a VM shows: one in between for a while.
func (v *VM) shown() string {
	if v.passing == 0 {
		return v.State
	}
	v.passing--
	if v.State == "Off" {
		return "Stopping"
	}
	return "Starting"
}

// A run is a script at work: its variables.
type run struct {
	server *Server
	vm     *VM
	disk   *Drive
	boot   []Entry
}

const place = ` -ControllerType (IDE|SCSI) -ControllerNumber (\d+) -ControllerLocation (\d+)`

// line runs one line, in the one form that it may have.
func (r *run) line(text string) error {
	for _, f := range forms {
		m := f.form.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		if r.vm == nil && !strings.HasPrefix(text, "$vm = ") {
			return errors.New("Cannot validate argument on parameter 'VM'. The argument is null.")
		}
		if f.changes {
			r.server.actions++
		}
		return f.do(r, m)
	}
	return fmt.Errorf("the stand-in does not know the line: %s", text)
}

func thrown(wrong bool, text string) error {
	if wrong {
		return errors.New(unquote(text))
	}
	return nil
}

func driveAt(m []string) Drive {
	number, _ := strconv.Atoi(m[2])
	location, _ := strconv.Atoi(m[3])
	return Drive{Type: m[1], Number: number, Location: location}
}

// A form is one that a line may have.
type form struct {
	form    *regexp.Regexp
	changes bool
	do      func(r *run, m []string) error
}

func line(form string) *regexp.Regexp { return regexp.MustCompile("^" + form + "$") }

var forms = []form{
	{line(`\$vm = Get-VM -Id ` + literal), false, (*run).find},
	{line(`if \(\[string\]\$vm\.State -ne 'Off'\) \{ throw ` + literal + ` \}`), false, func(r *run, m []string) error { return thrown(r.vm.State != "Off", m[1]) }},
	{line(`if \(@\(Get-VM \| Get-VMHardDiskDrive \| Where-Object \{ \$_\.Path -eq ` + literal + ` \}\)\.Count -gt 0\) \{ throw ` + literal + ` \}`), false,
		func(r *run, m []string) error {
			return thrown(r.server.having(unquote(m[1]), nil, false) != nil, m[2])
		}},
	{line(`Stop-VM -VM \$vm -TurnOff -Force`), true, func(r *run, _ []string) error {
		if r.vm.State != "Off" {
			r.vm.State, r.vm.passing = "Off", 1
		}
		return nil
	}},
	{line(`Start-VM -VM \$vm`), true, func(r *run, _ []string) error { return r.server.start(r.vm) }},
	{line(`\$disk = Get-VMHardDiskDrive -VM \$vm` + place), false, (*run).get},
	{line(`if \(\$disk\.Path -ne ` + literal + `\) \{ throw ` + literal + ` \}`), false, func(r *run, m []string) error {
		return thrown(r.disk == nil || !strings.EqualFold(r.disk.Path, unquote(m[1])), m[2])
	}},
	{line(`Remove-VMHardDiskDrive -VMHardDiskDrive \$disk`), true, func(r *run, _ []string) error { return r.server.remove(r.vm, *r.disk) }},
	{line(`Add-VMHardDiskDrive -VM \$vm` + place + ` -Path ` + literal), true, func(r *run, m []string) error {
		d := driveAt(m)
		d.Path = unquote(m[4])
		return r.server.add(r.vm, d)
	}},
	{line(`Set-VMHardDiskDrive -VMHardDiskDrive \$disk(?: -MaximumIOPS (\d+))?(?: -MinimumIOPS (\d+))?(?: -QoSPolicyID ` + literal + `)?`), true, (*run).limit},
	{line(`\$boot = @\(\(Get-VMFirmware -VM \$vm\)\.BootOrder\)`), false, (*run).order},
	{line(`if \(\$boot\.Count -ne (\d+)\) \{ throw ` + literal + ` \}`), false, func(r *run, m []string) error { return thrown(m[1] != strconv.Itoa(len(r.boot)), m[2]) }},
	{line(`Set-VMFirmware -VM \$vm -BootOrder ((?:\$boot\[\d+\],?)+)`), true, (*run).reorder},
	{line(`Copy-Item -LiteralPath ` + literal + ` -Destination ` + literal + ` -Force`), true, (*run).copy},
	{line(`Move-Item -LiteralPath ` + literal + ` -Destination ` + literal + ` -Force`), true, (*run).move},
}

func (r *run) find(m []string) error {
	for _, v := range r.server.vms {
		if strings.EqualFold(v.ID, m[1]) {
			r.vm = v
			return nil
		}
	}
	return fmt.Errorf("Hyper-V was unable to find a virtual machine with id \"%s\".", m[1])
}

func (r *run) get(m []string) error {
	r.disk = nil
	for i := range r.vm.Drives {
		if r.vm.Drives[i].place() == driveAt(m).place() {
			r.disk = &r.vm.Drives[i]
		}
	}
	return nil
}

func (r *run) limit(m []string) error {
	if r.disk == nil {
		return errors.New("Cannot validate argument on parameter 'VMHardDiskDrive'. The argument is null.")
	}
	r.disk.Max, _ = strconv.Atoi("0" + m[1])
	r.disk.Min, _ = strconv.Atoi("0" + m[2])
	if m[3] != "" {
		r.disk.QoS = unquote(m[3])
	}
	return nil
}

func (r *run) order([]string) error {
	if r.vm.Generation != 2 {
		return errors.New("The operation cannot be performed: the virtual machine is not of generation 2.")
	}
	r.boot = slices.Clone(r.vm.Boot)
	return nil
}

func (r *run) reorder(m []string) error {
	var order []Entry
	for _, item := range strings.Split(m[1], ",") {
		i, err := strconv.Atoi(strings.Trim(item, "$bot[]"))
		if err != nil || i >= len(r.boot) || slices.Contains(order, r.boot[i]) {
			return errors.New("The boot order contains a device that does not exist or is there twice.")
		}
		order = append(order, r.boot[i])
	}
	if r.vm.bootFails > 0 {
		r.vm.bootFails--
		return errors.New("Failed to modify device settings.")
	}
	r.vm.Boot = order
	return nil
}

func (r *run) copy(m []string) error {
	from, to := strings.ToLower(unquote(m[1])), strings.ToLower(unquote(m[2]))
	switch {
	case !r.server.files[from]:
		return fmt.Errorf("Cannot find path '%s' because it does not exist.", unquote(m[1]))
	case r.server.full:
		return errors.New("There is not enough space on the disk.")
	case r.server.having(unquote(m[1]), nil, true) != nil:
		return errors.New("The process cannot access the file because it is being used by another process.")
	}
	r.server.files[to] = true
	return nil
}

func (r *run) move(m []string) error {
	from, to := strings.ToLower(unquote(m[1])), strings.ToLower(unquote(m[2]))
	if !r.server.files[from] {
		return fmt.Errorf("Cannot find path '%s' because it does not exist.", unquote(m[1]))
	}
	delete(r.server.files, from)
	r.server.files[to] = true
	return nil
}
