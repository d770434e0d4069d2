// Package hyperv swaps the disks of virtual machines of Hyper-V, by PowerShell on the hypervisor:
// see package swap for the order of things.
//
// # How a disk is taken off and put back
//
// The drive is removed from the virtual machine, which is off, and the same file is added to the
// helper, which runs on the same hypervisor, on a place of its SCSI controller that no disk of
// it has. Later it is added again at its own controller and location, with its limits, and the
// order of boot of generation 2, from which Hyper-V strikes a drive that is removed, is made
// what it was. What stays different is one entry in the list of who may open the file: that of
// the helper, which Hyper-V adds and does not take away.
//
// # By what the helper's agent knows the disk
//
// By its place: "lun:5", the location on the SCSI controller, which Linux shows as the LUN.
// Hyper-V shows no serial number that could be set. Each disk has an identifier of its own (VPD
// page 83, from the VHDX), but all that were copied from one file have the same one. A place
// means something on one helper alone, so a helper is called COMPUTER/NAME: by that name its
// credential has to be made.
//
// # Rights
//
// On each hypervisor an account in Hyper-V Administrators and Remote Management Users; for
// copies (snapshots) it also has to read and write where the disks are. Disks on a share
// (\\server\…) need constrained delegation from the hypervisor to the server (cifs), as the
// Hyper-V manager needs it.
//
// # What was proved, and what was not
//
// All of it against the stand-in of hypervtest, through WinRM; none of it against a real
// PowerShell or Hyper-V. Of the script that only reads, the stand-in knows the text and plays
// the answer; of the lines that change something, it takes each cmdlet and parameter as the
// documentation of the Hyper-V module has them, and nothing else.
package hyperv

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"unbrick/remediate"
	"unbrick/remediate/swap"
	"unbrick/remediate/winrm"
)

// A Runner runs a PowerShell script on a hypervisor and returns what it printed. winrm.Runner
// is one.
type Runner interface {
	Run(ctx context.Context, host, script string) (stdout string, err error)
}

// Options say how hypervisors are reached, and which virtual machines are helpers.
type Options struct {
	Runner  Runner
	Helpers []string // names; "unbrick-helper" if empty
	AtOnce  int      // scripts on one hypervisor at once; 4 if 0
}

// New returns the platform. It reaches no hypervisor.
func New(o Options) swap.Platform {
	if len(o.Helpers) == 0 {
		o.Helpers = []string{"unbrick-helper"}
	}
	if o.AtOnce <= 0 {
		o.AtOnce = 4
	}
	return &platform{opt: o}
}

type platform struct {
	opt Options

	mu   sync.Mutex
	busy map[string]chan struct{} // by hypervisor: one for each script at work
}

// run runs a script on a hypervisor, when its turn has come.
func (p *platform) run(ctx context.Context, host, script string) (string, error) {
	p.mu.Lock()
	if p.busy == nil {
		p.busy = map[string]chan struct{}{}
	}
	turn := p.busy[strings.ToLower(host)]
	if turn == nil {
		turn = make(chan struct{}, p.opt.AtOnce)
		p.busy[strings.ToLower(host)] = turn
	}
	p.mu.Unlock()
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	return p.opt.Runner.Run(ctx, host, script)
}

// Reach implements swap.Platform.
func (p *platform) Reach(ctx context.Context, t remediate.Target) (swap.Instance, error) {
	a, err := parseAddress(t.Route.Address)
	if err != nil {
		return nil, err
	}
	in := &instance{platform: p, at: a}
	site, err := in.read(ctx, "")
	if err != nil {
		return nil, err
	}
	var found []machine
	for _, m := range site.VMs {
		if strings.EqualFold(m.ID, a.vm) || strings.EqualFold(m.Name, a.vm) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("hypervisor %s has no virtual machine %q: was it moved to another one, or may the account not see it? correct the address of the route, or put the account into Hyper-V Administrators", a.host, a.vm)
	case 1:
		in.id = strings.ToLower(found[0].ID)
		return in, nil
	}
	return nil, fmt.Errorf("hypervisor %s has %d virtual machines called %q: name the one that is meant by its id ((Get-VM -Name NAME).Id)", a.host, len(found), a.vm)
}

