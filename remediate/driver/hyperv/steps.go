package hyperv

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"unbrick/remediate/swap"
)

// Do implements swap.Instance. A script does its step before it ends; one that is cut off has
// done it or not, and Look tells.
func (in *instance) Do(ctx context.Context, step swap.Step, e swap.Entry, helper string) error {
	switch step {
	case swap.Stop:
		return in.change(ctx, "cannot stop "+in.at.vm, in.id, "Stop-VM -VM $vm -TurnOff -Force")
	case swap.Start:
		return in.change(ctx, "cannot start "+in.at.vm, in.id, "Start-VM -VM $vm")
	case swap.Snap:
		return in.snap(ctx, e)
	case swap.Release:
		return in.remove(ctx, e, in.id, "cannot take the disk off "+in.at.vm)
	case swap.Return:
		return in.giveBack(ctx, e)
	case swap.Lend:
		return in.lend(ctx, e, helper)
	case swap.Recover:
		id, err := in.helper(ctx, helper)
		if err != nil {
			return err
		}
		return in.remove(ctx, e, id.ID, "cannot take the disk off the helper "+helper)
	}
	return fmt.Errorf("Hyper-V knows no step %q", step)
}

// change runs lines that change one virtual machine, $vm. Each text in them is quoted.
func (in *instance) change(ctx context.Context, what, id string, lines ...string) error {
	lines = append([]string{"$vm = Get-VM -Id " + quote(id)}, lines...)
	_, err := in.run(ctx, in.at.host, strings.Join(lines, "\r\n")+"\r\n")
	return in.say(what, err)
}

// Lines that make sure, on the hypervisor, of what was looked at from here: a script that a
// lost connection left behind may begin late.
const isOff = "if ([string]$vm.State -ne 'Off') { throw 'it is not off' }"

func nobodyHas(file string) string {
	return "if (@(Get-VM | Get-VMHardDiskDrive | Where-Object { $_.Path -eq " + quote(file) + " }).Count -gt 0) { throw 'a virtual machine has the disk' }"
}

// where are the parameters that name a place.
func (d drive) where() string {
	return fmt.Sprintf("-ControllerType %s -ControllerNumber %d -ControllerLocation %d", d.Type, d.Number, d.Location)
}

// remove takes the disk off a virtual machine, if it is still that disk which hangs there.
func (in *instance) remove(ctx context.Context, e swap.Entry, id, what string) error {
	s, err := in.read(ctx, "")
	if err != nil {
		return err
	}
	for _, m := range s.VMs {
		d, ok := m.find(e.Slot.Volume)
		if !strings.EqualFold(m.ID, id) || !ok {
			continue
		}
		var off []string
		if id == in.id { // from one that runs, Hyper-V would tear it
			off = []string{isOff}
		}
		return in.change(ctx, what, id, append(off,
			"$disk = Get-VMHardDiskDrive -VM $vm "+d.where(),
			"if ($disk.Path -ne "+quote(d.Path)+") { throw 'another disk hangs there now' }",
			"Remove-VMHardDiskDrive -VMHardDiskDrive $disk")...)
	}
	return nil
}

// helper returns the helper of a name.
func (in *instance) helper(ctx context.Context, called string) (machine, error) {
	s, err := in.read(ctx, "")
	if err != nil {
		return machine{}, err
	}
	for _, m := range s.VMs {
		if in.isHelper(m) && s.called(m) == called {
			return m, nil
		}
	}
	return machine{}, fmt.Errorf("the helper %s is not on hypervisor %s any more", called, in.at.host)
}

// lend hangs the disk on the helper. Two that take the same place at once cannot both have it.
func (in *instance) lend(ctx context.Context, e swap.Entry, called string) error {
	was, err := readRecord(e.Slot)
	if err != nil {
		return err
	}
	if err := in.takeOff(ctx, e); err != nil {
		return err
	}
	var last error
	for range 5 {
		m, err := in.helper(ctx, called)
		if err != nil {
			return err
		}
		if _, ok := m.find(e.Slot.Volume); ok {
			return nil
		}
		to, ok := m.free()
		if !ok {
			return fmt.Errorf("the helper %s has no room for another disk: lower per_helper, or make another helper", called)
		}
		last = in.change(ctx, "cannot hang "+was.Drive.Path+" on the helper "+called, m.ID, nobodyHas(was.Drive.Path), "Add-VMHardDiskDrive -VM $vm "+to.where()+" -Path "+quote(was.Drive.Path))
		if last == nil || ctx.Err() != nil || !in.taken(ctx, called, to) {
			return last
		}
	}
	return last
}

// takeOff takes the disk off the virtual machine, where it is on its way back.
func (in *instance) takeOff(ctx context.Context, e swap.Entry) error {
	s, err := in.read(ctx, copyOf(e))
	if err != nil {
		return err
	}
	m, err := s.machine(in)
	if err != nil {
		return err
	}
	if _, ok := m.find(e.Slot.Volume); !ok {
		return nil
	}
	if e.Snapshot && s.Detail != nil && !s.Detail.Copy {
		if err := in.snap(ctx, e); err != nil {
			return err
		}
	}
	return in.remove(ctx, e, in.id, "cannot take the disk off "+m.Name)
}

// taken says whether another disk has a place on the helper now.
func (in *instance) taken(ctx context.Context, called string, to drive) bool {
	m, err := in.helper(ctx, called)
	_, ok := m.at(to.place())
	return err == nil && ok
}

// free returns a place on the first SCSI controller whose number no drive of the helper has on
// any controller: the agent there sees the number alone.
func (m machine) free() (drive, bool) {
	for n := 1; n < 64; n++ {
		if !slices.Contains(m.DVDs, n) && !slices.ContainsFunc(m.Drives, func(d drive) bool { return d.Location == n }) {
			return drive{Type: "SCSI", Location: n}, true
		}
	}
	return drive{}, false
}

// copyOf is where the copy of a disk is put. A checkpoint would make the disk a chain of files.
func copyOf(e swap.Entry) string { return e.Slot.Volume + "." + e.Mark + ".copy" }

// snap copies the disk, beside it, while the virtual machine is off. A copy that was cut off
// has another name, and is made again.
func (in *instance) snap(ctx context.Context, e swap.Entry) error {
	to := copyOf(e)
	return in.change(ctx, "cannot copy the disk of "+in.at.vm+" (is there room on its volume, and may the account write there?)", in.id,
		isOff,
		"Copy-Item -LiteralPath "+quote(e.Slot.Volume)+" -Destination "+quote(to+".part")+" -Force",
		"Move-Item -LiteralPath "+quote(to+".part")+" -Destination "+quote(to)+" -Force")
}

// Removal returns the command that removes the copy of an entry, on the hypervisor.
func Removal(e swap.Entry) string {
	if !e.Snapshot || e.Slot.Volume == "" {
		return ""
	}
	return "Remove-Item -LiteralPath " + quote(copyOf(e))
}