// An instance is a virtual machine during one call.
type instance struct {
	*platform
	at address
	id string

	place int // of its disk on the helper, if Look saw it there; 0: it did not
}

var _ swap.Marker = (*instance)(nil)

// ID implements swap.Instance. The id of a virtual machine goes along when it moves.
func (in *instance) ID() string { return "hyperv " + in.id }

// Close implements swap.Instance.
func (in *instance) Close() error { return nil }

// Mark implements swap.Marker.
func (in *instance) Mark(swap.Entry) string {
	if in.place == 0 {
		return ""
	}
	return fmt.Sprintf("lun:%d", in.place)
}

// Look implements swap.Instance.
func (in *instance) Look(ctx context.Context, e swap.Entry) (swap.State, error) {
	in.place = 0
	copied := ""
	if e.Snapshot && e.Slot.Volume != "" {
		copied = copyOf(e)
	}
	s, err := in.read(ctx, copied)
	if err != nil {
		return swap.State{}, err
	}
	m, err := s.machine(in)
	if err != nil {
		return swap.State{}, err
	}
	state := swap.State{Power: m.power(), Volume: swap.Own}
	if e.Slot.Volume == "" {
		return state, nil
	}
	if _, ok := m.find(e.Slot.Volume); ok {
		state.Snapshot = s.Detail != nil && s.Detail.Copy
		if was, err := readRecord(e.Slot); err == nil && state.Power == swap.Off && s.Detail != nil && was.same(m, *s.Detail) != nil {
			state.Volume = swap.Free // it was hung back, and that was cut off
		}
		return state, nil
	}
	state.Volume = swap.Free
	for _, other := range s.VMs {
		d, ok := other.find(e.Slot.Volume)
		if !ok {
			continue
		}
		state.Volume, state.On = swap.Elsewhere, other.Name
		if in.isHelper(other) {
			state.Volume, state.On, in.place = swap.Lent, s.called(other), d.Location
		}
	}
	return state, nil
}

func (in *instance) isHelper(m machine) bool {
	return !strings.EqualFold(m.ID, in.id) && slices.ContainsFunc(in.opt.Helpers, func(h string) bool { return strings.EqualFold(h, m.Name) })
}

// called is the name of a helper among those of all hypervisors.
func (s site) called(m machine) string { return s.Computer + "/" + m.Name }

// Helpers implements swap.Instance. What hangs on a helper beside its own first disk counts as
// lent: Hyper-V does not show who hung it there.
func (in *instance) Helpers(ctx context.Context) (all []swap.Helper, err error) {
	s, err := in.read(ctx, "")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, m := range s.VMs {
		if !in.isHelper(m) {
			continue
		}
		if seen[strings.ToLower(m.Name)] {
			return nil, fmt.Errorf("hypervisor %s has two helpers called %q: give each a name of its own", in.at.host, m.Name)
		}
		seen[strings.ToLower(m.Name)] = true
		if m.power() != swap.On {
			continue
		}
		if m.SCSI == 0 {
			return nil, fmt.Errorf("the helper %s has no SCSI controller\nStop-VM, Add-VMScsiController -VMName %s, Start-VM", s.called(m), quote(m.Name))
		}
		all = append(all, swap.Helper{Name: s.called(m), Lent: max(len(m.Drives)-1, 0)})
	}
	return all, nil
}

// say wraps an error of a script. What may pass by itself is a *remediate.RetryError.
func (in *instance) say(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s on hypervisor %s: %w", what, in.at.host, err)
	var lost *winrm.LostError
	var fault *winrm.FaultError
	if errors.As(err, &lost) || errors.As(err, &fault) && (fault.Busy() || fault.ShellGone()) {
		return &remediate.RetryError{After: 10 * time.Second, Err: err}
	}
	return err
}
